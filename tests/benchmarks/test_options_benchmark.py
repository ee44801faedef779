from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import grounding_options, harness
from benchmarks.training import CONFIGS


def test_every_option_has_a_row() -> None:
    overlays = {path.stem for path in (CONFIGS / "grounding" / "options").glob("*.yaml")}
    assert {one for options in grounding_options.METHODS.values() for one in options} == overlays
    assert next(iter(grounding_options.METHODS.items())) == ("ours", ())


def test_the_benchmark_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    some = {name: grounding_options.METHODS[name] for name in ("ours", "together")}
    monkeypatch.setattr(grounding_options, "METHODS", some)
    grounding_options.run(seeds=1, steps=2, studies=24, size=160)
    result = json.loads((tmp_path / "grounding-options.json").read_text())
    assert result["peers"].keys() == {"together"}
    assert result["ours"].keys() == result["peers"]["together"].keys() == {"single", "multi", "zero"}
    assert result["ahead"]["together"].keys() == result["metrics"]["ours"].keys()
    assert result["steps"] == 2
