"""What every volume encoder shares: any grid, padding that is never seen, masks on token grids, depth strides.

A batch of volumes is as large as its largest. Encoders that mix places (convolutions, group statistics, shifted
windows) would see how much was added to the smaller ones, so each extent that occurs runs on its own, cut down to whole
cells around what is valid: a volume's features do not depend on its company in the batch. Valid voxels are never cut.
Padding within such a box, or within a cell, is 0 after normalisation; only attention can leave it out altogether.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvl.encoders.base import Features
from medvl.encoders.blocks import masked_mean

Size = tuple[int, int, int]
Run = Callable[[Tensor, Tensor | None], Tensor]
Normalise = Callable[[Tensor, Tensor | None], Tensor]
SPAN = 32  # cells that are one unit of a volume's positions: the finest wave is two cells long, the coarsest 64


class Box(NamedTuple):
    """Cells of a token grid that some volumes of a batch fill.

    Attributes:
        rows: Those volumes.
        cells: A slice per axis.
    """

    rows: list[int]
    cells: tuple[slice, slice, slice]


def encode_volume(run: Run, normalise: Normalise, stride: Size, image: Tensor, valid: Tensor | None) -> Features:
    """Normalise, pad to whole cells, run every extent on its own, and hand back `Features`.

    Args:
        run: Maps `(b, C, d, h, w)`, whole cells, and the mask of their cells `(b, n)`, or None where all are valid, to
            tokens `(b, *grid, width)`.
        normalise: Maps volumes and their mask `(B, D, H, W)` to what the network takes, 0 on padding; each voxel by
            itself, for it may be called on a part.
        stride: Voxels per token.
        image: `(B, C, D, H, W)` of any size.
        valid: Bool `(B, D)` or `(B, D, H, W)`.
    """
    size = _size(image)
    grid = cells_of(size, stride)
    mask = volume_mask(valid, len(image), grid, stride, image.device)
    if valid is None:
        tokens = run(_whole(normalise(image, None), stride), None)
    else:
        seen = _spread(valid).expand(-1, *size)
        tokens = _by_extent(run, normalise, image, seen, mask.view(-1, *grid), stride)
    tokens = tokens.flatten(1, 3)
    return Features(tokens, mask, masked_mean(tokens, mask), grid)


def _by_extent(run: Run, normalise: Normalise, image: Tensor, seen: Tensor, mask: Tensor, stride: Size) -> Tensor:
    """Run `(B, C, D, H, W)` box by box and return tokens `(B, *grid, width)`, 0 outside the boxes.

    All that touches voxels does so here, piece by piece: a copy of a whole batch of volumes is slow.
    """
    tokens = None
    for rows, cells in boxes(mask):
        ds, hs, ws = (slice(cut.start * n, cut.stop * n) for cut, n in zip(cells, stride, strict=True))
        inside = mask[rows, cells[0], cells[1], cells[2]].flatten(1)
        piece = normalise(image[rows, :, ds, hs, ws], seen[rows, ds, hs, ws])
        found = run(_whole(piece, stride), None if inside.all() else inside)
        if len(rows) == len(image) and found.shape[1:4] == mask.shape[1:]:
            return found
        if tokens is None:
            tokens = found.new_zeros(*mask.shape, found.shape[-1])
        tokens[rows, cells[0], cells[1], cells[2]] = found
    if tokens is None:
        raise ValueError("expected at least one volume")
    return tokens


def _whole(x: Tensor, stride: Size) -> Tensor:
    """Pad `(B, C, D, H, W)` to whole cells."""
    return F.pad(x, [n for axis in (2, 1, 0) for n in (0, -x.shape[axis + 2] % stride[axis])])


def boxes(mask: Tensor) -> list[Box]:
    """Return the smallest boxes around the True cells of `(B, d, h, w)`, volumes with the same one together."""
    sides = []
    for axis in (1, 2, 3):
        seen = mask.transpose(1, axis).flatten(2).any(dim=2).long()  # (B, n): argmax finds the first of the largest
        sides += [seen.argmax(dim=1), seen.shape[1] - seen.flip(1).argmax(dim=1)]
    found: dict[tuple[int, ...], list[int]] = {}
    for row, bounds in enumerate(torch.stack(sides, dim=1).tolist()):
        found.setdefault(tuple(bounds), []).append(row)
    return [Box(rows, (slice(*b[:2]), slice(*b[2:4]), slice(*b[4:]))) for b, rows in found.items()]


def volume_mask(valid: Tensor | None, batch: int, grid: Size, stride: Size, device: torch.device) -> Tensor:
    """Tell which cells of a token grid saw at least one valid voxel.

    Args:
        valid: Bool `(B, D)` or `(B, D, H, W)`, or None when every voxel is content.
        batch: `B`.
        grid: `(d, h, w)`.
        stride: Voxels per cell; the last cell of an axis may reach past the volume.
        device: Where the mask is wanted.

    Returns:
        Bool `(B, d * h * w)` with at least one True per row, also for a volume that is all padding.
    """
    if valid is None:
        return torch.ones(batch, math.prod(grid), dtype=torch.bool, device=device)
    seen = _spread(valid)
    for axis, step in enumerate(stride, start=1):
        if seen.shape[axis] > 1:
            short = -seen.shape[axis] % step
            seen = torch.unflatten(F.pad(seen, [0, 0] * (3 - axis) + [0, short]), axis, (-1, step)).any(dim=axis + 1)
    mask = seen.expand(-1, *grid).flatten(1)
    empty = ~mask.any(dim=1, keepdim=True)
    return mask | (empty & (torch.arange(mask.shape[1], device=mask.device) == 0))


def cells_of(size: Size, stride: Size) -> Size:
    """Return how many cells cover a volume, the last of each axis perhaps in part."""
    depth, height, width = (-(-n // step) for n, step in zip(size, stride, strict=True))
    return depth, height, width


def depth_steps(model: nn.Module, run: Callable[[], object], side: int, depth_stride: int) -> dict[str, int]:
    """Choose by how much each convolution and pooling strides in depth, so that all of them together make the total.

    A layer that halves the plane halves depth too until `depth_stride` is reached; layers on parallel paths see maps of
    the same size, and so agree.

    Args:
        model: A 2D or 3D network.
        run: Runs it on one square or cubic input.
        side: Of that input.
        depth_stride: The most that depth is divided by.

    Returns:
        Depth strides by module name, of those that stride in the plane.
    """
    layers = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)
    steps: dict[str, int] = {}

    def note(name: str, step: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            before = side // inputs[0].shape[-1]
            steps[name] = max(1, min(before * step, depth_stride) // min(before, depth_stride))

        return hook

    strides = {name: last(m.stride) for name, m in model.named_modules() if isinstance(m, layers)}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(note(name, step))
        for name, step in strides.items()
        if step > 1
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return steps


def last(value: int | tuple[int, ...] | None) -> int:
    """Return the last of a layer's sizes along the axes, or its only one."""
    return value[-1] if isinstance(value, tuple) else int(value or 1)


def _size(image: Tensor) -> Size:
    depth, height, width = image.shape[2:]
    return depth, height, width


def _spread(valid: Tensor) -> Tensor:
    return valid[:, :, None, None] if valid.ndim == 2 else valid
