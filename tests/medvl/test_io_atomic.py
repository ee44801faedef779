"""Files are whole or absent, however many write them and wherever they stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import medvl
from medvl.io.atomic import DRAFTS, replacing, sweep, write_text

ROOT = Path(medvl.__file__).resolve().parent.parent


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "x.txt", ["ol", "d"])

    def parts() -> list[str]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_text(path, (part for _ in range(1) for part in parts()))
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_until_the_end_nobody_sees_the_new_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.txt", ["old"])
    with replacing(path) as one, replacing(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert path.read_text() == "old"
        assert sorted(tmp_path.glob(DRAFTS)) == sorted([one, two])
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, time
from pathlib import Path
from medvl.io.atomic import replacing

with replacing(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    print(draft, flush=True)
    time.sleep(600)
"""


def test_the_draft_of_a_killed_writer_goes_at_once_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    begun = [sys.executable, "-c", WRITER, str(tmp_path / "x.txt")]
    writers = [subprocess.Popen(begun, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    try:
        drafts = [Path((one.stdout or sys.stdin).readline().strip()) for one in writers]
        assert sorted(tmp_path.iterdir()) == sorted(drafts)
        sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(drafts)
        writers[0].kill()
        writers[0].wait()
        sweep(tmp_path)
        known = sys.platform.startswith("linux")  # elsewhere age alone tells
        assert sorted(tmp_path.iterdir()) == sorted(drafts[known:])
    finally:
        for one in writers:
            one.kill()
            one.communicate()


def test_of_other_machines_drafts_age_decides(tmp_path: Path) -> None:
    with replacing(tmp_path / "x.txt") as own:
        own.touch()
        *_, numbering, process, unique, _ = own.name.split(".")
    assert process == str(os.getpid())
    elsewhere = tmp_path / f".x.txt.{numbering[::-1]}0.999999999.{unique}.tmp"
    before, odd = tmp_path / f".x.txt.{unique}.tmp", tmp_path / ".tmp"  # of a version that named no writer
    for path in (elsewhere, before, odd):
        path.touch()
    sweep(tmp_path)
    assert {*tmp_path.glob(".*")} == {elsewhere, before, odd}
    for path in (elsewhere, before):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert [*tmp_path.glob(".*")] == [odd]


def test_files_are_replaced_in_one_place_only() -> None:
    packages = ("medvl", "tasks", "datamodules", "ontology")
    sources = {path for package in packages for path in (ROOT / package).rglob("*.py")}
    found = {path.name for path in sources if "os.fsync" in path.read_text()}
    assert found == {"atomic.py"}
    pools = {path.name for path in sources if "ProcessPoolExecutor" in path.read_text()}
    assert pools == {"workers.py", "extract.py"}  # the ontology stands alone
