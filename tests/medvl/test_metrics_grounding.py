"""Grounding metrics against a scalar reference written without the library's code, at the edges, and on two ranks."""

from __future__ import annotations

import copy
import doctest
import itertools
import pickle
import time

import numpy as np
import pytest
import torch
from ranks import on_ranks
from torch import Tensor

import medvl.metrics.grounding
from medvl.metrics import GroundingMetrics, phrase_outcomes

Phrases = list[dict[str, Tensor]]


def make_phrases(count: int, seed: int) -> tuple[Phrases, Phrases]:
    """Gold boxes on a coarse grid and predictions jittered around them, so that every outcome occurs."""
    rng = np.random.default_rng(seed)
    preds, targets = [], []
    for _ in range(count):
        gold = random_boxes(rng, int(rng.choice([0, 0, 1, 1, 2, 3])))
        near = gold[rng.random(len(gold)) < 0.8] + rng.normal(0, 0.03, (1, 4))
        boxes = np.concatenate([np.sort(near.reshape(-1, 2, 2), axis=1).reshape(-1, 4), random_boxes(rng, 2)])
        scores = np.concatenate([rng.uniform(0.3, 1, len(near)), rng.uniform(0, 0.6, 2)])
        preds.append({"boxes": torch.tensor(boxes), "scores": torch.tensor(scores)})
        targets.append({"boxes": torch.tensor(gold)})
    return preds, targets


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.integers(0, 12, (count, 2)) / 20
    return np.concatenate([low, low + rng.integers(2, 8, (count, 2)) / 20], axis=1)


def area(box: np.ndarray) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def overlap_of(a: np.ndarray, b: np.ndarray, kind: str) -> float:
    shared = area(np.array([*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:])]))
    union = area(a) + area(b) - shared
    hull = area(np.array([*np.minimum(a[:2], b[:2]), *np.maximum(a[2:], b[2:])]))
    return shared / union - (0 if kind == "iou" else (hull - union) / hull)


def union_area(boxes: list[np.ndarray]) -> float:
    """Inclusion-exclusion over all subsets: exact, exponential, and nothing like the library's grid."""
    total = 0.0
    for size in range(1, len(boxes) + 1):
        for subset in itertools.combinations(boxes, size):
            stack = np.stack(subset)
            total -= (-1) ** size * area(np.array([*stack[:, :2].max(0), *stack[:, 2:].min(0)]))
    return total


def true_positives(table: np.ndarray, matching: str) -> int:
    if matching == "greedy":
        table, found = table.copy(), 0
        while table.size and table.max() >= 0.5:
            row, column = np.unravel_index(table.argmax(), table.shape)
            table, found = np.delete(np.delete(table, row, 0), column, 1), found + 1
        return found
    small, large = sorted(table.shape)
    table = table if table.shape[0] == small else table.T
    ways = itertools.permutations(range(large), small)
    return max(sum(table[i, j] >= 0.5 for i, j in enumerate(way)) for way in ways)


def reference(preds: Phrases, targets: Phrases, overlap: str, matching: str) -> dict[str, float]:
    right: dict[int, list[float]] = {0: [], 1: [], 2: []}
    answered, unions, best, centres = [], [], [], []
    for pred, target in zip(preds, targets, strict=True):
        kept = [b.numpy() for b, s in zip(pred["boxes"], pred["scores"], strict=True) if s > 0.5]
        gold = [b.numpy() for b in target["boxes"]]
        table = np.array([[overlap_of(k, g, overlap) for g in gold] for k in kept]).reshape(len(kept), len(gold))
        tp = true_positives(table, matching)
        f1 = 2 * tp / (len(kept) + len(gold)) if kept or gold else 1.0
        right[min(len(gold), 2)].append(float(f1 == 1))
        if not gold:
            continue
        answered.append(bool(kept))
        whole = union_area(kept + gold)
        unions.append((union_area(kept) + union_area(gold) - whole) / whole)
        for g in gold:
            best.append(max((overlap_of(k, g, "iou") for k in kept), default=0.0))
            middles = [((k[0] + k[2]) / 2, (k[1] + k[3]) / 2) for k in kept]
            centres.append(any(g[0] <= x <= g[2] and g[1] <= y <= g[3] for x, y in middles))
    return {
        "p_at_f1": np.mean(right[0] + right[1] + right[2]),
        "n_acc": np.mean(right[0]),
        "t_acc": np.mean(answered),
        "miou": np.mean(unions),
        "coverage": np.mean(best),
        "center_hit": np.mean(centres),
        "p_at_f1/zero": np.mean(right[0]),
        "p_at_f1/single": np.mean(right[1]),
        "p_at_f1/multi": np.mean(right[2]),
        "p_at_f1/boxed": np.mean(right[1] + right[2]),
    }


