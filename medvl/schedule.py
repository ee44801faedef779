"""Learning-rate schedules told in fractions of the run, so that any number of steps works."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from medvl.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then decay to `final`.

    Args:
        warmup: Share of the run in which the rate rises from 0.
        shape: How it falls afterwards. `trapezoid` keeps the peak rate until the cool-down (Zhai et al., arXiv
            2106.04560), then falls linearly.
        final: Share of the peak rate that is left at the end.
        cooldown: Share of the run that the cool-down of a `trapezoid` takes.

    Raises:
        ConfigError: A share lies outside [0, 1], or warm-up and cool-down overlap.
    """

    warmup: float = 0.01
    shape: Literal["cosine", "linear", "constant", "trapezoid"] = "cosine"
    final: float = 0.0
    cooldown: float = 0.3

    def __post_init__(self) -> None:
        tail = self.cooldown if self.shape == "trapezoid" else 0.0
        if min(self.warmup, self.final, tail) < 0 or max(self.warmup + tail, self.final) > 1:
            got = f"warmup {self.warmup:g}, cooldown {self.cooldown:g} and final {self.final:g}"
            hint = "expected shares from 0 to 1, and warm-up and cool-down to fit into one run"
            raise ConfigError(f"no schedule has {got}", where="model.schedule", hint=hint)

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
            case "trapezoid":
                rest = left * (1 - self.warmup) / max(1e-9, self.cooldown)
                return self.final + (1 - self.final) * min(1.0, rest)
            case "cosine":
                return self.final + (1 - self.final) * (1 - math.cos(math.pi * left)) / 2

    def __call__(self, optimizer: Optimizer, steps: int) -> LambdaLR:
        """Return the scheduler of a run of `steps` optimiser steps, to be stepped after each."""
        # Each step takes the rate at its middle, so that neither the first nor the last (nor an only one) is at 0.
        return LambdaLR(optimizer, lambda step: self.factor(min((step + 0.5) / max(1, steps), 1.0)))
