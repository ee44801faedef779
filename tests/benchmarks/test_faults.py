from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import damage_forms, faults, harness
from benchmarks.damage_forms import FORMS
from benchmarks.faults import Verdict, judge, measure, summary, train
from datamodules.check import check_source

SOME = (
    "image: cut to 50%",
    "image: a dangling link",
    "image: black",
    "table.csv: cut within a row",
    "table.csv: a cell missing",
    "table.csv: a box that is not a number",
    "table.csv: a patient in two splits",
    "table.csv: a byte-order mark",
    "while training, cache none: gone",
    "while training, one study, cache none: gone",
    "while training, the cache itself: cut to 50%",
)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage_forms, "STUDIES", 8)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    FORMS["table"].write(tmp_path / "table")
    return tmp_path / "table"


def test_nothing_is_silent(tmp_path: Path) -> None:
    verdicts = measure("table", tmp_path, seed=1, only=SOME)
    assert set(verdicts) == set(SOME)
    found = summary(verdicts)
    assert (found["planted"], found["survived"]) == (11, 11)
    assert (found["silent"], found["lost_uncounted"]) == (0, 0)
    assert verdicts["image: cut to 50%"].found
    assert verdicts["table.csv: a byte-order mark"].word == "harmless"
    assert verdicts["while training, cache none: gone"].word == "met in training"  # nothing is left
    assert verdicts["while training, one study, cache none: gone"].word == "left out and counted"


def test_what_nobody_notices_is_told(clean: Path) -> None:
    """A plausible box that is wrong cannot be noticed: the judge must call it silent, or it proves nothing."""
    form = FORMS["table"]
    before = train(form, form.module(clean, "quarantine"))
    known = Counter(problem.code for problem in check_source(form.read(clean), workers=0).problems)
    table = clean / "table.csv"
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    boxed = next(i for i, line in enumerate(lines) if "[[" in line)
    rest = lines[boxed].replace('"[[', '"[[1, 2, 9, 8], [', 1)
    table.write_text("\n".join([*lines[:boxed], rest, *lines[boxed + 1 :], ""]))
    verdict = judge(form, clean, before, known)
    assert verdict.silent
    assert verdict.survived
    table.write_text("\n".join([*lines[:boxed], *lines[boxed + 1 :], ""]))
    assert judge(form, clean, before, known).lost == 1


def test_results_of_formats_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(faults, "RESULTS", tmp_path)
    monkeypatch.setattr(faults, "measure", lambda name, *_, **__: {f"{name}: x": Verdict(found=True)})
    faults.run(formats="table,openi")
    result = faults.run(formats="rsna")
    assert result["per_format"].keys() == {"table", "openi", "rsna"}
    assert (result["planted"], result["found"], result["silent"]) == (3, 3, 0)
    assert json.loads((tmp_path / "faults.json").read_text())["faults"]["rsna"] == {"rsna: x": "found"}


def test_every_format_can_be_damaged_in_forty_ways() -> None:
    from benchmarks.damage import damages
    from benchmarks.damage_late import late_faults

    for name, form in FORMS.items():
        ways = damages(form.anatomy) | late_faults(form.data is damage_forms.VolumeData)
        assert len(ways) >= 40, name