@pytest.mark.parametrize("overlap", ["iou", "giou"])
@pytest.mark.parametrize("matching", ["optimal", "greedy"])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_reference(overlap: str, matching: str, seed: int) -> None:
    preds, targets = make_phrases(150, seed)
    metric = GroundingMetrics(overlap=overlap, matching=matching)
    for start in range(0, 150, 40):
        metric.update(preds[start : start + 40], targets[start : start + 40])
    values = {name: value.item() for name, value in metric.compute().items()}
    expected = reference(preds, targets, overlap, matching)
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert 0 < values["p_at_f1/multi"] < 1


def test_scale_does_not_matter() -> None:
    preds, targets = make_phrases(60, 3)
    pixels = [{**p, "boxes": p["boxes"] * 2500} for p in preds], [{"boxes": t["boxes"] * 2500} for t in targets]
    for name, values in phrase_outcomes(preds, targets).items():
        np.testing.assert_allclose(values, phrase_outcomes(*pixels)[name], atol=1e-9)


def test_blocks_of_phrases_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    preds, targets = make_phrases(50, 4)
    whole = phrase_outcomes(preds, targets)
    monkeypatch.setattr("medvl.metrics.grounding._CHUNK", 7)
    monkeypatch.setattr("medvl.metrics.boxes._CELLS", 300)
    for name, values in phrase_outcomes(preds, targets).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12)


def one(boxes: list[list[float]], scores: list[float], gold: list[list[float]], **options: str) -> dict[str, float]:
    pred = {"boxes": torch.tensor(boxes), "scores": torch.tensor(scores)}
    metric = GroundingMetrics(**options)  # type: ignore[arg-type]
    metric.update([pred], [{"boxes": torch.tensor(gold)}])
    return {name: value.item() for name, value in metric.compute().items()}


def test_nothing_kept_and_no_gold() -> None:
    values = one([[0, 0, 1, 1]], [0.5], [])
    assert values["p_at_f1"] == values["n_acc"] == values["p_at_f1/zero"] == 1
    assert all(np.isnan(values[name]) for name in ("t_acc", "miou", "coverage", "center_hit", "p_at_f1/boxed"))


def test_no_predictions_but_gold() -> None:
    values = one([], [], [[0, 0, 1, 1], [2, 2, 3, 3]])
    assert [values[name] for name in ("p_at_f1", "t_acc", "miou", "coverage", "center_hit")] == [0] * 5
    assert np.isnan(values["n_acc"])
    assert np.isnan(values["p_at_f1/single"])
    assert values["p_at_f1/multi"] == 0


def test_an_extra_box_is_wrong_but_covers() -> None:
    values = one([[0, 0, 2, 2], [5, 5, 6, 6]], [0.9, 0.8], [[0, 0, 2, 2]])
    assert values["p_at_f1"] == 0
    assert values["coverage"] == values["center_hit"] == 1
    assert values["miou"] == pytest.approx(4 / 5)


def test_boxes_without_area_count_and_overlap_nothing() -> None:
    values = one([[1, 1, 1, 1]], [0.9], [[1, 1, 1, 3]])
    assert (values["p_at_f1"], values["miou"], values["coverage"], values["center_hit"]) == (0, 0, 0, 1)
    assert one([[1, 1, 1, 1]], [0.9], [[1, 1, 1, 1]], overlap="giou")["p_at_f1"] == 0


def test_optimal_finds_pairs_that_greedy_gives_away() -> None:
    gold = [[0.0, 0, 10, 10], [3.0, 0, 13, 10]]
    boxes = [[0.6, 0, 10.6, 10], [-3.0, 0, 7, 10]]  # the first fits both, best the first; the second fits the first
    assert one(boxes, [0.9, 0.9], gold)["p_at_f1"] == 1
    assert one(boxes, [0.9, 0.9], gold, matching="greedy")["p_at_f1"] == 0


def test_giou_is_stricter() -> None:
    boxes, gold = [[0.0, 0, 3, 4]], [[1.0, 0, 4, 4]]  # IoU exactly .5
    assert one(boxes, [0.9], gold)["p_at_f1"] == 1
    shifted = [[0.4, 0.6, 3.4, 4.6]]
    assert overlap_of(np.array(shifted[0]), np.array(gold[0]), "iou") > 0.5
    assert one(shifted, [0.9], gold)["p_at_f1"] == 1
    assert one(shifted, [0.9], gold, overlap="giou")["p_at_f1"] == 0


