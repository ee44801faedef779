"""Readers of synthetic films: they draw a box a little differently, and may miss a finding or see one too many."""

from __future__ import annotations

import numpy as np

from datamodules.records import Box

JITTER = 0.012  # standard deviation of a reader's box edges, in shares of the image


def redrawn(box: Box, rng: np.random.Generator, jitter: float = JITTER) -> Box:
    """Return a box as another reader would have drawn it."""
    x1, y1, x2, y2 = np.clip(np.asarray(box) + rng.normal(0, jitter, 4), 0, 1).tolist()
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
