"""Depth errors of a model, or of several seeds of one, over snippets, each with a patient-bootstrap interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray

from medvl.metrics.bootstrap import Interval, bootstrap_statistics
from medvl.metrics.boxes import Array
from medvl.metrics.localisation import WITHIN_MM, depth_errors, worst_errors
from medvl.metrics.weighted import weighted_auc, weighted_means, weighted_median
from tasks.volume.predictions import SnippetResult

SIZES = {"under_12": (0, 12), "12_to_24": (12, 24), "24_to_48": (24, 48), "over_48": (48, np.inf)}  # mm
RESOLUTIONS = (3, 6, 12, 24)  # mm


@dataclass(frozen=True)
class Judged:
    """The answers of a model about the same snippets, once or with several seeds.

    Attributes:
        means: `(S,)` by figure, averaged over seeds; NaN where a snippet does not count. `mae`, `within_12` and
            `within_24` (shares) count silence about a snippet that the scan shows as its worst error, as
            `LocalisationMetrics` does; `always/...` are of the depth that is named all the same. `abstained` is the
            share denied of snippets that the scan shows, `denied_absent` of those that it does not. `mae@12mm` is that
            of answers moved to the middle of a grid of 12 mm that begins where the scan does, as a network of that
            resolution gives them. `organ/NAME/...` and `size/NAME/...` (longest stretch of the finding, mm) break down.
        errors: `(seeds, S)`, mm, with silence counted; NaN where the scan does not show it.
        answered: The same of the depth named.
        present: `(seeds, S)`, probability that the scan shows it.
        shown: `(S,)`, whether it does.
        share: `(S,)`, one over the number of shown snippets of the scan.
        patients: `(S,)`.
    """

    means: dict[str, Array]
    errors: Array
    answered: Array
    present: Array
    shown: NDArray[np.bool_]
    share: Array
    patients: NDArray[np.str_]

    @classmethod
    def of(cls, *runs: Sequence[SnippetResult], threshold: float = 0.5) -> Judged:
        """Judge runs that speak of the same snippets in the same order.

        Args:
            runs: Of each seed.
            threshold: Of `present`, below which nothing is answered.

        Raises:
            ValueError: They speak of others.
        """
        keys = [[(one.volume, one.gold, one.organ, one.finding) for one in run] for run in runs]
        if any(other != keys[0] for other in keys):
            raise ValueError("the runs speak of other snippets")
        first = runs[0]
        gold = [torch.tensor(one.gold, dtype=torch.float64).reshape(-1, 3) for one in first]
        scans = torch.tensor([one.scan for one in first], dtype=torch.float64).reshape(-1, 2)
        mm = torch.tensor([[one.mm for one in run] for run in runs], dtype=torch.float64)
        present = np.array([[one.present for one in run] for run in runs], dtype=np.float64)
        worst, shown = worst_errors(scans, gold).numpy(), np.array([bool(one.gold) for one in first], dtype=np.bool_)
        always = np.stack([depth_errors(row, gold).numpy() for row in mm])
        denied = present < threshold
        errors = np.where(denied, worst, always)
        columns = {"": errors, "always/": always}
        means: dict[str, Array] = {"abstained": _share(denied, shown), "denied_absent": _share(denied, ~shown)}
        for kind, values in columns.items():
            silent = denied & (kind == "")
            means[f"{kind}mae"] = values.mean(axis=0)
            means |= {f"{kind}within_{near}": _share((values <= near) & ~silent, shown) for near in WITHIN_MM}
        for step in RESOLUTIONS:
            moved = torch.stack([_on_grid(row, scans, step) for row in mm])
            means[f"mae@{step}mm"] = np.mean([depth_errors(row, gold).numpy() for row in moved], axis=0)
        for name, mask in _groups(first):
            means |= {f"{name}/{key}": np.where(mask, means[key], np.nan) for key in ("mae", "within_24")}
        scan_of = [(one.patient, one.volume) for one in first]  # of several data sets, names alone may be the same
        counts = Counter(compress(scan_of, shown))
        share = np.array([1 / max(counts[key], 1) for key in scan_of], dtype=np.float64)
        patients = np.array([one.patient for one in first], dtype=np.str_)
        return cls(means, errors, always, present, shown, share, patients)

    @property
    def names(self) -> list[str]:
        """The figures, in the order of `statistics`."""
        return [*self.means, "mae_scans", "median", "always/median", "auroc_absent"]

    def statistics(self, draws: Array) -> Array:
        """Return every figure for how often each snippet is drawn: `(draws, S)` to `(draws, figures)`."""
        columns = [
            weighted_means(np.stack(list(self.means.values())), draws),
            weighted_means(self.errors.mean(axis=0)[None], draws * self.share),
        ]
        seeds = range(len(self.errors))
        columns += [
            np.mean([weighted_median(rows[seed], draws) for seed in seeds], axis=0)[:, None]
            for rows in (self.errors, self.answered)
        ]
        areas = [weighted_auc(-self.present[seed], ~self.shown, draws) for seed in seeds]
        return np.concatenate([*columns, np.mean(areas, axis=0)[:, None]], axis=1)

    def figures(self, draws: int = 1000) -> dict[str, Interval]:
        """Return every figure with its interval, resampling patients."""
        found = bootstrap_statistics(self.statistics, self.patients, n=draws, items=4 * len(self.shown))
        return dict(zip(self.names, found, strict=True))


def in_the_middle(results: Sequence[SnippetResult]) -> list[SnippetResult]:
    """Answer the middle of the scan, always."""
    return [replace(one, mm=sum(one.scan) / 2, present=1.0) for one in results]


def anywhere(results: Sequence[SnippetResult], seed: int) -> list[SnippetResult]:
    """Answer a depth of the scan drawn at random."""
    rng = np.random.default_rng(seed)
    return [replace(one, mm=float(rng.uniform(*one.scan)), present=1.0) for one in results]


def _share(hits: NDArray[np.bool_], shown: NDArray[np.bool_]) -> Array:
    return np.where(shown, hits.mean(axis=0), np.nan)


def _on_grid(mm: torch.Tensor, scans: torch.Tensor, step: float) -> torch.Tensor:
    """Move answers `(S,)` to the middle of their position on a grid of `step` mm, inside the scan."""
    low, high = scans.unbind(1)
    return torch.minimum(low + (torch.floor((mm - low) / step) + 0.5) * step, high)


def _groups(results: Sequence[SnippetResult]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield organs and finding sizes with the shown snippets that are of them."""
    organs = np.array([one.organ if one.gold else "" for one in results], dtype=np.str_)
    yield from ((f"organ/{name}", organs == name) for name in sorted(set(organs.tolist()) - {""}))
    size = np.array([max((high - low for low, high, _ in one.gold), default=-1.0) for one in results])
    for name, (least, most) in SIZES.items():
        mask = (size >= least) & (size < most)
        if mask.any():
            yield f"size/{name}", mask