def test_no_phrases_at_all() -> None:
    metric = GroundingMetrics()
    metric.update([], [])
    assert all(value.isnan() for value in metric.compute().values())
    assert all(len(values) == 0 for values in phrase_outcomes([], []).values())


def test_inputs_are_left_alone() -> None:
    preds, targets = make_phrases(20, 5)
    before = copy.deepcopy((preds, targets))
    GroundingMetrics().update(preds, targets)
    for kept, now in zip(before[0] + before[1], preds + targets, strict=True):
        assert all(torch.equal(kept[key], now[key]) for key in kept)


def test_half_precision_and_gradients_are_accepted() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1]], dtype=torch.bfloat16, requires_grad=True)
    metric = GroundingMetrics()
    metric.update([{"boxes": boxes, "scores": torch.tensor([0.9], dtype=torch.float16)}], [{"boxes": boxes}])
    assert metric.compute()["p_at_f1"] == 1


@pytest.mark.parametrize(
    ("pred", "gold", "message"),
    [
        ({"boxes": torch.zeros(2, 3), "scores": torch.zeros(2)}, torch.zeros(0, 4), r"preds\[1\].*\(n, 4\).*\(2, 3\)"),
        ({"boxes": torch.zeros(4), "scores": torch.zeros(1)}, torch.zeros(0, 4), r"\(n, 4\), got \(4,\)"),
        ({"boxes": torch.zeros(2, 4), "scores": torch.zeros(3)}, torch.zeros(0, 4), r"scores'\] must be \(2,\)"),
        ({"boxes": torch.zeros(1, 4)}, torch.zeros(0, 4), "no 'scores'"),
        ({"scores": torch.zeros(1)}, torch.zeros(0, 4), "no 'boxes'"),
        ({"boxes": torch.full((1, 4), torch.nan), "scores": torch.ones(1)}, torch.zeros(0, 4), r"preds\[1\].*finite"),
        ({"boxes": torch.zeros(1, 4), "scores": torch.tensor([torch.nan])}, torch.zeros(0, 4), r"preds\[1\].*finite"),
        ({"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}, torch.tensor([[2.0, 0, 1, 1]]), r"targets\[1\].*inv"),
    ],
)
def test_bad_input_is_named(pred: dict[str, Tensor], gold: Tensor, message: str) -> None:
    fine = {"boxes": torch.zeros(1, 4), "scores": torch.zeros(1)}
    metric = GroundingMetrics()
    with pytest.raises(ValueError, match=message):
        metric.update([fine, pred], [{"boxes": torch.zeros(0, 4)}, {"boxes": gold}])
    assert metric.totals.sum() == 0


def test_bad_choices_are_named() -> None:
    with pytest.raises(ValueError, match="iou_threshold"):
        GroundingMetrics(iou_threshold=0)
    with pytest.raises(ValueError, match="overlap must be one of iou, giou, got 'diou'"):
        GroundingMetrics(overlap="diou")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 phrases, targets 1"):
        phrase_outcomes([{}, {}], [{}])


def test_forward_pickle_and_reset() -> None:
    preds, targets = make_phrases(30, 6)
    metric = GroundingMetrics()
    first = metric(preds[:10], targets[:10])
    metric(preds[10:], targets[10:])
    alone = GroundingMetrics()
    alone.update(preds[:10], targets[:10])
    assert torch.equal(first["miou"], alone.compute()["miou"])
    again = pickle.loads(pickle.dumps(metric))  # noqa: S301
    assert torch.equal(again.compute()["miou"], metric.compute()["miou"])
    assert metric.state_dict() == {}
    metric.reset()
    assert metric.totals.sum() == 0


def _rank(rank: int, seed: int) -> None:
    preds, targets = make_phrases(31, seed)
    whole = GroundingMetrics(sync_on_compute=False)
    whole.update(preds, targets)
    for parts in ([slice(0, 20), slice(20, 31)], [slice(0, 31), None]):  # uneven; one rank that never has data
        metric, part = GroundingMetrics(), parts[rank]
        if part:
            metric.update(preds[part], targets[part])
        values = metric.compute()
        for name, expected in whole.compute().items():
            assert torch.equal(values[name], expected), name


def test_ranks_agree_with_one_process_and_one_may_be_empty() -> None:
    on_ranks(_rank, 7)


def test_docstring_example() -> None:
    assert doctest.testmod(medvl.metrics.grounding).failed == 0


def test_two_thousand_phrases_in_under_a_second() -> None:
    preds, targets = make_phrases(200, 8)
    metric = GroundingMetrics(threshold=0.0)
    start = time.perf_counter()
    metric.update(preds * 10, targets * 10)
    metric.compute()
    assert time.perf_counter() - start < 1
