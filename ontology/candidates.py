"""Who may serve whom: the studies of a split, as a whole or in batches, and a draw among equally good ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ontology.search import TOLERANCE, Aim, Hidden, search
from ontology.similarity import CELLS, EntitySets, Floats, Ints, Profile, Similarity, spans

_ROUNDS = 8  # draws that may meet the anchor's own patient before the others are listed


@dataclass(frozen=True, slots=True)
class Request:
    """What to find, for whom; all arrays are by study.

    Attributes:
        aim: What is looked for.
        anchors: Studies to find one for.
        ceilings: `(studies,)`, scores above which are out for an anchor; equal where the entities are.
        taken: `(studies,)`, a study that an anchor may not be given; -1 for none.
        draws: `(rounds + 1, studies)`, uniform in [0, 1).
    """

    aim: Aim
    anchors: Ints
    ceilings: Floats
    taken: Ints
    draws: Floats

    def __post_init__(self) -> None:
        """Check the number of rounds."""
        if len(self.draws) != _ROUNDS + 1:
            raise ValueError(f"expected {_ROUNDS + 1} rows of draws")


def draws(count: int, *key: int) -> Floats:
    """Return the numbers of a `Request`, a function of the key."""
    return np.random.default_rng(key).random((_ROUNDS + 1, count))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Anchors by what they share: sets by ascending number, and the anchors of each row."""

    sets: Ints
    hidden: Hidden
    anchors: Ints
    starts: Ints  # of each row in `anchors`, and the end


