"""Statistics that are no ratio of sums, over many draws at once: for `medvl.metrics.bootstrap.bootstrap_statistics`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medvl.metrics.boxes import Array


def weighted_means(values: Array, weights: Array) -> Array:
    """Return the mean of each row for each draw, `(draws, rows)`; a NaN leaves its item out.

    Args:
        values: `(rows, items)`.
        weights: `(draws, items)`, >= 0.
    """
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = (weights @ np.where(known, values, 0).T) / (weights @ known.astype(np.float64).T)
    return means


def weighted_median(values: Array, weights: Array) -> Array:
    """Return the median for each draw, `(draws,)`, as if each item were there as often as its weight says.

    Args:
        values: `(items,)`; a NaN leaves its item out.
        weights: `(draws, items)`, whole numbers >= 0.
    """
    kept = np.flatnonzero(~np.isnan(values))
    order = kept[np.argsort(values[kept], kind="stable")]
    total = weights[:, order].cumsum(axis=1)
    if not len(order):
        return np.full(len(weights), np.nan)
    half = total[:, -1:] / 2
    below, above = ((values[order][test.argmax(axis=1)]) for test in (total >= half, total > half))
    return np.where(half[:, 0] > 0, (below + above) / 2, np.nan)


def weighted_auc(scores: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Return the area under the ROC curve for each draw, ties counted half, `(draws,)`; NaN where a side is missing.

    Args:
        scores: `(items,)`; NaN leaves an item out.
        positive: `(items,)`.
        weights: `(draws, items)`, >= 0.
    """
    kept = np.flatnonzero(~np.isnan(scores))
    order = kept[np.argsort(scores[kept], kind="stable")]
    if not len(order):
        return np.full(len(weights), np.nan)
    drawn, right = weights[:, order], positive[order]
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    ours, theirs = (np.add.reduceat(drawn * part, starts, axis=1) for part in (right, ~right))
    beaten = theirs.cumsum(axis=1) - theirs / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Array = (ours * beaten).sum(axis=1) / (ours.sum(axis=1) * theirs.sum(axis=1))
    return area
