"""How alike two studies are by their entities (MedTrim, arXiv 2504.15929), as matrix algebra over distinct entity sets.

Of an anchor with diseases `D_a` and another study with `D_r`, the score is

    gamma_0 J(D_a, D_r) + sum over d in both of (gamma_1 IoU(adjectives of d) + gamma_2 IoU(directions of d)) / |D_a|

where J is the Jaccard index and the IoU of two empty sets is 1. It is asymmetric, as published; the symmetric form is
the mean of both ways round. Two studies without any finding share `no finding`: J = 1, and the score is gamma_0.

Many studies have the same entities, and the score of two studies depends on their entities alone: everything here runs
over distinct sets, ordered so that those of the same diseases (a group) lie side by side.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Profile = Mapping[str, tuple[frozenset[str], frozenset[str]]]
"""What counts of a study: each present disease with its adjectives and its directions."""

NO_FINDING = "no finding"
GAMMA = (0.85, 0.10, 0.05)
CELLS = 1 << 21  # scores held at once
_LONG = 2048


def profile(entities: Iterable[Any]) -> Profile:
    """Return what counts of a study's entities: the present ones, those of one disease merged by union.

    Args:
        entities: Objects or mappings with `disease`, `status`, `adjectives` and `directions` (of mappings,
            the last two may be absent).

    Raises:
        KeyError, AttributeError: One has no disease or no status.
    """
    found: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for entity in entities:
        row = entity if isinstance(entity, Mapping) else {name: getattr(entity, name) for name in _FIELDS}
        disease = row["disease"]
        if row["status"] == "present" and disease != NO_FINDING:
            adjectives, directions = found.get(disease, (frozenset(), frozenset()))
            found[disease] = (adjectives.union(row.get("adjectives", ())), directions.union(row.get("directions", ())))
    return found


_FIELDS = ("disease", "status", "adjectives", "directions")


@dataclass(frozen=True, slots=True)
class Terms:
    """The distinct attributes of one disease.

    Attributes:
        first: Index of its first finding; a finding is a disease with one set of adjectives and one of directions.
        attributes: Adjectives and directions, each `(findings, terms used with the disease)`: 1 where a finding has it.
        counts: How many of these each finding has: `(findings,)`.
        columns: The sets that have the disease.
        findings: Which of its findings each of these has, counted from 0.
    """

    first: int
    attributes: tuple[NDArray[np.float32], NDArray[np.float32]]
    counts: tuple[NDArray[np.float32], NDArray[np.float32]]
    columns: Ints
    findings: Ints


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the diseases of a group of anchors tell of its scores against every group.

    Attributes:
        least: `(groups,)`, the score without attributes.
        most: `(groups,)`, the score if all attributes of the shared diseases were equal.
        share: `(groups,)`, what the attributes of shared diseases are multiplied with.
    """

    least: Floats
    most: Floats
    share: Floats


