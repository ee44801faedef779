"""The base of metrics that are ratios of sums: exact, and the same however phrases fall on ranks and batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from medvl.metrics.boxes import Array

# Gold counts, as rows of the sums: 0, 1, and 2 for two or more.
SUBSETS = {"zero": [0], "single": [1], "multi": [2], "boxed": [1, 2]}
_UNIT = 2**32


class SumMetric(Metric):
    """Adds rows of values up in a table of sums.

    The sums are integers in units of 2**-32, so that they do not depend on the order of addition, and live on every
    accelerator (some have no float64). Enough for 2**31 phrases.

    Args:
        rows: Rows of the table.
        columns: Columns of the table.
        kwargs: Passed to `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    totals: Tensor

    def __init__(self, rows: int, columns: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("totals", torch.zeros(rows, columns, dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, rows: NDArray[np.int64], values: Array) -> None:
        """Add values `(n, columns)` to rows `(n,)`; NaN adds nothing."""
        added = np.zeros(self.totals.shape, dtype=np.int64)
        np.add.at(added, rows, np.rint(np.nan_to_num(values) * _UNIT).astype(np.int64))
        self.totals += torch.from_numpy(added).to(self.totals.device)

    def _sums(self) -> Array:
        """Return the table `(rows, columns)`."""
        sums: Array = self.totals.cpu().numpy() / _UNIT
        return sums

    def _scalars(self, values: Mapping[str, float]) -> dict[str, Tensor]:
        return {name: torch.tensor(value, device=self.totals.device) for name, value in values.items()}


def ratio(top: float, bottom: float) -> float:
    """Return `top / bottom`, NaN where nothing was counted."""
    return float(top / bottom) if bottom else float("nan")
