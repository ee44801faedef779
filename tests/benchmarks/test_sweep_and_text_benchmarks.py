"""The threshold sweep and the text encoders, each in a training of two steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import grounding_baselines, harness, text_encoders, threshold_sweep
from benchmarks.threshold_sweep import at_floors
from tasks.grounding.calibration import THRESHOLDS, SweepPoint


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("sys.argv", ["medvl"])
    return tmp_path / "results"


def test_the_sweep_draws_every_threshold(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: grounding_baselines.METHODS[name] for name in ("ours", "one-box")}
    monkeypatch.setattr(grounding_baselines, "METHODS", chosen)
    monkeypatch.setattr(grounding_baselines, "RATES", (1e-3,))
    threshold_sweep.run(steps=2, studies=24, size=160)
    result = json.loads((results / "threshold-sweep.json").read_text())
    assert result["sweep"].keys() == {"ours", "one-box", "one-box-rule"}
    assert [point[0] for point in result["sweep"]["one-box"]] == list(THRESHOLDS)
    assert all(0 <= value <= 1 for point in result["sweep"]["ours"] for value in point)
    assert (results / "threshold-sweep.png").stat().st_size > 1000


def test_the_best_of_the_points_above_a_floor() -> None:
    points = [SweepPoint(0.1 * i, None, 0.6 - 0.1 * i, 0.75 + 0.06 * i) for i in range(3)]
    assert at_floors(points) == {"0.8": 0.5, "0.9": None, "0.95": None}


def test_text_encoders_of_both_architectures_train(tmp_path: Path, results: Path) -> None:
    text_encoders.run(seeds=1, steps=2, studies=24, size=160, keep=str(tmp_path / "keep"))
    result = json.loads((results / "text-encoders.json").read_text())
    assert result["peers"].keys() == {"roberta", "modernbert"}
    assert result["ours"].keys() == {"seen", "unseen", "unseen_zero"}
    assert result["weights"] == "random"
    files = [json.loads(path.read_text())["words"] for path in (tmp_path / "keep" / "runs").glob("*/trained.json")]
    assert {Path(word).stem for words in files for word in words} >= {"roberta", "modernbert"}
