"""Weighted statistics beside plain ones of repeated items, and average precision beside its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medvl.metrics.neighbours import average_precision
from medvl.metrics.weighted import weighted_auc, weighted_means, weighted_median

RNG = np.random.default_rng(3)


def plain_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    pairs = scores[positive][:, None] - scores[~positive][None]
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_weights_are_repetitions(count: int) -> None:
    values = np.round(RNG.normal(size=count), 1)  # with ties
    values[count // 2] = np.nan if count > 2 else values[count // 2]
    weights = RNG.integers(0, 3, size=(5, count)).astype(np.float64)
    weights[0] = 1
    positive = RNG.random(count) < 0.5
    means = weighted_means(values[None], weights)[:, 0]
    for row, (median, area) in enumerate(
        zip(weighted_median(values, weights), weighted_auc(values, positive, weights), strict=True)
    ):
        index = np.repeat(np.arange(count), weights[row].astype(int))
        index = index[~np.isnan(values[index])]
        some = values[index]
        assert median == pytest.approx(np.median(some) if len(some) else np.nan, nan_ok=True)
        assert means[row] == pytest.approx(some.mean() if len(some) else np.nan, nan_ok=True)
        right = positive[index]
        expected = plain_auc(some, right) if right.any() and not right.all() else np.nan
        assert area == pytest.approx(expected, nan_ok=True)


def test_nothing_is_no_number() -> None:
    nothing, weights = np.full(3, np.nan), np.ones((2, 3))
    for found in (weighted_median(nothing, weights), weighted_auc(nothing, np.array([True, False, True]), weights)):
        assert found.shape == (2,)
        assert np.isnan(found).all()


def test_average_precision_is_divided_by_its_rank() -> None:
    vectors = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(1))
    places = torch.arange(30)
    found = average_precision(
        vectors,
        vectors,
        lambda block: labels[block, None] == labels,
        (5, 10, 40),
        lambda block: places[block, None] == places,
        chunk=7,
    )
    unit = torch.nn.functional.normalize(vectors, dim=1)
    for query in range(30):
        order = [one for one in (unit @ unit[query]).argsort(descending=True).tolist() if one != query]
        for column, k in enumerate((5, 10)):
            hits, total = 0, 0.0
            for place, one in enumerate(order[:k], start=1):
                if labels[one] == labels[query]:
                    hits += 1
                    total += hits / place
            assert found[query, column] == pytest.approx(total / k, abs=1e-6)
    assert found[:, 2].isnan().all()


def test_equal_embeddings_reach_chance_however_files_are_sorted() -> None:
    vectors, labels = torch.ones(400, 3), torch.arange(400) < 40
    found = average_precision(vectors, vectors, lambda block: labels[block, None] & labels, (20,))
    expected = sum((1 + (i - 1) * 39 / 399) / i for i in range(1, 21)) * 0.1 / 20  # of a random order
    assert float(found[labels].mean()) == pytest.approx(expected, abs=0.05)
    assert average_precision(vectors[:0], vectors, lambda block: labels[block, None] & labels, (5,)).shape == (0, 1)
