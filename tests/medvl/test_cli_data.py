from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from cli_toy import Run, medvl
from pictures import size_of

from datamodules.twins import TWINS

__all__ = ["medvl"]


def test_list_names_every_format(medvl: Run) -> None:
    status, out, _ = medvl("data list")
    assert status == 0
    for name in ("padchest-gr", "ms-cxr", "imagenome", "table", "ms-cxr-0.1"):
        assert name in out


@pytest.mark.parametrize("name", TWINS)
def test_help_lists_the_own_options_of_a_twin(medvl: Run, name: str) -> None:
    module, _, function = TWINS[name].rpartition(".")
    taken = inspect.signature(getattr(import_module(module), function)).parameters
    status, out, _ = medvl(f"data twin {name} --help")
    assert status == 0
    listed = set(re.findall(r"^  --([a-z-]+)", out, re.MULTILINE))
    assert listed == {word.replace("_", "-") for word in taken if word != "folder"}
    assert {"padchest-gr": "unseen-test", "imagenome": "noise", "rsna": "size"}.get(name, "seed") in listed


@pytest.mark.parametrize(
    ("twin", "source"),
    [("padchest-gr", "padchest-gr"), ("ms-cxr-0.1", "ms-cxr"), ("vindr-cxr", "vindr-cxr"), ("rsna", "rsna")],
)
def test_a_twin_is_written_checked_shown_and_converted(medvl: Run, twin: str, source: str) -> None:
    status, out, _ = medvl(f"data twin {twin} twin --studies 8 --seed 3 --size 120 --workers 1")
    assert (status, out) == (0, f"twin: 8 studies  next: medvl data check {source} twin\n")
    status, out, _ = medvl(f"data check {source} twin")
    assert status == 0
    assert "split-dealt" in out if twin != "padchest-gr" else out.splitlines()[-1] == "no problem found"
    assert medvl(f"data show {source} twin --n 4 --output pictures/four.png")[:2] == (0, "pictures/four.png\n")
    assert min(size_of("pictures/four.png")) > 200
    status, out, _ = medvl(f"data convert {source} twin --size 64")
    assert status == 0
    assert out.startswith(tuple(str(n) for n in range(1, 9)))


def test_a_source_takes_its_options(medvl: Run, table_twin: Path) -> None:
    words = f"data check table {table_twin}/table.csv --box-format xyxy_px"
    columns = "image=filename,phrase=notes,boxes=regions,patient_id=subject,split=fold"
    assert medvl(f"{words} --columns {columns}")[0] == 0
    status, _, error = medvl(f"{words} --columns image")
    assert status == 2
    assert "expected name=column,name=column, not 'image'" in error
    status, _, error = medvl(words.replace("xyxy_px", "xyxi_px"))
    assert error.startswith("error: no --box-format 'xyxi_px'\n  hint:  did you mean 'xyxy_px'?\n")


def test_check_lists_what_is_wrong(medvl: Run, padchest_twin: Path) -> None:
    assert medvl("data twin padchest-gr twin --studies 8 --seed 3 --size 120 --workers 1")[0] == 0
    images = sorted(Path("twin").rglob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:200])
    images[1].unlink()
    status, out, _ = medvl("data check padchest-gr twin --queries 0 --output bad/rows.jsonl")
    assert status == 1
    assert "image-unreadable" in out
    assert "image-missing" in out
    assert "too-many-boxes" in out
    codes = {json.loads(line)["code"] for line in Path("bad/rows.jsonl").read_text().splitlines()}
    assert codes == {"image-unreadable", "image-missing"}
    assert medvl("data check padchest-gr twin --quarantine bad/rows.jsonl --no-decode")[0] in (0, 1)


def test_a_guard_is_checked_and_lists_are_options(medvl: Run) -> None:
    words = "data twin imagenome twin --studies 12 --seed 3 --size 64 --workers 1"
    assert medvl(f"{words} --noise redundant,negated")[1].endswith("next: medvl data check imagenome twin\n")
    avoid = "twin/silver_dataset/splits/images_to_avoid.csv"
    train = "twin/silver_dataset/splits/train.csv"
    status, out, _ = medvl(f"data check imagenome twin --no-decode --guard {avoid},{train}")
    assert (status, "patient-held-out" in out) == (1, True)
    status, out, _ = medvl(f"data check imagenome twin --no-decode --guard {avoid} --exclude {avoid},{avoid}")
    assert (status, "patients-excluded" in out) == (0, True)
    status, _, error = medvl("data check imagenome twin --guard nowhere.csv --no-decode")
    assert (status, "the table does not exist" in error) == (2, True)


def test_a_twin_with_reports_is_written_checked_shown_and_converted(medvl: Run) -> None:
    status, out, _ = medvl("data twin mimic-cxr twin --studies 8 --seed 3 --size 120 --workers 1")
    assert (status, out) == (0, "twin: 8 studies  next: medvl data check mimic-cxr twin\n")
    status, out, _ = medvl("data check mimic-cxr twin --views all")
    assert status == 0
    assert out.startswith("8 studies, ")
    assert medvl("data show mimic-cxr twin --n 4 --output four.png")[:2] == (0, "four.png\n")
    assert min(size_of("four.png")) > 200
    assert medvl("data convert mimic-cxr twin --size 64")[0] == 0
