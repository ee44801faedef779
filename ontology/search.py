"""Which sets are most, least or anyhow similar to an anchor within a range of scores: exact, without scoring all pairs.

The diseases of two groups of sets bound every score between them (`Similarity.bounds`), from below by their Jaccard
index and from above by equal attributes. Groups are looked at in the order of what they could offer at best, until none
that is left could do better or as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ontology.similarity import CELLS, Bounds, Floats, Ints, Similarity, spans

TOLERANCE = 1e-9  # scores closer than this are equal: they are the same fraction, summed in another order
_FIRST, _GROWTH = 512, 4  # sets looked at before the first question whether that was enough, and how many more then


@dataclass(frozen=True, slots=True)
class Aim:
    """What is looked for: scores in [`low`, `high`).

    Attributes:
        low: Least score.
        high: What scores must stay below.
        slope: 1 for the most similar, -1 for the least similar, 0 for any.
    """

    low: float
    high: float
    slope: int = 1

    def values(self, scores: Floats, ceilings: Floats) -> Floats:
        """Return how good scores are: the better the larger, -inf outside the range.

        Args:
            scores: `(rows, columns)`.
            ceilings: `(rows,)`, scores above which are out, too.
        """
        high = np.minimum(self.high - TOLERANCE, ceilings + TOLERANCE)
        inside = (scores >= self.low - TOLERANCE) & (scores < high[:, None])
        return np.where(inside, self.slope * scores, -np.inf)

    def promises(self, bounds: Bounds, ceiling: float) -> Floats:
        """Return how good the scores with each group can be at best: `(groups,)`, -inf where none is in the range."""
        high = min(self.high, ceiling + 2 * TOLERANCE)
        best = np.minimum(bounds.most, high) if self.slope > 0 else self.slope * np.maximum(bounds.least, self.low)
        inside = (bounds.most >= self.low - TOLERANCE) & (bounds.least < high)
        return np.where(inside, best, -np.inf)


@dataclass(frozen=True, slots=True)
class Hidden:
    """Sets that a row may not be given.

    Attributes:
        rows: Rows, ascending.
        columns: A set for each of them.
    """

    rows: Ints
    columns: Ints

    def mask(self, values: Floats, rows: Ints, columns: Ints) -> None:
        """Set to -inf what is hidden in `values` `(rows, columns)`; rows and columns ascend."""
        first, last = np.searchsorted(self.rows, rows), np.searchsorted(self.rows, rows, side="right")
        which = spans(first, last - first)
        if not len(which):
            return
        at = np.searchsorted(columns, self.columns[which])
        met = np.append(columns, -1)[at] == self.columns[which]
        values[np.repeat(np.arange(len(rows)), last - first)[met], at[met]] = -np.inf


def search(similarity: Similarity, sets: Ints, ceilings: Floats, hidden: Hidden, aim: Aim) -> tuple[Ints, Ints]:
    """Return the best sets for anchors of one group, all that are equally good.

    Args:
        similarity: Of the sets.
        sets: `(rows,)`, the anchors' sets, of one group.
        ceilings: `(rows,)`, see `Aim.values`.
        hidden: Sets that rows may not be given.
        aim: What is looked for.

    Returns:
        Rows and sets of the ties, by row and then by set; a row for which nothing is in the range is not among them.
    """
    index = similarity.sets
    bounds = similarity.bounds(int(index.group[sets[0]]))
    promises = aim.promises(bounds, float(ceilings.max()))
    groups = np.flatnonzero(np.isfinite(promises))
    groups = groups[np.argsort(-promises[groups], kind="stable")]
    ends = np.diff(index.starts)[groups].cumsum()
    best = np.full(len(sets), -np.inf)
    ties: list[tuple[Ints, Ints, Floats]] = []
    done, many = 0, _FIRST if aim.slope else len(index)  # where any will do, none is better
    while done < len(groups):
        rows = np.flatnonzero(best <= promises[groups[done]] + TOLERANCE)
        if not len(rows):
            break
        seen = ends[done - 1] if done else 0
        stop = min(int(np.searchsorted(ends, seen + many)) + 1, len(groups))
        columns = _sets_of(index.starts, np.sort(groups[done:stop]))
        few = max(1, CELLS // len(columns))
        for start in range(0, len(rows), few):
            some = rows[start : start + few]
            values = aim.values(similarity.block(sets[some], columns, bounds), ceilings[some])
            hidden.mask(values, some, columns)
            ties.append(_ties(values, some, columns, best))
        done, many = stop, many * _GROWTH
    return _last(ties, best)


def _sets_of(starts: Ints, groups: Ints) -> Ints:
    return spans(starts[groups], starts[groups + 1] - starts[groups])


def _ties(values: Floats, rows: Ints, columns: Ints, best: Floats) -> tuple[Ints, Ints, Floats]:
    """Raise `best` of these rows to what is found, and return rows, sets and values of what is as good."""
    best[rows] = np.maximum(best[rows], values.max(axis=1))
    tied: NDArray[np.bool_] = values >= np.maximum(best[rows] - TOLERANCE, np.finfo(np.float64).min)[:, None]
    row, column = np.nonzero(tied)
    return rows[row], columns[column], values[row, column]


def _last(ties: list[tuple[Ints, Ints, Floats]], best: Floats) -> tuple[Ints, Ints]:
    """Return the ties that are as good as the best in the end."""
    if not ties:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*ties, strict=True))
    kept = values >= best[rows] - TOLERANCE
    rows, columns = rows[kept], columns[kept]
    order = np.lexsort((columns, rows))
    return rows[order], columns[order]