class EntitySets:
    """The distinct entity sets of some studies, as arrays.

    Args:
        profiles: One per study, see `profile`.

    Attributes:
        of: `(studies,)`, the set of each study.
        group: `(sets,)`, the group of each set: sets of one group have the same diseases.
        starts: `(groups + 1,)`, where the sets of each group begin.
        sizes: `(groups,)`, how many diseases a group has.
        terms: Per disease.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        keys: dict[Hashable, int] = {}
        first_of = [keys.setdefault(_key(one), len(keys)) for one in profiles]
        distinct: list[Any] = list(keys)
        order = sorted(range(len(distinct)), key=lambda i: (tuple(part[0] for part in distinct[i]), distinct[i]))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        self.of: Ints = place[np.asarray(first_of, dtype=np.int64)]
        ordered = [distinct[i] for i in order]
        self._lay_out_groups([tuple(disease for disease, *_ in one) for one in ordered])
        self._lay_out_findings(ordered)

    def __len__(self) -> int:
        return len(self.group)

    def _lay_out_groups(self, diseases: Sequence[tuple[str, ...]]) -> None:
        changes = [i for i, (one, after) in enumerate(pairwise(diseases), 1) if one != after]
        self.starts: Ints = np.array([*([0] if diseases else []), *changes, len(diseases)], dtype=np.int64)
        self.group: Ints = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        groups = [diseases[start] for start in self.starts[:-1]]
        self.sizes: Ints = np.array([len(one) for one in groups], dtype=np.int64)
        self.diseases: list[str] = sorted({disease for one in groups for disease in one})
        number = {disease: i for i, disease in enumerate(self.diseases)}
        columns = [number[disease] for one in groups for disease in one]
        rows = np.repeat(np.arange(len(groups)), self.sizes)
        shape = (len(groups), len(self.diseases))
        self.group_diseases: Any = sparse.csr_array((np.ones(len(columns)), (rows, columns)), shape=shape)

    def _lay_out_findings(self, ordered: Sequence[Any]) -> None:
        """Number the findings disease by disease, and keep which sets have which."""
        lengths = self.sizes[self.group]
        self.ends: Ints = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)  # of each set, in `findings`
        known = sorted({finding for one in ordered for finding in one})
        number = {finding: i for i, finding in enumerate(known)}
        self.findings: Ints = np.array([number[finding] for one in ordered for finding in one], dtype=np.int64)
        firsts = [i for i, finding in enumerate(known) if i == 0 or finding[0] != known[i - 1][0]]
        edges = [*firsts, len(known)]
        self.disease_of: Ints = np.repeat(np.arange(len(firsts)), np.diff(edges))
        sets, diseases = np.repeat(np.arange(len(lengths)), lengths), self.disease_of[self.findings]
        self._keys: Ints = sets * len(firsts) + diseases  # ascending
        self.terms: list[Terms] = []
        for (start, stop), own in zip(pairwise(edges), by_value(diseases), strict=True):
            first, second = (_incidence([one[i] for one in known[start:stop]]) for i in (1, 2))
            counts = first.sum(axis=1), second.sum(axis=1)
            self.terms.append(Terms(start, (first, second), counts, sets[own], self.findings[own] - start))

    def find(self, sets: Ints, diseases: Ints) -> Ints:
        """Return where in `findings` each set has its disease; -1 where it has not."""
        wanted = sets * len(self.terms) + diseases
        place = np.searchsorted(self._keys, wanted)
        return np.where(np.append(self._keys, -1)[place] == wanted, place, -1)


class Similarity:
    """Scores between the sets of an `EntitySets`, in float64.

    Args:
        sets: The sets.
        gamma: Weights of diseases, adjectives and directions.
        symmetric: The mean of both ways round instead of the published score.
    """

    def __init__(self, sets: EntitySets, gamma: tuple[float, float, float] = GAMMA, symmetric: bool = False) -> None:
        self.sets, self.gamma, self.symmetric = sets, gamma, symmetric

    def matrix(self, rows: Ints, columns: Ints) -> Floats:
        """Return the scores of sets as anchors against other sets: `(rows, columns)`."""
        scores = np.empty((len(rows), len(columns)))
        few = max(1, CELLS // max(1, len(columns)))
        for start in range(0, len(rows), few):
            scores[start : start + few] = self._mixed(rows[start : start + few], columns)
        return scores

    def _mixed(self, rows: Ints, columns: Ints) -> Floats:
        sets = self.sets
        of, to = sets.group[rows], sets.group[columns]
        groups, inverse = np.unique(of, return_inverse=True)
        sizes = sets.sizes[groups][:, None]
        shared = np.ascontiguousarray((sets.group_diseases @ sets.group_diseases[groups].toarray().T).T)
        least = self.gamma[0] * _ratio(shared, sizes + sets.sizes - shared)
        scores = self._added(rows, columns)
        scores *= self._share(sets.sizes[of][:, None], sets.sizes[to])
        _add_rows(scores, np.arange(len(rows)), least, inverse, to)
        return scores

    def pairs(self, anchors: Ints, others: Ints) -> Floats:
        """Return the scores of anchors against others, one by one: `(pairs,)`."""
        sets = self.sets
        of, to = sets.sizes[sets.group[anchors]], sets.sizes[sets.group[others]]
        pair = np.repeat(np.arange(len(anchors)), of)
        mine = sets.findings[spans(sets.ends[anchors], of)]
        place = sets.find(others[pair], sets.disease_of[mine])
        pair, mine, theirs = pair[place >= 0], mine[place >= 0], sets.findings[place[place >= 0]]
        added = np.empty(len(pair))
        for part in by_value(sets.disease_of[mine]):
            terms = sets.terms[sets.disease_of[mine[part[0]]]]
            added[part] = self._attributes_of_pairs(terms, mine[part] - terms.first, theirs[part] - terms.first)
        shared = np.bincount(pair, minlength=len(anchors)).astype(np.float64)
        total = np.bincount(pair, weights=added, minlength=len(anchors))
        scores: Floats = self.gamma[0] * _ratio(shared, of + to - shared) + total * self._share(of, to)
        return scores

    def bounds(self, group: int) -> Bounds:
        """Return what the diseases alone tell of the scores of one group's sets as anchors."""
        sets = self.sets
        own = np.zeros(len(sets.diseases))
        own[sets.group_diseases.indices[sets.group_diseases.indptr[group] : sets.group_diseases.indptr[group + 1]]] = 1
        shared: Floats = sets.group_diseases @ own
        least = self.gamma[0] * _ratio(shared, sets.sizes[group] + sets.sizes - shared)
        share = self._share(sets.sizes[group], sets.sizes)
        most = least + (self.gamma[1] + self.gamma[2]) * shared * share
        return Bounds(least, most, np.broadcast_to(share, most.shape))

    def block(self, rows: Ints, columns: Ints, bounds: Bounds | None = None) -> Floats:
        """Return the scores of anchors of one group against sets: `(rows, columns)`.

        Args:
            rows: Sets of one group.
            columns: Sets.
            bounds: Of that group, where they are at hand.
        """
        groups = self.sets.group[columns]
        bounds = bounds or self.bounds(int(self.sets.group[rows[0]]))
        scores = self._added(rows, columns)
        scores *= bounds.share[groups]
        scores += bounds.least[groups]
        return scores

    def _added(self, rows: Ints, columns: Ints) -> Floats:
        """Return what attributes add, summed over the diseases that both have: `(rows, columns)`."""
        sets = self.sets
        many = sets.ends[rows + 1] - sets.ends[rows]
        row, findings = np.repeat(np.arange(len(rows)), many), sets.findings[spans(sets.ends[rows], many)]
        which = np.empty(len(sets), dtype=np.int64)
        added = np.zeros((len(rows), len(columns)))
        for part in by_value(sets.disease_of[findings]):
            terms = sets.terms[sets.disease_of[findings[part[0]]]]
            which.fill(len(terms.counts[0]))  # the column of zeros, for sets without the disease
            which[terms.columns] = terms.findings
            unique, inverse = np.unique(findings[part] - terms.first, return_inverse=True)
            _add_rows(added, row[part], self._attributes(terms, unique), inverse, which[columns])
        return added

    def _share(self, of: Any, to: Any) -> Any:
        """Return what the attributes of shared diseases are multiplied with, for anchors and others of these sizes."""
        share = 1.0 / np.maximum(of, 1)
        return (share + 1.0 / np.maximum(to, 1)) / 2 if self.symmetric else share

    def _attributes(self, terms: Terms, rows: Ints) -> Floats:
        """Return what adjectives and directions of a disease's findings add: `(rows, findings + 1)`, the last 0."""
        table = np.zeros((len(rows), len(terms.counts[0]) + 1))
        for weight, known, counts in zip(self.gamma[1:], terms.attributes, terms.counts, strict=True):
            both = known[rows] @ known.T
            either = counts[rows][:, None] + counts - both
            table[:, :-1] += weight * _ratio(both.astype(np.float64), either)
        return table

    def _attributes_of_pairs(self, terms: Terms, ours: Ints, theirs: Ints) -> Floats:
        added = np.zeros(len(ours))
        for weight, known, counts in zip(self.gamma[1:], terms.attributes, terms.counts, strict=True):
            both = np.einsum("ij,ij->i", known[ours], known[theirs])
            added += weight * _ratio(both.astype(np.float64), counts[ours] + counts[theirs] - both)
        return added


