"""A null on the command line is a null, however deep the class lies that takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_toy import Run, medvl

__all__ = ["medvl"]
QUICKSTART = Path(__file__).resolve().parent.parent.parent / "configs" / "quickstart" / "grounding.yaml"


def parsed(medvl: Run, words: str, *more: str) -> dict[str, Any]:
    status, out, error = medvl(f"fit --print_config {words}", *more)
    assert status == 0, error
    arguments: dict[str, Any] = yaml.safe_load(out)["model"]["init_args"]
    return arguments


@pytest.mark.parametrize(
    "words",
    [
        ["--model.postprocess.fusion_iou", "null"],
        ["--model.postprocess.fusion_iou=null"],
        ["--model.init_args.postprocess.fusion_iou", "null"],
        ["--model.postprocess", "{threshold: 0.35, fusion_iou: null}"],
    ],
)
def test_fusion_is_switched_off(medvl: Run, words: list[str]) -> None:
    before = parsed(medvl, f"--config {QUICKSTART} --model.postprocess.fusion_iou 0.3")["postprocess"]
    after = parsed(medvl, f"--config {QUICKSTART}", *words)["postprocess"]
    assert before["fusion_iou"] == 0.3
    assert after["fusion_iou"] is None
    assert after.keys() == before.keys()


def test_nulls_in_lists_and_other_words_stay_what_they_are(medvl: Run) -> None:
    toy = "--allow-import cli_toy --config toy.yaml"
    show = parsed(medvl, toy, "--model.show.least", "0.25", "--model.show.edges", "[null, 1]")["show"]
    assert show == {"least": 0.25, "edges": [None, 1.0]}
    status, _, error = medvl(f"fit {toy} --model.show.least nought")
    assert status == 2
    assert error.startswith("error: wrong value 'nought'\n  where: --model.show.least\n")
