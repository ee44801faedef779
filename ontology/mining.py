"""Triplets of studies for MedTrim (arXiv 2504.15929): mined exactly over whole splits, or in batches as published.

The positive of an anchor is the study most similar to it; its negative lies in [tau_min, tau_max): the most similar
there (`hardest`), any (`random`), or the least similar (`least`, as the public code has it). Neither is of the anchor's
patient, and all three are of one split. Where several studies are equally good, one of them is drawn: from the seed and
the epoch, alike whatever the machine, anew at each epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from medvl.errors import ConfigError, nearest
from ontology.candidates import Batches, Request, Split, draws
from ontology.search import TOLERANCE, Aim
from ontology.similarity import GAMMA, Floats, Ints, by_value
from ontology.studies import Studies

_SLOPES = {"hardest": 1, "random": 0, "least": -1}
_SOMETHING = 1e-6  # least score of a positive: it shares something with its anchor
Progress = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """How triplets are mined; the defaults are those of the paper, but for scope and negatives.

    Attributes:
        gamma: Weights of diseases, adjectives and directions in the score.
        symmetric: Score both ways round and take the mean.
        tau_min: Least score of a negative.
        tau_max: What its score must stay below.
        scope: Among all studies of a split, or within batches drawn anew at each epoch.
        negatives: Which in that range.
        fallback: Of an anchor without a negative in the range: no triplet, or the most similar study below `tau_min`.
        gap: By how much the positive must be more similar than the negative at least; 0 lets them be equally similar.
        batch_size: Studies in a batch, for that scope.
        seed: Of everything drawn.
    """

    gamma: tuple[float, float, float] = GAMMA
    symmetric: bool = False
    tau_min: float = 0.25
    tau_max: float = 0.6
    scope: Literal["dataset", "batch"] = "dataset"
    negatives: Literal["hardest", "random", "least"] = "hardest"
    fallback: Literal["skip", "below"] = "skip"
    gap: float = 0.0
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise what does not fit.

        Raises:
            ConfigError: A setting is out of its range.
        """
        if len(self.gamma) != 3 or not min(self.gamma) >= 0 or not 0 < sum(self.gamma) < float("inf"):
            raise ConfigError(f"gamma is {self.gamma}", hint="expected three weights, 0 or more, not all 0")
        if not 0 <= self.tau_min < self.tau_max:
            taus = f"tau_min {self.tau_min} and tau_max {self.tau_max}"
            raise ConfigError(taus, hint="expected 0 <= tau_min < tau_max")
        for name in ("scope", "negatives", "fallback"):
            known = get_args(get_type_hints(Settings)[name])
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", hint=nearest(str(getattr(self, name)), known))
        if not self.gap >= 0 or self.batch_size < 3 or self.seed < 0:
            found = f"gap {self.gap}, batch_size {self.batch_size}, seed {self.seed}"
            raise ConfigError(found, hint="expected a gap and a seed of 0 or more, and 3 studies or more in a batch")


@dataclass(frozen=True, slots=True)
class Triplets:
    """Mined triplets, by anchor in the order of the studies.

    Attributes:
        anchor: `(triplets,)`, which study.
        positive: Likewise.
        negative: Likewise.
        positive_score: `(triplets,)`, of the positive with the anchor.
        negative_score: Likewise.
        counts: Anchors per case, of all studies: `in range` and `below` have a triplet; `no positive` (no study of
            another patient shares anything) and `no negative` have none. Of those with one: `equal scores`, whose
            negative is as similar as the positive, and `positive below tau_max`.
    """

    anchor: Ints
    positive: Ints
    negative: Ints
    positive_score: Floats
    negative_score: Floats
    counts: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.anchor)

    def reuse(self) -> dict[str, dict[str, float]]:
        """Return how many studies are positives, and in how many triplets each; the same for negatives."""
        found = {}
        for name, studies in (("positive", self.positive), ("negative", self.negative)):
            times = np.unique(studies, return_counts=True)[1]
            spread = {"mean": float(times.mean()), "max": int(times.max())} if len(times) else {"mean": 0.0, "max": 0}
            found[name] = {"studies": len(times), **spread}
        return found


