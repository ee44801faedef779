"""Does finding depths cost what the whole volume says? Retrieval and diseases with the depths' loss and without it.

Both train the quickstart with the same seeds and steps, and differ in the weight of that loss alone (without it the
heads of depths are never used, and left away); the last weights of each are tested, on another twin whose studies are
all test, so that a difference of points can be seen. R@10 is that of a study among `pool` drawn at random: the chance
that at most nine of the others come before the right one, which is exact and does not depend on how large the twin is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import hypergeom

from benchmarks import harness
from benchmarks.training import trainings
from benchmarks.volume_localization import UNTOLD, elsewhere, train, twins
from medvl.metrics.bootstrap import Interval, bootstrap_statistics
from medvl.metrics.boxes import Array
from medvl.metrics.weighted import weighted_auc, weighted_means
from medvl.viz.figure import bar_figure
from tasks.volume.scans import FILE, ScanResult, read_scans

ARMS = {"with": (), "without": UNTOLD}
RECALL_AT = (1, 5, 10)
WAYS = ("i2t", "t2i")


def run(
    seed: int = 0,
    seeds: int = 3,
    steps: int = 1700,
    studies: int = 2000,
    test_studies: int = 1200,
    pool: int = 100,
    size: int = 0,
    keep: str = "",
) -> dict[str, Any]:
    """Train with and without the depths' loss; some 25 minutes of one core for each training.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each is trained.
        steps: Training steps of each.
        studies: Of the twin that is trained on.
        test_studies: Of the twin that is tested on.
        pool: Studies among which the right one is sought.
        size: Voxels across a slice; 0 is the twin's own.
        keep: Folder where trainings are kept; those of volume-localization are found there.
    """
    with trainings(keep) as done:
        twin, other = twins(done, studies, test_studies, seed, size)
        on = ("--ckpt_path", "last", *elsewhere(other))
        runs: dict[str, list[list[ScanResult]]] = {name: [] for name in ARMS}
        for one in range(seed, seed + seeds):
            for name, options in ARMS.items():
                found = train(done, twin, one, steps, *options)
                runs[name].append(read_scans(done.tested(found, f"predictions/{FILE}", *on)))
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "commits": sorted(done.commits)}
    arms = {name: Arm.of(results, pool) for name, results in runs.items()}
    return write(arms, [one.patient for one in runs["with"][0]], seed, budget | {"pool": pool})


@dataclass(frozen=True)
class Arm:
    """The runs of one arm with several seeds, on the same studies.

    Attributes:
        recall: `(seeds, studies)` by K, the mean of both ways.
        scores: `(seeds, studies, classes)`, margins of the prompts.
        labels: `(studies, classes)`.
    """

    recall: dict[int, Array]
    scores: Array
    labels: Array

    @classmethod
    def of(cls, runs: Sequence[Sequence[ScanResult]], pool: int) -> Arm:
        """Judge each run; all are of the same volumes in the same order.

        Raises:
            ValueError: They are not.
        """
        if any([one.volume for one in run] != [one.volume for one in runs[0]] for run in runs):
            raise ValueError("the runs are of other volumes")
        similar = [_similarity(run) for run in runs]
        recall = {
            k: np.array([(pooled_recall(one, k, pool) + pooled_recall(one.T, k, pool)) / 2 for one in similar])
            for k in RECALL_AT
        }
        classes = sorted(runs[0][0].labels)
        scores = np.array([[[one.scores[name] for name in classes] for one in run] for run in runs])
        return cls(recall, scores, np.array([[one.labels[name] for name in classes] for one in runs[0]]))

    def statistics(self, weights: Array) -> Array:
        """Return R@1, R@5, R@10 and macro AUC for how often each study is drawn, `(draws, 4)`."""
        recall = weighted_means(np.stack([found.mean(axis=0) for found in self.recall.values()]), weights)
        both = [at for at, gold in enumerate(self.labels.T) if {0, 1} <= set(gold.tolist())]
        areas = [
            weighted_auc(np.where(self.labels[:, at] >= 0, run[:, at], np.nan), self.labels[:, at] == 1, weights)
            for run in self.scores
            for at in both
        ]
        known = np.stack(areas, axis=1) if areas else np.full((len(weights), 1), np.nan)
        means = weighted_means(known, np.ones((1, known.shape[1]))).T
        return np.concatenate([recall, means], axis=1)


def pooled_recall(similarity: Array, k: int, pool: int) -> Array:
    """Return how probable it is that the right key, that of the diagonal, is among the first K of a random pool.

    Args:
        similarity: `(queries, keys)`, as many of each.
        k: Places that count.
        pool: Keys in the pool, the right one among them; all where there are fewer.
    """
    own = np.diag(similarity)[:, None]
    others = len(similarity) - 1
    before = (similarity > own).sum(axis=1) + ((similarity == own).sum(axis=1) - 1) // 2  # of ties a half
    found: Array = hypergeom.cdf(k - 1, others, before, min(pool - 1, others))
    return found


def write(arms: dict[str, Arm], patients: Sequence[str], seed: int, budget: dict[str, Any]) -> dict[str, Any]:
    """Compare, draw and write the result; differences are in points, above 0 where the loss helps."""
    names = [*(f"r@{k}" for k in RECALL_AT), "auc"]

    def statistics(weights: Array) -> Array:
        first, second = (arms[name].statistics(weights) for name in ARMS)
        return np.concatenate([first, second, 100 * (first - second)], axis=1)

    found = bootstrap_statistics(statistics, patients, n=1000, items=4 * len(patients))
    rows = [dict(zip(names, found[at : at + len(names)], strict=True)) for at in range(0, len(found), len(names))]
    told, untold, points = rows
    print(markdown(told, untold, points))
    bars = {
        f"{name}, {arm}": row[name] for name in ("r@10", "auc") for arm, row in (("with", told), ("without", untold))
    }
    bar_figure(harness.RESULTS / "volume-joint.png", "With and without the depths' loss", bars, "R@10 and AUC")
    return harness.write_result(
        "volume-joint",
        unit="R@10 among studies drawn at random, both ways, and macro AUC by prompts",
        ours={name: interval.mean for name, interval in told.items()},
        peers={"without": {name: interval.mean for name, interval in untold.items()}},
        n=len(patients),
        seed=seed,
        r10_difference=points["r@10"].mean,
        r10_difference_low=points["r@10"].low,
        auc_difference=points["auc"].mean,
        auc_difference_low=points["auc"].low,
        goal=-2.0,
        **budget,
        chance_r10=10 / min(budget["pool"], len(patients)),
        intervals={
            kind: {name: list(interval) for name, interval in row.items()}
            for kind, row in (("with", told), ("without", untold), ("points", points))
        },
        by_seed={name: _by_seed(arm) for name, arm in arms.items()},
    )


def markdown(told: dict[str, Interval], untold: dict[str, Interval], points: dict[str, Interval]) -> str:
    """Return a table with a row per figure."""
    rows = ["| | with | without | difference, points |", "|---|---|---|---|"]
    for name in told:
        cells = [f"{row[name].mean:.3f} ({row[name].low:.3f}–{row[name].high:.3f})" for row in (told, untold)]
        gain = points[name]
        rows.append(f"| {name} | {' | '.join(cells)} | {gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f}) |")
    return "\n".join(rows)


def _similarity(run: Sequence[ScanResult]) -> Array:
    """Return cosines of volumes `(n)` and the reports of the same studies `(n)`."""
    reports = [one.report for one in run if one.report is not None]
    if len(reports) != len(run):
        raise ValueError("a study has no report")
    found: Array = (torch.stack([one.vector for one in run]).double() @ torch.stack(reports).double().T).numpy()
    return found


def _by_seed(arm: Arm) -> list[dict[str, float]]:
    """Return R@10 and macro AUC of each seed."""
    even = np.ones((1, len(arm.labels)))
    areas = [float(Arm(arm.recall, run[None], arm.labels).statistics(even)[0, -1]) for run in arm.scores]
    return [{"r@10": float(found.mean()), "auc": area} for found, area in zip(arm.recall[10], areas, strict=True)]
