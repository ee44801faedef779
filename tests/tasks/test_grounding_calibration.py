"""Calibration: the sweep equals postprocessing and metric run point by point; the choice follows the criterion."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from medvl.metrics import GroundingMetrics
from tasks.grounding.calibration import FUSION_IOUS, THRESHOLDS, calibrate
from tasks.grounding.postprocess import Detections, Postprocess

pytestmark = pytest.mark.filterwarnings("ignore:[XY]1 < 0 in box")  # drawn so


def make_sentences(count: int, seed: int, queries: int = 6) -> tuple[list[Detections], list[Tensor]]:
    """Sentences with 0 to 2 boxes in pixels; near every gold box lie several proposals, so that fusion matters."""
    rng = np.random.default_rng(seed)
    found, gold = [], []
    for _ in range(count):
        low = rng.uniform(0, 600, (int(rng.integers(0, 3)), 2))
        boxes = np.concatenate([low, low + rng.uniform(100, 300, low.shape)], axis=1)
        near = boxes[rng.integers(0, max(len(boxes), 1), queries - 2 if len(boxes) else 0)]
        near = near + rng.normal(0, 25, near.shape)
        far = np.sort(rng.uniform(0, 900, (queries - len(near), 2, 2)), axis=1).reshape(-1, 4)
        scores = np.concatenate([rng.uniform(0.2, 1, len(near)), rng.beta(1, 4, len(far))]).astype(np.float32)
        order = np.argsort(-scores)
        answer = np.sort(np.concatenate([near, far])[order].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        found.append(Detections(torch.tensor(answer).float(), torch.tensor(scores[order])))
        gold.append(torch.tensor(boxes).float().reshape(-1, 4))
    return found, gold


def by_hand(found: list[Detections], gold: list[Tensor], threshold: float, fusion_iou: float | None) -> list[float]:
    metric = GroundingMetrics(threshold=-math.inf)
    kept = [Postprocess(threshold, fusion_iou).keep(one) for one in found]
    metric.update([{"boxes": k.boxes, "scores": k.scores} for k in kept], [{"boxes": boxes} for boxes in gold])
    values = metric.compute()
    return [values["p_at_f1/boxed"].item(), values["n_acc"].item()]


def test_every_point_is_what_postprocessing_gives() -> None:
    found, gold = make_sentences(60, 0)
    points = calibrate(found, gold).points
    assert [(p.fusion_iou, p.threshold) for p in points] == [(f, t) for f in FUSION_IOUS for t in THRESHOLDS]
    for point in points:
        expected = by_hand(found, gold, point.threshold, point.fusion_iou)
        assert [point.p_at_f1, point.n_acc] == pytest.approx(expected, abs=1e-6)
    assert len({point.p_at_f1 for point in points}) > 20


@pytest.mark.parametrize("floor", [0.0, 0.5, 0.9])
def test_the_best_that_keeps_silence_is_chosen(floor: float) -> None:
    found, gold = make_sentences(80, 1)
    chosen = calibrate(found, gold, n_acc_floor=floor)
    able = [p.p_at_f1 for p in chosen.points if p.n_acc >= floor]
    assert chosen.floor_met
    mine = next(p for p in chosen.points if (p.threshold, p.fusion_iou) == (chosen.threshold, chosen.fusion_iou))
    assert mine.p_at_f1 == max(able)
    assert mine.n_acc >= floor
    assert (chosen.with_boxes, chosen.without_boxes) == (sum(len(g) > 0 for g in gold), sum(len(g) == 0 for g in gold))


def test_the_floor_raises_the_threshold() -> None:
    box = torch.tensor([[0.0, 0, 10, 10]])
    nothing = torch.zeros(0, 4)
    found = [Detections(box, torch.tensor([score])) for score in (0.6, 0.8, 0.3, 0.7)]
    gold = [box, box, nothing, nothing]  # finding both costs the last one's silence
    loose, strict = (calibrate(found, gold, n_acc_floor=floor) for floor in (0.5, 1.0))
    assert 0.3 <= loose.threshold < 0.6
    assert 0.7 <= strict.threshold < 0.8


def test_of_equals_the_threshold_in_the_middle() -> None:
    box = torch.tensor([[0.0, 0, 10, 10]])
    found = [Detections(box, torch.tensor([0.99]))]
    chosen = calibrate(found, [box])
    assert (chosen.threshold, chosen.fusion_iou) == (0.5, None)
    assert chosen.points[0].n_acc is None  # no sentence without a box: the floor does not bind
    assert chosen.floor_met


def test_a_floor_out_of_reach_gives_the_most_silent() -> None:
    box = torch.tensor([[0.0, 0, 10, 10]])
    sure = Detections(box, torch.tensor([0.99]))
    unsure = Detections(box, torch.tensor([0.4]))
    nothing = torch.zeros(0, 4)
    chosen = calibrate([sure, sure, unsure], [box, nothing, nothing], n_acc_floor=0.9)
    assert not chosen.floor_met
    assert chosen.threshold >= 0.4
    assert max(p.n_acc for p in chosen.points) == 0.5


def test_sentences_without_any_box_or_query() -> None:
    empty = Detections(torch.zeros(0, 4), torch.zeros(0))
    box = torch.tensor([[0.0, 0, 10, 10]])
    chosen = calibrate([empty, empty], [box, torch.zeros(0, 4)])
    assert {(p.p_at_f1, p.n_acc) for p in chosen.points} == {(0.0, 1.0)}
    for found, gold in (([empty], [torch.zeros(0, 4)]), ([], [])):
        with pytest.raises(ValueError, match="no validation sentence has a box"):
            calibrate(found, gold)
    with pytest.raises(ValueError, match="n_acc_floor"):
        calibrate([empty], [box], n_acc_floor=90)


def test_it_is_plain_values() -> None:
    kept = calibrate(*make_sentences(10, 2)).as_dict()
    again = json.loads(json.dumps(kept, allow_nan=False))
    assert again["points"] == kept["points"]
    assert Postprocess().using(again) == Postprocess(kept["threshold"], kept["fusion_iou"])


def test_the_users_numbers_win() -> None:
    calibration = {"threshold": 0.35, "fusion_iou": None}
    assert Postprocess().using(calibration) == Postprocess(0.35, None)
    assert Postprocess(threshold=0.5).using(calibration) == Postprocess(0.5, None)
    assert Postprocess(fusion_iou=0.5).using(calibration) == Postprocess(0.35, 0.5)
    assert Postprocess(fusion_iou=None).using(None) == Postprocess(0.5, None)


def test_a_thousand_sentences_take_seconds() -> None:
    found, gold = make_sentences(1000, 3, queries=8)
    start = time.process_time()
    calibrate(found, gold)
    assert time.process_time() - start < 8