class Miner:
    """Mines the same studies again and again; what does not change between epochs is made once.

    Args:
        studies: The studies.
        settings: How.
    """

    def __init__(self, studies: Studies, settings: Settings | None = None) -> None:
        self.studies, self.settings = studies, settings or Settings()
        self.rows = by_value(studies.splits)
        self.splits = [self._split(rows) for rows in self.rows]

    def _split(self, rows: Ints) -> Split:
        patients = np.unique(self.studies.patients[rows], return_inverse=True)[1]
        profiles = [self.studies.profiles[i] for i in rows]
        return Split(profiles, patients, self.settings.gamma, self.settings.symmetric)

    def mine(self, epoch: int = 0, progress: Progress = lambda served: None) -> Triplets:
        """Return the triplets of an epoch.

        Args:
            epoch: Ties, random negatives and batches are drawn anew for each.
            progress: Called with numbers of anchors that have been given a study or none, up to three times for each.
        """
        count = len(self.studies)
        chosen, scores = np.full((2, count), -1), np.full((2, count), np.nan)
        below = np.zeros(count, dtype=np.bool_)
        for rows, split in zip(self.rows, self.splits, strict=True):
            among = self._among(split, (self.settings.seed, epoch, int(rows[0])))
            found, scores[:, rows], below[rows] = self._pairs(among, len(rows), epoch, int(rows[0]), progress)
            chosen[:, rows] = np.where(found >= 0, rows[found], -1)
        return self._triplets(chosen, scores, below)

    def _among(self, split: Split, key: tuple[int, ...]) -> Split | Batches:
        return split if self.settings.scope == "dataset" else Batches(split, self.settings.batch_size, *key)

    def _pairs(
        self, among: Split | Batches, count: int, epoch: int, first: int, progress: Progress
    ) -> tuple[Ints, Floats, NDArray[np.bool_]]:
        """Return positive and negative of each study, their scores, and which negatives lie below the range."""
        given = self.settings

        def find(step: int, aim: Aim, anchors: Ints, ceilings: Floats, taken: Ints) -> tuple[Ints, Floats]:
            numbers = draws(count, given.seed, epoch, first, step)
            return among.find(Request(aim, anchors, ceilings, taken, numbers), progress)

        free, nobody = np.full(count, np.inf), np.full(count, -1)
        positive, best = find(1, Aim(_SOMETHING, np.inf), np.arange(count), free, nobody)
        ceilings = best - given.gap if given.gap else free
        anchors = np.flatnonzero(positive >= 0)
        aim = Aim(given.tau_min, given.tau_max, _SLOPES[given.negatives])
        negative, score = find(2, aim, anchors, ceilings, positive)
        below = np.zeros(count, dtype=np.bool_)
        if given.fallback == "below":
            anchors = anchors[negative[anchors] < 0]
            last, less = find(3, Aim(0.0, given.tau_min), anchors, ceilings, positive)
            negative[anchors], score[anchors], below[anchors] = last[anchors], less[anchors], last[anchors] >= 0
        return np.stack([positive, negative]), np.stack([best, score]), below

    def _triplets(self, chosen: Ints, scores: Floats, below: NDArray[np.bool_]) -> Triplets:
        kept = np.flatnonzero(chosen[1] >= 0)
        first, second = scores[:, kept]
        counts = {
            "studies": len(below),
            "distinct": sum(len(split.size) for split in self.splits),
            "in range": int((~below[kept]).sum()),
            "below": int(below[kept].sum()),
            "no positive": int((chosen[0] < 0).sum()),
            "no negative": int(((chosen[0] >= 0) & (chosen[1] < 0)).sum()),
            "equal scores": int((first - second <= TOLERANCE).sum()),
            "positive below tau_max": int((first < self.settings.tau_max - TOLERANCE).sum()),
        }
        return Triplets(kept, chosen[0, kept], chosen[1, kept], first, second, counts)


def mine(studies: Studies, settings: Settings | None = None, epoch: int = 0) -> Triplets:
    """Return the triplets of an epoch; for several epochs a `Miner` is quicker."""
    return Miner(studies, settings).mine(epoch)
