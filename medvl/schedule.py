"""Learning-rate schedules told in fractions of the run, so that any number of steps works."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then decay to `final`.

    Args:
        warmup: Share of the run in which the rate rises from 0.
        shape: How it falls afterwards.
        final: Share of the peak rate that is left at the end.
    """

    warmup: float = 0.01
    shape: Literal["cosine", "linear", "constant"] = "cosine"
    final: float = 0.0

    def factor(self, progress: float) -> float:
        """Return the multiple of the peak rate at `progress` in [0, 1] of the run."""
        if progress < self.warmup:
            return progress / self.warmup
        left = 1 - min(1.0, (progress - self.warmup) / max(1e-9, 1 - self.warmup))
        match self.shape:
            case "constant":
                return 1.0
            case "linear":
                return self.final + (1 - self.final) * left
            case "cosine":
                return self.final + (1 - self.final) * (1 - math.cos(math.pi * left)) / 2

    def __call__(self, optimizer: Optimizer, steps: int) -> LambdaLR:
        """Return the scheduler of a run of `steps` optimiser steps, to be stepped after each."""
        # Each step takes the rate at its middle, so that neither the first nor the last (nor an only one) is at 0.
        return LambdaLR(optimizer, lambda step: self.factor(min((step + 0.5) / max(1, steps), 1.0)))
