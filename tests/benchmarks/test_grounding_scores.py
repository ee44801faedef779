"""Methods side by side: the figures against the metrics themselves, and one run of the whole benchmark in two steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import grounding_baselines, harness
from benchmarks.grounding_scores import alone, compare_methods, headline
from medvl.metrics import FROC, GroundingMetrics, SetF1
from medvl.outputs import PhrasePrediction, PixelBox

SENTENCES = 40


def lines(seed: int, sure: float) -> list[PhrasePrediction]:
    """Return what a method says: each gold box with chance `sure`, and a wrong one now and then."""
    truth, rng, found = np.random.default_rng(0), np.random.default_rng(seed), []
    for i in range(SENTENCES):
        gold = boxes(truth, i % 3)
        said = [box for box in gold if rng.random() < sure] + boxes(rng, int(rng.random() < 0.3))
        scores = tuple(float(score) for score in rng.uniform(0, 1, len(said)))
        kept = [k for k, score in enumerate(scores) if score > 0.3]
        found.append(
            PhrasePrediction(
                f"{i // 2}.png", f"sentence {i}", tuple(said[k] for k in kept), tuple(scores[k] for k in kept), 0.3,
                kind="boxed" if gold else "absent", patient=f"{i // 4}", gold_xyxy_px=tuple(gold),
                all_boxes_xyxy_px=tuple(said), all_scores=scores,
            )
        )  # fmt: skip
    return found


def boxes(rng: np.random.Generator, count: int) -> list[PixelBox]:
    corners = rng.uniform(0, 60, (count, 2))
    return [(float(x), float(y), float(x + 20), float(y + 25)) for x, y in corners]


def test_figures_are_those_of_the_metrics_averaged_over_seeds() -> None:
    runs = {"ours": [lines(1, 0.9), lines(2, 0.8)], "peer": [lines(3, 0.3)]}
    found = compare_methods(runs, draws=50)
    expected = [reference(run) for run in runs["ours"]]
    for name, interval in found.metrics["ours"].items():
        assert interval.mean == pytest.approx(np.mean([one[name] for one in expected]), abs=1e-6), name
    peer = reference(runs["peer"][0])
    for name, interval in found.ahead["peer"].items():
        assert interval.mean == pytest.approx(found.metrics["ours"][name].mean - peer[name], abs=1e-6), name
        assert interval.low <= interval.mean <= interval.high
    assert headline(found.metrics["peer"]) == pytest.approx(alone(runs["peer"][0]))
    assert "set_f1@0.5/boxed" not in found.not_won().get("peer", [])
    assert "p_at_f1/boxed" in compare_methods({"a": [lines(3, 0.3)], "b": [lines(1, 0.9)]}, 50).not_won()["b"]


def reference(run: list[PhrasePrediction]) -> dict[str, float]:
    """Return the same figures from the metrics of training."""
    kept = [item(one.boxes_xyxy_px, one.scores) for one in run]
    proposed = [item(one.all_boxes_xyxy_px, one.all_scores) for one in run]
    gold = [item(one.gold_xyxy_px or (), ()) for one in run]
    values: dict[str, torch.Tensor] = {}
    for metric, preds in ((GroundingMetrics(-np.inf), kept), (SetF1(-np.inf), kept), (FROC(), proposed)):
        metric.update(preds, gold)
        values |= metric.compute()
    values |= {"miou/boxed": values["miou"], "p_at_f1/zero/absent": values["p_at_f1/zero"]}
    return {name: float(value) for name, value in values.items()}


def item(places: tuple[PixelBox, ...], scores: tuple[float, ...]) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor(places).reshape(-1, 4), "scores": torch.tensor(scores)}


def test_other_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="other sentences"):
        compare_methods({"ours": [lines(1, 0.9)], "peer": [lines(1, 0.9)[1:]]})


def test_the_benchmark_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    chosen = {name: grounding_baselines.METHODS[name] for name in ("ours", "dense")}
    monkeypatch.setattr(grounding_baselines, "METHODS", chosen)
    monkeypatch.setattr(grounding_baselines, "RATES", (1e-3,))
    grounding_baselines.run(seeds=1, steps=2, studies=24, size=160)
    result = json.loads((tmp_path / "grounding-baselines.json").read_text())
    assert set(result["ours"]) == set(result["peers"]["dense"]) == {"single", "multi", "zero"}
    assert result["ratio"] is None
    assert len(result["thresholds"]["ours"]) == len(result["by_seed"]["dense"]) == result["seeds"] == 1
