"""Pair scores per second: ours beside MedTrim's score pair by pair in plain Python, and as dense matrix products.

Each scores the same anchors against the same distinct entity sets (see `benchmarks.entity_sets`), every pair of them;
that they agree is asserted. The miner's own speed, in pairs of studies covered per second, stands beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.entity_sets import studies_like_openi
from benchmarks.harness import interleaved, write_result
from ontology.mining import Miner
from ontology.similarity import GAMMA, EntitySets, Ints, Profile, Similarity

STUDIES, ROWS, SAMPLE, ROUNDS = 20_000, 1024, 20_000, 5
_BLOCK = 128  # rows of a dense product: what it makes of them stays in the cache


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `miner-speed.json` and return it."""
    studies, source = studies_like_openi(STUDIES, seed)
    distinct = list({_key(one): one for one in studies.profiles}.values())
    sets = EntitySets(distinct)
    similarity, dense = Similarity(sets), Dense(distinct)
    rng = np.random.default_rng(seed)
    rows, everyone = rng.choice(len(distinct), ROWS, replace=False), np.arange(len(distinct))
    pairs = rng.integers(len(distinct), size=(SAMPLE, 2))
    _assert_equal(similarity, dense, distinct, pairs)
    jobs: dict[str, Callable[[], object]] = {
        "ours": lambda: similarity.matrix(sets.of[rows], everyone),
        "dense-matmul": lambda: dense.scores(rows),
        "python-reference": lambda: [reference(distinct[a], distinct[r]) for a, r in pairs],
    }
    times = interleaved(jobs, ROUNDS)
    sizes = {"ours": ROWS * len(distinct), "dense-matmul": ROWS * len(distinct), "python-reference": SAMPLE}
    speeds = {name: sizes[name] / seconds for name, seconds in times.items()}
    return write_result(
        "miner-speed",
        "pair scores/s",
        speeds["ours"],
        {name: speeds[name] for name in ("python-reference", "dense-matmul")},
        n=ROWS * len(distinct),
        seed=seed,
        dense_ratio=speeds["ours"] / speeds["dense-matmul"],
        miner_pairs_per_s=_mined(studies),
        distinct=len(distinct),
        entities=source,
    )


def _mined(studies: Any) -> float:
    """Return the pairs of studies covered per second when all are mined at the default settings."""
    miner, start = Miner(studies), time.perf_counter()
    miner.mine()
    return float(len(studies) ** 2 / (time.perf_counter() - start))


def reference(anchor: Profile, other: Profile) -> float:
    """Return the published score of a pair."""
    shared, either = anchor.keys() & other.keys(), anchor.keys() | other.keys()
    score = GAMMA[0] * (len(shared) / len(either) if either else 1.0)
    for disease in shared:
        for weight, ours, theirs in zip(GAMMA[1:], anchor[disease], other[disease], strict=True):
            union = ours | theirs
            score += weight * (len(ours & theirs) / len(union) if union else 1.0) / len(anchor)
    return score


class Dense:
    """The score as dense products, disease by disease: every set a 0/1 row of terms, in float32.

    Args:
        profiles: The sets.
    """

    def __init__(self, profiles: list[Profile]) -> None:
        self.has = _incidence([list(one) for one in profiles])
        diseases = sorted({disease for one in profiles for disease in one})
        self.terms = [
            [
                _incidence([sorted(one[disease][i]) if disease in one else [] for one in profiles])
                for disease in diseases
            ]
            for i in (0, 1)
        ]

    def scores(self, rows: Ints) -> NDArray[np.float32]:
        """Return the scores of these sets against all: `(rows, sets)`."""
        return np.concatenate([self._block(rows[i : i + _BLOCK]) for i in range(0, len(rows), _BLOCK)])

    def _block(self, rows: Ints) -> NDArray[np.float32]:
        size = self.has.sum(axis=1)
        scores: NDArray[np.float32] = _iou(self.has[rows], self.has, np.float32(GAMMA[0]))
        for disease in range(self.has.shape[1]):
            mine = self.has[rows, disease] / np.maximum(size[rows], 1)
            if mine.any():
                added = _iou(self.terms[0][disease][rows], self.terms[0][disease], np.float32(GAMMA[1]))
                added += _iou(self.terms[1][disease][rows], self.terms[1][disease], np.float32(GAMMA[2]))
                added *= mine[:, None]
                added *= self.has[:, disease]
                scores += added
        return scores


def _iou(ours: NDArray[np.float32], theirs: NDArray[np.float32], weight: np.float32) -> NDArray[np.float32]:
    both = ours @ theirs.T
    either = ours.sum(axis=1)[:, None] + theirs.sum(axis=1)
    either -= both
    empty = either == 0
    both *= weight
    both[empty] = weight
    either[empty] = 1
    both /= either
    return both


def _incidence(terms: list[list[str]]) -> NDArray[np.float32]:
    number = {term: i for i, term in enumerate(sorted({term for one in terms for term in one}))}
    found = np.zeros((len(terms), len(number)), dtype=np.float32)
    for row, one in enumerate(terms):
        found[row, [number[term] for term in one]] = 1
    return found


def _key(one: Profile) -> frozenset[Any]:
    return frozenset((disease, *terms) for disease, terms in one.items())


def _assert_equal(similarity: Similarity, dense: Dense, profiles: list[Profile], pairs: NDArray[np.int64]) -> None:
    some = pairs[:200]
    expected = [reference(profiles[a], profiles[r]) for a, r in some]
    of = similarity.sets.of
    found = similarity.matrix(of[some[:, 0]], of)[np.arange(len(some)), some[:, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(dense.scores(some[:, 0])[np.arange(len(some)), some[:, 1]], expected, atol=1e-6)