class Split:
    """The studies of one split, any of which may serve any other.

    Args:
        profiles: One per study.
        patients: `(studies,)`, a number per patient.
        gamma: See `Similarity`.
        symmetric: Likewise.
    """

    def __init__(
        self, profiles: Sequence[Profile], patients: Ints, gamma: tuple[float, float, float], symmetric: bool
    ) -> None:
        self.similarity = Similarity(EntitySets(profiles), gamma, symmetric)
        self.of = self.similarity.sets.of
        self.patients = patients
        self.members, self.first, self.size = _grouped(self.of, len(self.similarity.sets))
        self.visits, self.first_visit, self.n_visits = _grouped(patients, int(patients.max(initial=-1)) + 1)
        own = patients[self.members]
        low, high = (each.reduceat(own, self.first) for each in (np.minimum, np.maximum))
        self.sole = np.where(low == high, low, -1)  # of a set: the patient who alone has it

    def find(self, request: Request, progress: Callable[[int], Any] = lambda served: None) -> tuple[Ints, Floats]:
        """Return a study for each anchor, drawn evenly from the best, and its score: `(studies,)`, -1 where none is.

        A study of the anchor's patient and the one it has already are passed over.
        """
        chosen = np.full(len(self.of), -1)
        left = self._serve(self._by_set(request.anchors), request, chosen, progress)
        if len(left):  # all that are best for their entities are of their own patient, or taken
            self._serve(self._one_by_one(left, request.taken), request, chosen, lambda served: None)
        scores = np.full(len(self.of), np.nan)
        found = np.flatnonzero(chosen >= 0)
        scores[found] = self.similarity.pairs(self.of[found], self.of[chosen[found]])
        return chosen, scores

    def _by_set(self, anchors: Ints) -> _Rows:
        """Return a row for each set; where only one patient has it, the sets that only he has are hidden."""
        ordered = anchors[np.argsort(self.of[anchors], kind="stable")]
        sets, starts = np.unique(self.of[ordered], return_index=True)
        order = np.argsort(self.sole, kind="stable")
        patient = self.sole[sets]
        first, last = (np.searchsorted(self.sole[order], patient, side=side) for side in ("left", "right"))
        many = np.where(patient >= 0, last - first, 0)
        hidden = Hidden(np.repeat(np.arange(len(sets)), many), order[spans(first, many)])
        return _Rows(sets, hidden, ordered, np.append(starts, len(ordered)))

    def _one_by_one(self, anchors: Ints, taken: Ints) -> _Rows:
        """Return a row for each anchor; sets of which nothing is left for it are hidden."""
        ordered = anchors[np.argsort(self.of[anchors], kind="stable")]
        columns = [self._exhausted(int(anchor), int(taken[anchor])) for anchor in ordered]
        rows = np.repeat(np.arange(len(ordered)), [len(one) for one in columns])
        hidden = Hidden(rows, np.concatenate(columns))
        return _Rows(self.of[ordered], hidden, ordered, np.arange(len(ordered) + 1))

    def _exhausted(self, anchor: int, taken: int) -> Ints:
        patient = self.patients[anchor]
        start = self.first_visit[patient]
        out = self.visits[start : start + self.n_visits[patient]]
        if taken >= 0 and self.patients[taken] != patient:
            out = np.append(out, taken)
        sets, counts = np.unique(self.of[out], return_counts=True)
        exhausted: Ints = sets[counts == self.size[sets]]
        return exhausted

    def _serve(self, rows: _Rows, request: Request, chosen: Ints, progress: Callable[[int], Any]) -> Ints:
        """Write what is drawn into `chosen`; return the anchors whose best are all out."""
        left = []
        for start, stop in self._chunks(rows.sets):
            first, last = np.searchsorted(rows.hidden.rows, (start, stop))
            hidden = Hidden(rows.hidden.rows[first:last] - start, rows.hidden.columns[first:last])
            anchors = rows.anchors[rows.starts[start] : rows.starts[stop]]
            ceilings = request.ceilings[rows.anchors[rows.starts[start:stop]]]
            ties = search(self.similarity, rows.sets[start:stop], ceilings, hidden, request.aim)
            row = np.repeat(np.arange(stop - start), np.diff(rows.starts[start : stop + 1]))
            left.append(self._draw(*ties, row, anchors, request, chosen))
            progress(len(anchors))
        return np.concatenate(left) if left else np.zeros(0, dtype=np.int64)

    def _chunks(self, sets: Ints) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows of one group, so short that all their ties fit into memory."""
        groups = self.similarity.sets.group[sets]
        few = max(1, 4 * CELLS // max(1, len(self.size)))
        edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(sets)] if len(sets) else []
        for start, stop in pairwise(edges):
            yield from ((some, min(some + few, stop)) for some in range(start, stop, few))

    def _draw(self, rows: Ints, sets: Ints, row: Ints, anchors: Ints, request: Request, chosen: Ints) -> Ints:
        """Give each anchor one of the studies tied in its row; return those who found ties, but none for them.

        Args:
            rows: Of the ties, ascending.
            sets: Of the ties.
            row: Of the anchors.
            anchors: Studies.
            request: What was asked for.
            chosen: Where to write.
        """
        many = self.size[sets]
        ends = many.cumsum()
        total = np.bincount(rows, weights=many, minlength=int(row.max()) + 1).astype(np.int64)
        before = total.cumsum() - total
        row, anchors = row[total[row] > 0], anchors[total[row] > 0]
        for numbers in request.draws[:-1]:
            if not len(anchors):
                return anchors
            at = before[row] + (numbers[anchors] * total[row]).astype(np.int64)
            tie = np.searchsorted(ends, at, side="right")
            study = self.members[self.first[sets[tie]] + at - (ends[tie] - many[tie])]
            fits = (self.patients[study] != self.patients[anchors]) & (study != request.taken[anchors])
            chosen[anchors[fits]] = study[fits]
            row, anchors = row[~fits], anchors[~fits]
        none = []
        for number, anchor in zip(row, anchors, strict=True):
            first, last = np.searchsorted(rows, (number, number + 1))
            pool = self.members[spans(self.first[sets[first:last]], many[first:last])]
            pool = pool[(self.patients[pool] != self.patients[anchor]) & (pool != request.taken[anchor])]
            if len(pool):
                chosen[anchor] = pool[int(request.draws[-1, anchor] * len(pool))]
            else:
                none.append(anchor)
        return np.array(none, dtype=np.int64)


class Batches:
    """The studies of one split in batches, as the public code has them: a study may serve those of its batch.

    Args:
        split: The split.
        size: Studies in a batch; the last may have fewer.
        key: What the batches are drawn from.
    """

    def __init__(self, split: Split, size: int, *key: int) -> None:
        self.split = split
        order = np.random.default_rng(key).permutation(len(split.of))
        self.batch = np.full((-(-len(order) // size), size), -1)
        self.batch.flat[: len(order)] = order
        self.batch_of = np.empty(len(order), dtype=np.int64)
        self.batch_of[order] = np.arange(len(order)) // size

    def find(self, request: Request, progress: Callable[[int], Any] = lambda served: None) -> tuple[Ints, Floats]:
        """Return a study for each anchor and its score, as `Split.find` does."""
        chosen, scores = np.full(len(self.batch_of), -1), np.full(len(self.batch_of), np.nan)
        few = max(1, CELLS // self.batch.shape[1])
        for start in range(0, len(request.anchors), few):
            anchors = request.anchors[start : start + few]
            self._find(anchors, request, chosen, scores)
            progress(len(anchors))
        return chosen, scores

    def _find(self, anchors: Ints, request: Request, chosen: Ints, scores: Floats) -> None:
        split = self.split
        others = self.batch[self.batch_of[anchors]]
        width = others.shape[1]
        found = split.similarity.pairs(np.repeat(split.of[anchors], width), split.of[others.ravel()])
        found = found.reshape(others.shape)
        values = request.aim.values(found, request.ceilings[anchors])
        own = split.patients[others] == split.patients[anchors][:, None]
        values[own | (others < 0) | (others == request.taken[anchors][:, None])] = -np.inf
        best = values.max(axis=1, keepdims=True)
        tied = np.isfinite(values) & (values >= best - TOLERANCE)
        count = tied.sum(axis=1)
        which = (request.draws[0, anchors] * count).astype(np.int64)
        at = (tied.cumsum(axis=1) <= which[:, None]).sum(axis=1).clip(max=width - 1)
        some = np.flatnonzero(count)
        chosen[anchors[some]], scores[anchors[some]] = others[some, at[some]], found[some, at[some]]


def _grouped(values: Ints, count: int) -> tuple[Ints, Ints, Ints]:
    """Return the indices ordered by value, where each value's begin, and how many there are."""
    sizes = np.bincount(values, minlength=count)
    return np.argsort(values, kind="stable"), sizes.cumsum() - sizes, sizes
