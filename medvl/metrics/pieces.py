"""Integers in states of float32, whose type is the same also on a rank that has seen nothing."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 2**21 - 1


def pieces(values: Tensor) -> Tensor:
    """Return integers of 64 bits as three floats each, `(n, 3)`, of at most 22 bits: float32 holds 24."""
    whole = values.detach().long()
    return torch.stack([whole & _LOW, (whole >> 21) & _LOW, (whole >> 42) & (2 * _LOW + 1)], dim=1).float()


def joined(pieces: Tensor) -> Tensor:
    """Return the integers of which these are the flat pieces, `(n,)`."""
    low, middle, high = pieces.reshape(-1, 3).long().unbind(1)
    return low | (middle << 21) | (high << 42)
