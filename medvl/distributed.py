"""What crosses ranks. Every function is the identity on a single process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad

T = TypeVar("T")


_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Cross no ranks inside: in a step of evaluation, of which ranks may take different numbers, others would wait."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return not _alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


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


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of all that is trained over the ranks, in place, as DDP does; one that is missing is 0."""
    if not is_distributed():
        return
    grads = []
    for parameter in parameters:
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
            grads.append(parameter.grad)
    works = [dist.all_reduce(grad, async_op=True) for grad in grads]
    for work, grad in zip(works, grads, strict=True):
        if work is not None:
            work.wait()
        grad /= world_size()


class Gathered(NamedTuple):
    """The rows of all ranks.

    Attributes:
        rows: `(N, ...)`, in rank order.
        start: Where this rank's own rows begin.
    """

    rows: Tensor
    start: int


def gather_with_grad(rows: Tensor) -> Gathered:
    """Concatenate rows `(n, ...)` of all ranks, on every rank; ranks may hold different numbers of rows, also none.

    The gradient of a row is summed over all ranks, so that a loss of own rows against everyone's, divided by
    `mean_over_ranks` of the count of rows, gets from DDP the gradient of one process. Every rank must let the result
    take part in its loss: the backward pass is a collective too.
    """
    if not is_distributed():
        return Gathered(rows, 0)
    sizes = gather_sizes(len(rows), rows.device)
    gathered: Tensor = _Gather.apply(rows, sizes)  # type: ignore[no-untyped-call]
    return Gathered(gathered, sum(sizes[: rank()]))


def gather_sizes(size: int, device: torch.device) -> list[int]:
    """Return the `size` of every rank."""
    own = torch.tensor([size], device=device)
    parts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(parts, own)
    return [int(one) for one in torch.cat(parts).tolist()]


class _Gather(torch.autograd.Function):
    """All-gather of rows, padded to the longest rank on the way; backward sums over ranks and keeps the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.own = slice(sum(sizes[: rank()]), sum(sizes[: rank() + 1]))
        padded = pad(rows, [0, 0] * (rows.ndim - 1) + [0, max(sizes) - len(rows)]).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        summed = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed[ctx.own], None
