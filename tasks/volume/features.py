"""A frozen encoder runs once over all volumes, and what it found is kept for `Precomputed`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import VolumeBatch
from medvl.encoders.base import ImageEncoder
from medvl.io.features import StoredFeatures, write_features
from medvl.io.volume import DepthAxis


@torch.inference_mode()
def precompute(batches: Iterable[VolumeBatch], encoder: ImageEncoder, folder: str | Path, pool: int = 1) -> int:
    """Write the tokens of every volume into `folder`, without those of padding; return how many volumes there were.

    Args:
        batches: Of any datamodule of volumes, for example `data.predict_dataloader()`.
        encoder: Any 3D encoder that says its `stride`.
        folder: For `data.features`.
        pool: Tokens along height and width that are averaged into one; RadFinder's windows are 8 of its tokens wide.

    Raises:
        ValueError: The encoder has no 3D grid.
    """
    stride, count = int(getattr(encoder, "stride", (0,))[0]), 0
    device = next(encoder.parameters()).device
    encoder.eval()
    for batch in batches:
        found = encoder(batch.volumes.to(device), batch.valid.to(device))
        if found.grid is None or len(found.grid) != 3 or not stride:
            raise ValueError(f"{type(encoder).__name__} gives no grid of depths")
        masks = found.mask.view(-1, *found.grid)
        for at, (path, mask) in enumerate(zip(batch.paths, masks, strict=True)):
            deep, high, wide = (int(where.max()) + 1 for where in mask.nonzero(as_tuple=True))
            grid = found.tokens[at].view(*found.grid, -1)[:deep, :high, :wide].movedim(-1, 0)
            grid = pooled(grid, mask[:deep, :high, :wide], pool)
            first, step = float(batch.first_mm[at]), float(batch.step_mm[at])
            depth = DepthAxis(first + step * (stride - 1) / 2, step * stride, deep)
            write_features(Path(folder) / path, StoredFeatures(grid, depth))
            count += 1
    return count


def pooled(grid: Tensor, mask: Tensor, pool: int) -> Tensor:
    """Average `(C, D, H, W)` over `pool` × `pool` tokens of the plane, those of padding left out."""
    if pool == 1:
        return grid
    cell = (1, pool, pool)
    held, seen = (F.avg_pool3d(one[None], cell, ceil_mode=True)[0] for one in (grid * mask, mask[None].to(grid)))
    return held / seen.clamp_min(torch.finfo(grid.dtype).tiny)