def spans(starts: Ints, lengths: Ints) -> Ints:
    """Return `start, start + 1, ...`, so many each, one span after another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def by_value(values: Ints) -> list[Ints]:
    """Return the indices of each different value, in order."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1) if len(order) else []


def _add_rows(scores: Floats, rows: Ints, table: Floats, which: Ints, columns: Ints) -> None:
    """Add `table[which][:, columns]` to rows of the scores, each of which is there once."""
    if len(columns) < _LONG:
        scores[rows] += table[which].take(columns, axis=1)
        return
    one = np.empty(len(columns))  # what fits into the processor's cache is faster row by row
    for row, line in zip(rows.tolist(), which.tolist(), strict=True):
        table[line].take(columns, out=one, mode="clip")  # any other mode copies
        scores[row] += one


def _ratio(part: Floats, whole: Any) -> Floats:
    """Return `part / whole`, where 0 / 0 is 1."""
    ratio: Floats = np.divide(part, whole, out=np.ones_like(part), where=np.asarray(whole) > 0)
    return ratio


def _key(one: Profile) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    return tuple((disease, tuple(sorted(one[disease][0])), tuple(sorted(one[disease][1]))) for disease in sorted(one))


def _incidence(terms: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
    """Return which of the terms used each finding has: `(findings, terms)`."""
    number = {term: i for i, term in enumerate(sorted({term for one in terms for term in one}))}
    found = np.zeros((len(terms), len(number)), dtype=np.float32)
    for row, one in enumerate(terms):
        found[row, [number[term] for term in one]] = 1
    return found
