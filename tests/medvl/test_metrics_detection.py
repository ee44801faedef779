"""SetF1, RoDeO, FROC, calibration, mAP and the GREC mode against scalar references, at the edges, on two ranks."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ranks import on_ranks
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryCalibrationError

from medvl.metrics import FROC, GREF, BoxCalibrationError, GroundingMetrics, PhraseMeanAP, RoDeO, SetF1, phrase_outcomes
from medvl.metrics.ranking import average_precision, rank_boxes, sensitivity_at

Phrases = list[dict[str, Tensor]]
Box = list[float]
METRICS: list[Callable[..., Metric]] = [SetF1, RoDeO, FROC, BoxCalibrationError, PhraseMeanAP]


def make_phrases(count: int, seed: int, proposed: int = 4) -> tuple[Phrases, Phrases]:
    """0 to 3 gold boxes in pixels, and proposals around them and anywhere; scores are float32 and may tie."""
    rng = np.random.default_rng(seed)
    preds, targets = [], []
    for _ in range(count):
        low = rng.uniform(0, 600, (int(rng.choice([0, 0, 1, 1, 2, 3])), 2))
        gold = np.concatenate([low, low + rng.uniform(40, 400, low.shape)], axis=1)
        near = gold[rng.integers(0, max(len(gold), 1), proposed if len(gold) else 0)]
        near = near + rng.normal(0, 25, near.shape)
        far = rng.uniform(0, 900, (proposed, 4))
        boxes = np.concatenate([near, far]).reshape(-1, 2, 2)
        boxes = np.sort(boxes, axis=1).reshape(-1, 4)[rng.permutation(len(boxes))][:proposed]
        scores = rng.integers(1, 100, len(boxes)) / 100
        preds.append({"boxes": torch.tensor(boxes).float(), "scores": torch.tensor(scores).float()})
        targets.append({"boxes": torch.tensor(gold).float()})
    return preds, targets


def area(x0: float, y0: float, x1: float, y1: float) -> float:
    return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)


def iou_giou(a: Box, b: Box) -> tuple[float, float]:
    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - shared
    hull = area(min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    return shared / union, shared / union - (hull - union) / hull


def kept_boxes(pred: dict[str, Tensor], threshold: float) -> list[Box]:
    pairs = zip(pred["boxes"].double().tolist(), pred["scores"], strict=True)
    return [box for box, score in pairs if score > threshold]


def values_of(metric: Metric, preds: Phrases, targets: Phrases) -> dict[str, float]:
    metric.update(preds, targets)
    return {name: value.item() for name, value in metric.compute().items()}


def best_pairing(table: list[list[float]]) -> list[tuple[int, int]]:
    """The one-to-one pairing of the greatest sum, by trying all."""
    rows, columns = len(table), len(table[0]) if table else 0
    if rows <= columns:
        ways = [list(enumerate(way)) for way in itertools.permutations(range(columns), rows)]
    else:
        ways = [[(i, j) for j, i in enumerate(way)] for way in itertools.permutations(range(rows), columns)]
    return max(ways, key=lambda way: sum(table[i][j] for i, j in way))


# --- the public GREC code ---------------------------------------------------------------------------------------


def grec(preds: Phrases, targets: Phrases) -> tuple[list[bool], float, float]:
    """P@(F1=1) per phrase, N-acc and T-acc by the definition of GREC, phrase by phrase."""
    right, counts = [], dict.fromkeys(("tp", "fn", "tn", "fp"), 0)
    for pred, target in zip(preds, targets, strict=True):
        chosen = [b for b, s in zip(pred["boxes"].tolist(), pred["scores"], strict=True) if s >= 0.7]
        gold = target["boxes"].tolist()
        if not gold:
            right.append(not chosen)
            counts["tp" if not chosen else "fn"] += 1
            continue
        counts["tn" if chosen else "fp"] += 1
        table = np.array([[iou_giou(a, b)[1] for b in gold] for a in chosen]).reshape(len(chosen), len(gold))
        tp = 0
        for _ in range(min(table.shape)):
            i, j = np.unravel_index(table.argmax(), table.shape)
            if table[i, j] < 0.5:
                break
            tp += 1
            table[i, :], table[:, j] = 0.0, 0.0
        right.append(2 * tp / (2 * tp + len(chosen) - tp + len(gold) - tp) >= 1.0)
    return right, counts["tp"] / (counts["tp"] + counts["fn"]), counts["tn"] / (counts["tn"] + counts["fp"])


def test_gref_is_the_public_definition_on_five_thousand_phrases() -> None:
    preds, targets = make_phrases(5000, 0)
    for i, (pred, target) in enumerate(zip(preds, targets, strict=True)):  # close answers, so that both outcomes occur
        if i % 2 and len(target["boxes"]):
            noise = torch.randn(target["boxes"].shape, generator=torch.Generator().manual_seed(i)) * 14
            near = (target["boxes"] + noise).reshape(-1, 2, 2).sort(dim=1).values.reshape(-1, 4)
            pred["boxes"] = torch.cat([near, pred["boxes"][:1]])
            pred["scores"] = torch.tensor([0.7 + 0.1 * (i % 3)] * len(target["boxes"]) + [0.01 * (i % 80)])
    right, n_acc, t_acc = grec(preds, targets)
    np.testing.assert_array_equal(phrase_outcomes(preds, targets, **GREF)["p_at_f1"], right)
    values = values_of(GroundingMetrics(**GREF), preds, targets)
    assert values["p_at_f1"] == pytest.approx(np.mean(right), abs=1e-6)
    assert (values["n_acc"], values["t_acc"]) == pytest.approx((n_acc, t_acc), abs=1e-6)
    boxed = [ok for ok, target in zip(right, targets, strict=True) if len(target["boxes"])]
    assert 0.1 < np.mean(boxed) < 0.9
    assert phrase_outcomes(preds, targets, threshold=0.7)["p_at_f1"].tolist() != right


def test_gref_keeps_a_score_of_exactly_its_threshold() -> None:
    box = torch.tensor([[0.0, 0, 1, 1]])
    for score, expected in ((0.7, 1.0), (float(np.nextafter(np.float32(0.7), np.float32(0))), 0.0)):
        pred = {"boxes": box, "scores": torch.tensor([score])}
        assert values_of(GroundingMetrics(**GREF), [pred], [{"boxes": box}])["p_at_f1"] == expected


# --- SetF1 and RoDeO ---------------------------------------------------------------------------------------------


def test_set_f1_equals_a_reference() -> None:
    preds, targets = make_phrases(200, 1)
    values = values_of(SetF1(), preds, targets)
    for iou in (0.3, 0.5, 0.7):
        scores: dict[int, list[float]] = {0: [], 1: [], 2: []}
        for pred, target in zip(preds, targets, strict=True):
            kept, gold = kept_boxes(pred, 0.5), target["boxes"].tolist()
            good = [[float(iou_giou(a, b)[0] >= iou) for b in gold] for a in kept]
            tp = sum(good[i][j] for i, j in best_pairing(good)) if kept and gold else 0.0
            scores[min(len(gold), 2)].append(2 * tp / (len(kept) + len(gold)) if kept or gold else 1.0)
        assert values[f"set_f1@{iou}"] == pytest.approx(np.mean(scores[0] + scores[1] + scores[2]))
        assert values[f"set_f1@{iou}/boxed"] == pytest.approx(np.mean(scores[1] + scores[2]))
        assert values[f"set_f1@{iou}/single"] == pytest.approx(np.mean(scores[1]))
        assert values[f"set_f1@{iou}/multi"] == pytest.approx(np.mean(scores[2]))


def rodeo_reference(preds: Phrases, targets: Phrases) -> dict[str, float]:
    """Equations 2 to 6 of the paper, with one class."""
    local, shape, lonely = [], [], 0
    for pred, target in zip(preds, targets, strict=True):
        kept, gold = kept_boxes(pred, 0.5), target["boxes"].tolist()
        table = [[iou_giou(a, b)[1] for b in gold] for a in kept]
        pairs = best_pairing(table) if kept and gold else []
        lonely += len(kept) + len(gold) - 2 * len(pairs)
        for a, b in ((kept[i], gold[j]) for i, j in pairs):
            width, height = b[2] - b[0], b[3] - b[1]
            dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2 / width, (a[1] + a[3] - b[1] - b[3]) / 2 / height
            local.append(math.exp(-(dx * dx + dy * dy) * math.log(2)))
            shape.append(iou_giou([0, 0, a[2] - a[0], a[3] - a[1]], [0, 0, width, height])[0])
    total = len(local) + lonely
    parts = {"localisation": sum(local) / total, "shape": sum(shape) / total, "classification": len(local) / total}
    return parts | {"total": 3 / sum(1 / (value + 1e-6) for value in parts.values())}


def test_rodeo_equals_a_reference() -> None:
    preds, targets = make_phrases(200, 2)
    values = values_of(RoDeO(), preds, targets)
    for suffix, counts in {"": [0, 1, 2, 3], "/boxed": [1, 2, 3], "/single": [1], "/multi": [2, 3]}.items():
        chosen = [(p, t) for p, t in zip(preds, targets, strict=True) if len(t["boxes"]) in counts]
        expected = rodeo_reference([p for p, _ in chosen], [t for _, t in chosen])
        for part, value in expected.items():
            assert values[f"rodeo/{part}{suffix}"] == pytest.approx(value, abs=1e-5), part + suffix


def test_rodeo_one_side_away_is_one_half() -> None:
    pred = {"boxes": torch.tensor([[10.0, 0, 20, 10]]), "scores": torch.tensor([0.9])}
    values = values_of(RoDeO(), [pred], [{"boxes": torch.tensor([[0.0, 0, 10, 10]])}])
    assert (values["rodeo/localisation"], values["rodeo/shape"]) == (0.5, 1.0)


def test_rodeo_bears_gold_without_area() -> None:
    gold = {"boxes": torch.tensor([[5.0, 5, 5, 9]])}
    for box, expected in (([5.0, 5, 5, 9], 1.0), ([6.0, 5, 8, 9], 0.0)):
        pred = {"boxes": torch.tensor([box]), "scores": torch.tensor([0.9])}
        values = values_of(RoDeO(), [pred], [gold])
        assert (values["rodeo/localisation"], values["rodeo/shape"]) == (expected, 0.0)


# --- what ranks by score -----------------------------------------------------------------------------------------


def true_boxes(pred: dict[str, Tensor], gold: list[Box]) -> list[tuple[float, bool]]:
    """Score of each proposal and whether it takes a free gold box, best score first."""
    free, found = list(gold), []
    order = sorted(range(len(pred["scores"])), key=lambda i: -pred["scores"][i].item())
    for i in order:
        ious = [iou_giou(pred["boxes"][i].double().tolist(), b)[0] for b in free]
        hit = bool(ious) and max(ious) >= 0.5
        if hit:
            free.pop(ious.index(max(ious)))
        found.append((pred["scores"][i].item(), hit))
    return found


@pytest.mark.parametrize("proposed", [1, 6])
def test_froc_equals_a_reference(proposed: int) -> None:
    preds, targets = make_phrases(300, 3, proposed)
    judged = [(len(t["boxes"]), true_boxes(p, t["boxes"].tolist())) for p, t in zip(preds, targets, strict=True)]
    values = values_of(FROC(), preds, targets)
    for suffix, counts in {"": [0, 1, 2, 3], "/single": [1], "/multi": [2, 3], "/zero": [0]}.items():
        asked = [found for n, found in judged if n in counts]
        answered = judged if suffix == "/zero" else [(n, found) for n, found in judged if n in counts]
        gold = sum(n for n, _ in answered)
        points = [(0.0, 0.0)]
        for threshold in {score for _, found in judged for score, _ in found}:
            false = sum(not hit for found in asked for score, hit in found if score >= threshold) / len(asked)
            points.append((false, sum(hit for _, f in answered for score, hit in f if score >= threshold) / gold))
        expected = [max(y for x, y in points if x <= rate) for rate in (0.125, 0.25, 0.5, 1, 2, 4, 8)]
        got = [values[f"froc@{rate:g}{suffix}"] for rate in (0.125, 0.25, 0.5, 1, 2, 4, 8)]
        assert got == pytest.approx(expected, abs=1e-6), suffix
        assert values[f"froc/mean{suffix}"] == pytest.approx(np.mean(expected), abs=1e-6)
        assert 0 < expected[0] < expected[2]


def test_calibration_error_equals_torchmetrics() -> None:
    preds, targets = make_phrases(300, 4)
    for pred in preds:
        pred["scores"] = torch.rand(len(pred["scores"]), generator=torch.Generator().manual_seed(len(pred["boxes"])))
    found = [true_boxes(p, t["boxes"].tolist()) for p, t in zip(preds, targets, strict=True)]
    flat = torch.tensor([pair for part in found for pair in part])
    expected = BinaryCalibrationError(n_bins=15)(flat[:, 0], flat[:, 1].long())
    assert values_of(BoxCalibrationError(), preds, targets)["ece"] == pytest.approx(expected.item(), abs=1e-5)


def test_a_score_of_one_that_is_right_is_calibrated() -> None:
    box = torch.tensor([[0.0, 0, 4, 4]])
    pred = {"boxes": box, "scores": torch.ones(1)}
    assert values_of(BoxCalibrationError(), [pred], [{"boxes": box}])["ece"] == 0
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        BoxCalibrationError().update([{**pred, "scores": torch.tensor([1.5])}], [{"boxes": box}])


def test_average_precision_is_that_of_coco() -> None:
    preds, targets = make_phrases(300, 5)
    for i, pred in enumerate(preds):  # no ties, which COCO breaks by the order of the images
        pred["scores"] = torch.rand(len(pred["scores"]), generator=torch.Generator().manual_seed(i))
    values = values_of(PhraseMeanAP(), preds, targets)
    ranked = rank_boxes(preds, targets)
    hit = ranked.hit[None].astype(float)
    own = average_precision(ranked.scores, hit, 1 - hit, np.array([ranked.n_gold.sum()]))
    assert own[0] == pytest.approx(values["map_50"], abs=1e-3)  # torchmetrics reads recall off at float32 hundredths
    assert 0 < values["map"] < values["map_50"] < 1


def test_weights_count_as_copies() -> None:
    """A phrase drawn twice is a phrase that is there twice: what the bootstrap relies on."""
    preds, targets = make_phrases(60, 6)
    times = np.random.default_rng(0).integers(0, 3, 60)
    copies = [i for i, count in enumerate(times) for _ in range(count)]
    once, again = rank_boxes(preds, targets), rank_boxes([preds[i] for i in copies], [targets[i] for i in copies])
    weight = times[once.phrase][None].astype(float)
    gold, sentences = np.array([again.n_gold.sum()]), np.array([len(copies)])
    alone = np.ones((1, len(again.hit)))
    for measure in (lambda *a: sensitivity_at(*a, sentences), average_precision):
        drawn = measure(once.scores, weight * once.hit, weight * ~once.hit, gold)
        np.testing.assert_allclose(drawn, measure(again.scores, alone * again.hit, alone * ~again.hit, gold), atol=0.02)
    froc = [
        sensitivity_at(r.scores, w * r.hit, w * ~r.hit, gold, sentences) for r, w in ((once, weight), (again, alone))
    ]
    np.testing.assert_allclose(*froc, rtol=1e-12)


# --- what all of them promise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", METRICS)
def test_nothing_is_not_a_number(make: Callable[..., Metric]) -> None:
    assert all(math.isnan(value) for value in values_of(make(), [], []).values())


@pytest.mark.parametrize("make", METRICS)
def test_phrases_without_gold_alone(make: Callable[..., Metric]) -> None:
    empty = torch.zeros(0, 4)
    preds = [
        {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "scores": torch.tensor([0.8])},
        {"boxes": empty, "scores": torch.zeros(0)},
    ]
    values = values_of(make(), preds, [{"boxes": empty}] * 2)
    defined = {name: value for name, value in values.items() if not math.isnan(value)}
    expected = {
        SetF1: {f"set_f1@{iou}": 0.5 for iou in (0.3, 0.5, 0.7)},
        RoDeO: {f"rodeo/{part}": 0.0 for part in ("localisation", "shape", "classification", "total")},
        BoxCalibrationError: {"ece": 0.8},
    }
    assert defined == pytest.approx(expected.get(make, {}), abs=1e-5)


@pytest.mark.parametrize("make", METRICS)
def test_input_is_left_alone_and_batches_do_not_matter(make: Callable[..., Metric]) -> None:
    preds, targets = make_phrases(40, 7)
    before = copy.deepcopy((preds, targets))
    whole = values_of(make(), preds, targets)
    for kept, now in zip(before[0] + before[1], preds + targets, strict=True):
        assert all(torch.equal(kept[key], now[key]) for key in kept)
    parts = make()
    for start in range(0, 40, 7):
        parts.update(preds[start : start + 7], targets[start : start + 7])
    assert {name: value.item() for name, value in parts.compute().items()} == pytest.approx(whole, nan_ok=True)
    parts.reset()
    assert values_of(parts, preds, targets) == pytest.approx(whole, nan_ok=True)


def _rank(rank: int) -> None:
    preds, targets = make_phrases(31, 8)
    for make in METRICS:
        expected = values_of(make(sync_on_compute=False), preds, targets)
        for parts in ([slice(0, 20), slice(20, 31)], [slice(0, 31), None]):
            metric, part = make(), parts[rank]
            if part:
                metric.update(preds[part], targets[part])
            got = {name: value.item() for name, value in metric.compute().items()}
            assert got == pytest.approx(expected, abs=1e-6, nan_ok=True), make


def test_ranks_agree_with_one_process() -> None:
    on_ranks(_rank)


def test_two_thousand_phrases_of_eight_boxes_in_under_a_second() -> None:
    preds, targets = make_phrases(200, 9, proposed=8)
    for make in METRICS[:4]:
        metric = make()
        start = time.perf_counter()
        metric.update(preds * 10, targets * 10)
        metric.compute()
        assert time.perf_counter() - start < 1, make
