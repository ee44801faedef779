"""Confidence intervals that respect patients: phrases of one patient are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS = 4_000_000  # multinomial counts held at once: 32 MB


class Interval(NamedTuple):
    """A mean with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def patient_bootstrap(
    values: ArrayLike,
    patients: ArrayLike,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    weights: ArrayLike | None = None,
) -> Interval:
    """Mean of `values` and its percentile interval, resampling whole patients.

    The cluster bootstrap (Davison & Hinkley 1997, §3.8): each draw takes as many patients as there are, with
    replacement, and divides the sum of their values by the sum of their weights.

    Args:
        values: `(n_phrases,)`; a NaN leaves its phrase out, so that a subset is a matter of NaN.
        patients: `(n_phrases,)`, any labels.
        n: Draws.
        seed: Of the draws: the same input gives the same interval.
        level: Coverage of the interval.
        weights: `(n_phrases,)`, for example boxes per phrase; 1 each if not given.

    Returns:
        Mean, low and high. The mean is NaN when no phrase is left, the bounds are when fewer than two patients are.

    Raises:
        ValueError: When the lengths differ, or `n` or `level` makes no sense.
    """
    value = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=np.float64)
    patient = np.asarray(patients)
    if not value.shape == weight.shape == patient.shape or value.ndim != 1:
        raise ValueError(f"values {value.shape}, patients {patient.shape} and weights {weight.shape} must be one (n,)")
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"n must be at least 1 and level in (0, 1), got n={n}, level={level}")
    used = ~np.isnan(value) & (weight > 0)
    if not used.any():
        return Interval(np.nan, np.nan, np.nan)
    names, cluster = np.unique(patient[used], return_inverse=True)
    sums = np.zeros((len(names), 2))
    np.add.at(sums, cluster, np.stack([value * weight, weight], axis=1)[used])
    mean = float(np.divide(*sums.sum(axis=0)))
    if len(names) < 2:
        return Interval(mean, np.nan, np.nan)
    low, high = np.quantile(_resample(sums, n, seed), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    weights: ArrayLike | None = None,
) -> Interval:
    """Mean of `first - second` on the same phrases, and its interval: whether two models differ.

    Both are compared on the same drawn patients, which cancels how hard these are. Arguments, result and errors are
    those of `patient_bootstrap`; a phrase that is NaN in either is left out.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape:
        raise ValueError(f"first {one.shape} and second {two.shape} must score the same phrases")
    return patient_bootstrap(one - two, patients, n, seed, level, weights)


def bootstrap_statistics(
    statistics: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    patients: ArrayLike,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    items: int = 0,
) -> list[Interval]:
    """Several statistics on the same draws of whole patients, with percentile intervals: for what is no ratio of sums.

    Args:
        statistics: Takes weights `(draws, n_phrases)`, how often each phrase is drawn, and returns `(draws, k)`; NaN
            where a draw does not define a statistic.
        patients: `(n_phrases,)`, any labels.
        n: Draws.
        seed: Of the draws: the same patients and seed give the same draws.
        level: Coverage of the intervals.
        items: Length of the arrays that `statistics` works on, to bound its memory.

    Returns:
        `k` intervals about the values on all phrases; the bounds are NaN when fewer than two patients are there, or no
        draw defines the statistic.
    """
    names, cluster = np.unique(np.asarray(patients), return_inverse=True)
    whole = statistics(np.ones((1, len(cluster))))[0]
    if len(names) < 2:
        return [Interval(float(value), np.nan, np.nan) for value in whole]
    step = max(1, _DRAWS // max(len(cluster), items))
    drawn = np.concatenate([statistics(counts[:, cluster]) for counts in _counts(len(names), n, seed, step)])
    return [_interval(float(value), column, level) for value, column in zip(whole, drawn.T, strict=True)]


def _interval(value: float, drawn: NDArray[np.float64], level: float) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(defined):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _counts(clusters: int, n: int, seed: int, step: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each cluster is drawn, `(up to step, clusters)` at a time, `n` in all."""
    rng, share = np.random.default_rng(seed), np.full(clusters, 1 / clusters)
    for start in range(0, n, step):
        yield rng.multinomial(clusters, share, size=min(step, n - start)).astype(np.float64)


def _resample(sums: NDArray[np.float64], n: int, seed: int) -> NDArray[np.float64]:
    """Return `n` draws of the ratio of the two columns' sums: how often each patient is drawn is multinomial."""
    step = max(1, _DRAWS // len(sums))
    drawn = np.concatenate([counts @ sums for counts in _counts(len(sums), n, seed, step)])
    ratio: NDArray[np.float64] = drawn[:, 0] / drawn[:, 1]
    return ratio
