"""Features that a frozen encoder computed beforehand, and what is trained on top of them."""

from __future__ import annotations

from torch import Tensor, nn

from medvl.encoders.base import Features, ImageEncoder
from medvl.encoders.blocks import Block, FourierPositions
from medvl.encoders.volumes import SPAN, encode_volume


class Precomputed(ImageEncoder):
    """Takes token grids in place of volumes: a projection and a transformer that combines them.

    So a large frozen encoder runs once per volume, not once per epoch; the datamodule reads what it found as `image`
    `(B, channels, D, H, W)`, with `valid` on the same grid.

    Args:
        channels: Of the features that are read.
        width: Of the features that are returned.
        depth: Transformer blocks over all tokens of a volume; 0 leaves the projection alone.
        heads: Attention heads.
        dropout: Dropout after attention and feed-forward nets.
    """

    ndim = 3
    stride = (1, 1, 1)

    def __init__(self, channels: int, width: int = 512, depth: int = 4, heads: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.channels = width, channels
        self.entry, self.project = nn.LayerNorm(channels), nn.Linear(channels, width)
        self.positions = FourierPositions(width, axes=3, span=SPAN)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode features `(B, channels, D, H, W)` of any grid.

        Raises:
            ValueError: They have another number of channels.
        """
        if image.ndim != 5 or image.shape[1] != self.channels:
            raise ValueError(f"expected features (B, {self.channels}, D, H, W), got {tuple(image.shape)}")
        return encode_volume(self._run, _blank, self.stride, image, valid)

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        grid = x.shape[2:]
        tokens = self.project(self.entry(x.movedim(1, -1).flatten(1, 3))) + self.positions(tuple(grid))
        for block in self.blocks:
            tokens = block(tokens, mask)
        normed: Tensor = self.norm(tokens)
        return normed.view(len(x), *grid, self.width)


def _blank(features: Tensor, valid: Tensor | None) -> Tensor:
    return features if valid is None else features.masked_fill(~valid[:, None], 0)
