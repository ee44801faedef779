"""Small parts that several encoders share: masks on token grids, masked means, positions, a transformer block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grid_mask(valid: Tensor | None, batch: int, grid: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """Tell which tokens of a map saw at least one valid pixel.

    Args:
        valid: Bool `(B, H, W)`, or None when every pixel is content.
        batch: `B`.
        grid: `(h, w)` of the token map.
        stride: Pixels per token; the map may reach past the image on the right and at the bottom.
        device: Where the mask is wanted.

    Returns:
        Bool `(B, h * w)` with at least one True per row, also for an image that is all padding.
    """
    if valid is None:
        return torch.ones(batch, grid[0] * grid[1], dtype=torch.bool, device=device)
    right, bottom = grid[1] * stride - valid.shape[2], grid[0] * stride - valid.shape[1]
    if min(right, bottom) >= 0:
        seen = F.max_pool2d(F.pad(valid[:, None].float(), (0, right, 0, bottom)), stride)
    else:  # maps that crop or overlap, whose cells do not start at multiples of the stride
        seen = F.adaptive_max_pool2d(valid[:, None].float(), grid)
    mask = seen.flatten(1) > 0
    empty = ~mask.any(dim=1, keepdim=True)
    return mask | (empty & (torch.arange(mask.shape[1], device=mask.device) == 0))


class Normalise(nn.Module):
    """Fits channels, subtracts a mean and divides by a deviation; padding becomes 0, so its value cannot matter.

    Args:
        mean: One value per channel, or one for all.
        std: Likewise.
        channels: What the network takes: a grey image is repeated, a colour image averaged.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int) -> None:
        super().__init__()
        self.channels = channels
        for name, values in (("mean", mean), ("std", std)):
            fitted = list(values) if len(values) == channels else [sum(values) / len(values)] * channels
            self.register_buffer(name, torch.tensor(fitted)[:, None, None])

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map `(B, 1|3, H, W)` in [0, 1] to `(B, channels, H, W)`; `valid` is `(B, H, W)`."""
        if image.shape[1] != self.channels:
            image = image.mean(dim=1, keepdim=True).expand(-1, self.channels, -1, -1)
        # In place from here on: fresh memory for a batch of volumes costs more than the arithmetic.
        x = (image - self.get_buffer("mean")).div_(self.get_buffer("std"))
        return x if valid is None else x.masked_fill_(~valid[:, None], 0.0)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average `(B, N, C)` tokens over the True entries of `(B, N)`; returns `(B, C)`."""
    weight = mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


class FourierPositions(nn.Module):
    """Learned linear map of sines and cosines of the coordinates of cells: positions for any grid size.

    Tancik et al. 2020, "Fourier features let networks learn high frequency functions", with fixed octaves.

    Args:
        width: Channels.
        octaves: Waves per coordinate.
        axes: Coordinates.
        span: Cells that make one unit, counted from the first; by default each axis of a grid runs from 0 to 1.
    """

    def __init__(self, width: int, octaves: int = 6, axes: int = 2, span: int | None = None) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(octaves), persistent=False)
        self.project = nn.Linear(2 * axes * octaves, width)
        self.span = span

    def forward(self, grid: tuple[int, ...]) -> Tensor:
        """Return `(product of the grid, width)` for the cell centres of a grid, in row-major order."""
        frequencies = self.get_buffer("frequencies")
        axes = [(torch.arange(n, device=frequencies.device) + 0.5) / (self.span or n) for n in grid]
        phase = torch.cartesian_prod(*axes).view(-1, len(grid), 1) * frequencies
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(1)
        positions: Tensor = self.project(waves.to(self.project.weight.dtype))
        return positions


class Block(nn.Module):
    """Pre-norm transformer block: self-attention over valid tokens, then a GELU feed-forward net."""

    def __init__(self, width: int, heads: int, expand: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map `(B, N, C)` to the same shape; `mask` `(B, N)` is True on the tokens that may be looked at."""
        qkv: Tensor = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        allowed = None if mask is None else mask[:, None, None]
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        attended: Tensor = self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        tokens = tokens + attended
        fed: Tensor = self.drop(self.feed(self.norm2(tokens)))
        return tokens + fed
