"""Another domain: sentences are parted by finding, and the task runs on slices unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harness, other_domain
from benchmarks.other_domain import NEW, by_finding, groups
from datamodules.twins.ct_lesions import KINDS
from medvl.outputs import PhrasePrediction


def line(name: str, gold: bool, right: bool) -> PhrasePrediction:
    box = (10.0, 10.0, 40.0, 40.0)
    kept, score = ((box,), 0.9) if right else ((), 0.1)
    return PhrasePrediction(
        "a.png", name, kept, (score,) * len(kept), 0.5, kind="boxed" if gold else "zero", patient=name,
        gold_xyxy_px=(box,) if gold else (), all_boxes_xyxy_px=(box,), all_scores=(score,),
    )  # fmt: skip


def test_sentences_are_parted_by_what_they_show() -> None:
    assert set(NEW) < set(KINDS)
    shown = {"One.": "nodule", "Two.": "nodule", "Three.": "aneurysm", "Absent.": "aneurysm", "Normal.": ""}
    kinds = {("a.png", name): kind for name, kind in shown.items()}
    runs = [
        [line(name, name in ("One.", "Two.", "Three."), right) for name, right in zip(shown, answers, strict=True)]
        for answers in ((True, False, True, False, False), (True, True, False, False, False))
    ]
    parts = groups({"ours": runs}, kinds)
    assert {name: [one.phrase for one in part["ours"][0]] for name, part in parts.items()} == {
        "shared": ["One.", "Two."], "new": ["Three."], "zero": ["Absent.", "Normal."],
    }  # fmt: skip
    assert by_finding(runs, kinds) == pytest.approx({"nodule": 0.75, "aneurysm": 0.5})


def test_the_benchmark_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setattr(other_domain, "METHODS", {})
    other_domain.run(seeds=1, steps=2, ct_steps=2, studies=40, size=96)
    result = json.loads((tmp_path / "other-domain.json").read_text())
    assert set(result["ours"]) == set(result["peers"]["zero-shot"]) == {"shared", "new", "zero"}
    assert set(result["by_finding"]["zero-shot"]) <= set(KINDS)
