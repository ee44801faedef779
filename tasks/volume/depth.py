"""Where depth positions lie along the patient, and how mass in mm becomes mass on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POINT = 0.5  # mm to either side of an interval without length, so that it has somewhere to lie


@dataclass(frozen=True)
class DepthGrid:
    """The depth positions of a batch of volumes.

    Attributes:
        edges: Float `(B, D + 1)`, mm along the patient, ascending towards the head; position i covers edges i to i + 1;
            those of padding are empty.
        valid: Bool `(B, D)`, False where there is padding only.
    """

    edges: Tensor
    valid: Tensor

    @classmethod
    def of(cls, first_mm: Tensor, spacing_mm: Tensor, slices: Tensor, positions: int, stride: int) -> DepthGrid:
        """Lay positions of `stride` slices over volumes that are padded at their end.

        Args:
            first_mm: `(B,)`, centre of the first slice.
            spacing_mm: `(B,)`, > 0, from slice to slice.
            slices: Long `(B,)`, slices that are no padding.
            positions: Depth positions D of the network's grid.
            stride: Slices that each of them covers.

        Raises:
            ValueError: The positions do not reach the last slice.
        """
        if positions * stride < int(slices.max()):
            raise ValueError(f"{positions} positions of {stride} slices do not cover {int(slices.max())} slices")
        starts = torch.arange(positions + 1, device=first_mm.device) * stride
        reached = torch.minimum(starts[None], slices[:, None])  # the last position may be of fewer slices
        edges = (first_mm - spacing_mm / 2)[:, None] + spacing_mm[:, None] * reached
        return cls(edges, starts[None, :-1] < slices[:, None])

    @property
    def centres(self) -> Tensor:
        """`(B, D)`, mm."""
        return (self.edges[:, 1:] + self.edges[:, :-1]) / 2

    def of_volumes(self, index: Tensor) -> DepthGrid:
        """Return the axes of some volumes, one may be there several times."""
        return DepthGrid(self.edges[index], self.valid[index])


def interval_mass(axis: DepthGrid, intervals: Sequence[Tensor]) -> Tensor:
    """Return how much of each row's weight lies on each valid position, `(B, D)`; rows sum to at most 1.

    What lies outside the volume, or on its padding, is lost; a row with nothing inside is all zeros.

    Args:
        axis: Of `B` rows.
        intervals: For each row `(n, 3)`: start and end in mm, and a weight >= 0; n may be 0.
    """
    rows = torch.tensor([row for row, own in enumerate(intervals) for _ in own], dtype=torch.long).to(axis.edges.device)
    mass = axis.edges.new_zeros(axis.valid.shape)
    if not len(rows):
        return mass
    start, end, weight = torch.cat([own.reshape(-1, 3) for own in intervals]).to(mass).unbind(1)
    short = end - start < 2 * POINT
    middle = (start + end) / 2
    start, end = torch.where(short, middle - POINT, start), torch.where(short, middle + POINT, end)
    low, high = axis.edges[rows, :-1], axis.edges[rows, 1:]
    inside = (torch.minimum(high, end[:, None]) - torch.maximum(low, start[:, None])).clamp_min(0)
    share = inside / (end - start)[:, None] * weight[:, None]
    mass = mass.index_add(0, rows, share * axis.valid[rows])
    whole = mass.new_zeros(len(mass)).index_add(0, rows, weight)
    return mass / whole.clamp_min(torch.finfo(mass.dtype).tiny)[:, None]


def blurred(axis: DepthGrid, mass: Tensor, sigma_mm: float) -> Tensor:
    """Blur masses `(B, D)` along the patient and let each row that has any sum to 1.

    What a position gives away stays on valid positions: the Gaussian of each is normalised over these alone, so a
    snippet at the end of a scan weighs as much as one in its middle.

    Args:
        axis: Of the same rows.
        mass: >= 0, zero on padding.
        sigma_mm: Standard deviation; 0 leaves the masses where they are.
    """
    if sigma_mm > 0:
        distance = axis.centres[:, :, None] - axis.centres[:, None, :]
        kernel = torch.exp(-0.5 * (distance / sigma_mm) ** 2) * axis.valid[:, :, None]
        kernel = kernel / kernel.sum(dim=1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)
        mass = (kernel @ mass[:, :, None]).squeeze(2)
    total = mass.sum(dim=1, keepdim=True)
    return torch.where(total > 0, mass / total.clamp_min(torch.finfo(mass.dtype).tiny), torch.zeros_like(mass))


def quantile(axis: DepthGrid, probability: Tensor, share: float) -> Tensor:
    """Return the depth in mm below which `share` of the probability lies, `(B,)`; within a position it is uniform.

    Of all depths the median has the least expected distance, which is why it is the answer where mm are counted.

    Args:
        axis: Of `B` rows, each with a valid position.
        probability: `(B, D)`, zero on padding, rows sum to 1.
        share: In [0, 1].
    """
    total = torch.cat([probability.new_zeros(len(probability), 1), probability.cumsum(dim=1)], dim=1)
    place = (total[:, 1:] < share).sum(dim=1).clamp(max=probability.shape[1] - 1)[:, None]
    before, own = total.gather(1, place), probability.gather(1, place)
    part = ((share - before) / own.clamp_min(torch.finfo(own.dtype).tiny)).clamp(0, 1)
    low, high = axis.edges.gather(1, place), axis.edges.gather(1, place + 1)
    return (low + part * (high - low)).squeeze(1)


def extents(axis: DepthGrid, probability: Tensor, level: float = 0.5) -> list[list[tuple[float, float]]]:
    """Return, for each row, the stretches in mm where the probability is at least `level` of its peak, best first."""
    found = []
    for edges, row in zip(axis.edges.tolist(), probability.detach(), strict=True):
        high = (row >= level * row.max()) & (row > 0)
        edge = torch.diff(torch.nn.functional.pad(high.to(torch.int8), (1, 1)))
        runs = zip((edge == 1).nonzero().flatten().tolist(), (edge == -1).nonzero().flatten().tolist(), strict=True)
        ranked = sorted(runs, key=lambda run: -float(row[run[0] : run[1]].sum()))
        found.append([(edges[first], edges[last]) for first, last in ranked])
    return found
