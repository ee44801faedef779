"""How far from the truth a depth was answered, in mm along the patient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from medvl.metrics.pieces import joined, pieces

WITHIN_MM = (12, 24)
EPS = 1e-6  # of a probability, so that its logit is finite


def depth_errors(mm: Tensor, intervals: Sequence[Tensor]) -> Tensor:
    """Return the distance to the nearest interval of each snippet, 0 inside one; NaN for a snippet without, `(S,)`.

    Args:
        mm: Answers `(S,)`.
        intervals: For each `(n, 2 or more)`: start and end in mm, start <= end.
    """
    found = torch.full_like(mm, torch.nan)
    for row, (answer, own) in enumerate(zip(mm, intervals, strict=True)):
        if len(own):
            start, end = own[:, 0].to(mm), own[:, 1].to(mm)
            found[row] = torch.maximum(start - answer, answer - end).clamp_min(0).min()
    return found


def worst_errors(scans: Tensor, intervals: Sequence[Tensor]) -> Tensor:
    """Return the largest error that an answer inside the scan could have, `(S,)`; NaN for a snippet without interval.

    Args:
        scans: `(S, 2)`, lower and upper end in mm of each snippet's scan.
        intervals: As in `depth_errors`.
    """
    return torch.maximum(depth_errors(scans[:, 0], intervals), depth_errors(scans[:, 1], intervals))


class LocalisationMetrics(Metric):
    """Depth error of snippets, in true mm, with what the model does not dare to answer counted against it.

    `mae`, `median`, `within_12`, `within_24` (shares) are over snippets that the scan shows; where the model says "not
    in this scan" (`present` below the threshold) the error is the largest that an answer inside the scan could have.
    `mae_scans` is the mean over scans of their own mean. `abstained` is the share of shown snippets that were denied,
    `mae_answered` the error of those that were not. `denied_absent` is the share of snippets that the scan does not
    show that were denied, and rightly so; `auroc_absent` ranks them among all.

    Args:
        threshold: Of `present`, below which nothing is answered; 0 answers always.
        silence: Calibrates: the logits of `present` are shifted by `shift`, a figure more, so that this share of the
            shown snippets is denied.
    """

    full_state_update = False

    def __init__(self, threshold: float = 0.5, silence: float | None = None) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        if silence is not None and not (0 <= silence <= 1 and 0 < threshold < 1):
            raise ValueError(f"silence must be in [0, 1], and threshold inside (0, 1), got {silence} and {threshold}")
        self.threshold, self.silence = threshold, silence
        self.rows: list[Tensor]  # flat: error, worst error, present and three pieces of the scan's number
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, mm: Tensor, present: Tensor, intervals: Sequence[Tensor], extent: Tensor, scan: Tensor) -> None:
        """Add `S` snippets.

        Args:
            mm: Answers `(S,)`.
            present: Probability that the scan shows it `(S,)`.
            intervals: For each `(n, 2 or more)`: start and end in mm of where it is; n = 0 where the scan has none.
            extent: `(S, 2)`, lower and upper end in mm of each snippet's scan.
            scan: Long `(S,)`, the same number for snippets of one scan.

        Raises:
            ValueError: The lengths differ, or an answer is not finite.
        """
        if not len(mm) == len(present) == len(intervals) == len(extent) == len(scan):
            raise ValueError("answers, probabilities, intervals, extents and scans differ in number")
        if not torch.isfinite(mm).all():
            raise ValueError("an answer is not finite")
        columns = [depth_errors(mm, intervals), worst_errors(extent, intervals), present]
        self.rows.append(torch.cat([torch.stack(columns, dim=1).float(), pieces(scan)], dim=1).flatten())

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of all ranks; NaN where there is nothing to judge."""
        rows = (dim_zero_cat(self.rows) if len(self.rows) else torch.zeros(0)).reshape(-1, 6)
        error, worst, present = rows[:, :3].double().unbind(1)
        shown, found = ~error.isnan(), {}
        if self.silence is not None:
            found["shift"] = self._shift(present[shown], self.silence)
            present = (present.logit(EPS) + found["shift"]).sigmoid()
        answered = shown & (present >= self.threshold)
        counted = torch.where(answered, error, worst)[shown]
        found |= {"mae": counted.mean(), "median": counted.quantile(0.5) if len(counted) else counted.mean()}
        found |= {f"within_{mm}": (answered & (error <= mm))[shown].double().mean() for mm in WITHIN_MM}
        found["mae_scans"] = _mean_of_means(counted, joined(rows[shown, 3:]))
        found["mae_answered"], found["abstained"] = error[answered].mean(), (~answered)[shown].double().mean()
        found["denied_absent"] = (present < self.threshold)[~shown].double().mean()
        both = bool(shown.any() and (~shown).any())
        nothing = error.new_tensor(torch.nan)
        found["auroc_absent"] = binary_auroc(1 - present, (~shown).long()).double() if both else nothing
        return found

    def _shift(self, present: Tensor, silence: float) -> Tensor:
        """Return how far the logits must move for a share of them to fall below the threshold's."""
        if not len(present):
            return present.new_zeros(())
        threshold = math.log(self.threshold / (1 - self.threshold))
        return threshold - present.logit(EPS).quantile(silence)


def _mean_of_means(values: Tensor, groups: Tensor) -> Tensor:
    _, place, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    means: Tensor = values.new_zeros(len(counts)).index_add(0, place, values) / counts
    return means.mean()
