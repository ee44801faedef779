"""A small volume encoder that starts from random weights and needs no file: for quickstarts, tests and small data."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medvl.encoders.base import Features, ImageEncoder
from medvl.encoders.blocks import Block, FourierPositions, Normalise, masked_mean
from medvl.encoders.tiny import GREY
from medvl.encoders.volumes import SPAN, encode_volume


class _Factorised(nn.Module):
    """Pre-activation residual block whose convolutions act in the plane, then in depth.

    Tran et al. 2018, "A closer look at spatiotemporal convolutions": 12 weights in place of 27. Both are written as
    convolutions of 2D maps, which one thread runs two to three times as fast as the same ones in 3D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.plane = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.depth = nn.Conv2d(width, width, (3, 1), padding=(1, 0), bias=False)
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, D, H, W)` to the same shape."""
        slices = F.relu(self.norm1(x)).transpose(1, 2)
        found = self.plane(slices.flatten(0, 1)).unflatten(0, slices.shape[:2]).transpose(1, 2)
        change: Tensor = self.depth(F.relu(self.norm2(found)).flatten(3))  # (B, C, D, H * W)
        return x + change.view_as(x)


class Tiny3D(ImageEncoder):
    """A residual CNN with tokens of 4 slices by 8 × 8 pixels, each of which also knows the whole scan along depth.

    What a slab of four slices shows on average attends to the other slabs; the result is added to its tokens.

    Args:
        width: Channels of the features, a multiple of 16.
        depth: Residual blocks.
        context: Attention blocks over slabs.
        heads: Attention heads.
    """

    ndim = 3
    stride = (4, 8, 8)

    def __init__(self, width: int = 64, depth: int = 2, context: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.width, self.normalise = width, Normalise(*GREY)
        self.stem = nn.Conv3d(1, width // 2, (2, 4, 4), stride=(2, 4, 4))
        self.down = nn.Conv3d(width // 2, width, 2, stride=2)
        self.level = nn.Sequential(*(_Factorised(width) for _ in range(depth)))
        self.places, self.slabs = FourierPositions(width, axes=3, span=SPAN), FourierPositions(width, axes=1, span=SPAN)
        self.context = nn.ModuleList(Block(width, heads, expand=2) for _ in range(context))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1, D, H, W)` volumes of any size in [0, 1]; see `ImageEncoder.forward`."""
        return encode_volume(self._run, self.normalise, self.stride, image, valid)

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        found = self.level(self.down(F.relu(self.stem(x)))).movedim(1, -1)
        depth, height, width = found.shape[1:4]
        planes = found.flatten(2, 3)  # (B, depth, height * width, C)
        seen = None if mask is None else mask.view(planes.shape[:3])
        slabs = (
            planes.mean(dim=2)
            if seen is None
            else masked_mean(planes.flatten(0, 1), seen.flatten(0, 1)).view_as(planes[:, :, 0])
        )
        slabs = slabs + self.slabs((depth,))
        for block in self.context:
            slabs = block(slabs, None if seen is None else seen.any(dim=2))
        placed = planes + self.places((depth, height, width)).view(depth, height * width, -1)
        normed: Tensor = self.norm(placed + slabs[:, :, None])
        return normed.view_as(found)
