"""What crosses ranks. Every function is the identity on a single process."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Return this process's rank."""
    return dist.get_rank() if is_distributed() else 0


def mean_over_ranks(value: Tensor) -> Tensor:
    """Average `value` over the ranks, without gradient.

    A sum divided by the *mean* of a normaliser, then averaged over ranks by DDP, equals the one-process loss:
    `mean_r(sum_r / mean_r(n_r)) = sum / n`.
    """
    if not is_distributed():
        return value.detach()
    reduced = value.detach().clone()
    dist.all_reduce(reduced)
    return reduced / world_size()


def gather_objects(items: list[T]) -> list[T]:
    """Concatenate the lists of primitives of all ranks, in rank order, on every rank."""
    if not is_distributed():
        return items
    parts: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]
