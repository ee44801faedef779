"""Files are whole or absent, however many write them and wherever they stop."""

from __future__ import annotations

from pathlib import Path

import pytest

import medvl
from medvl.io.atomic import DRAFTS, replacing, write_text

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


def test_files_are_replaced_in_one_place_only() -> None:
    packages = ("medvl", "tasks", "datamodules", "ontology")
    sources = {path for package in packages for path in (ROOT / package).rglob("*.py")}
    found = {path.name for path in sources if "os.fsync" in path.read_text()}
    assert found == {"atomic.py"}
    pools = {path.name for path in sources if "ProcessPoolExecutor" in path.read_text()}
    assert pools == {"workers.py", "extract.py"}  # the ontology stands alone
