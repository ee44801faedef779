"""2D slices and a transformer over depth: any 2D encoder reads volumes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medvl.encoders.base import Features, ImageEncoder
from medvl.encoders.blocks import Block, FourierPositions, masked_mean
from medvl.encoders.volumes import SPAN
from medvl.errors import ConfigError


class SliceEncoder(ImageEncoder):
    """Encodes every slice on its own, then lets slices attend to each other.

    Slices that were added by padding are not encoded at all. Pooled is the mean over slices. A token of the map is the
    2D encoder's, plus what the transformer over depth found for its slice.

    Args:
        image_encoder: Any 2D image encoder.
        depth: Transformer blocks over slices.
        heads: Attention heads.
        maps: Whether tokens are those of the map, `(D, h, w)`; otherwise there is one per slice, `(D, 1, 1)`.
        chunk: Slices at once; while training, the activations of several chunks are computed again in the backward
            pass, which bounds memory. 0 takes all at once.
        dropout: Dropout after attention and feed-forward nets over depth.
    """

    ndim = 3
    stride: tuple[int, ...] = (1,)  # of depth alone: what a token covers in the plane, the 2D encoder knows

    def __init__(
        self,
        image_encoder: ImageEncoder,
        depth: int = 4,
        heads: int = 8,
        maps: bool = False,
        chunk: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if image_encoder.ndim != 2:
            raise ConfigError("slices are for a 2D image encoder", where="image_encoder.image_encoder")
        self.flat, self.width, self.maps, self.chunk = image_encoder, image_encoder.width, maps, chunk
        self.positions = FourierPositions(self.width, axes=1, span=8 * SPAN)
        self.entry = nn.LayerNorm(self.width)
        self.blocks = nn.ModuleList(Block(self.width, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1, D, H, W)` volumes in [0, 1]; see `ImageEncoder.forward`."""
        batch, depth = len(image), image.shape[2]
        slices = image.movedim(2, 1)  # (B, D, 1, H, W)
        if valid is None:
            seen = torch.ones(batch, depth, dtype=torch.bool, device=image.device)
        else:
            seen = valid.flatten(2).any(dim=2) if valid.ndim == 4 else valid
            seen = seen | (~seen.any(dim=1, keepdim=True) & (torch.arange(depth, device=seen.device) == 0))
        inside = valid[seen] if valid is not None and valid.ndim == 4 else None
        tokens, mask, pooled, grid = self._flat(slices[seen], inside)
        states = self._attend(pooled.new_zeros(batch, depth, self.width).index_put((seen,), self.entry(pooled)), seen)
        mean = masked_mean(states, seen)
        if not self.maps:
            return Features(states, seen, mean, (depth, 1, 1))
        found = tokens.new_zeros(batch, depth, *tokens.shape[1:]).index_put((seen,), tokens + states[seen][:, None])
        masks = torch.zeros(found.shape[:3], dtype=torch.bool, device=seen.device).index_put((seen,), mask)
        return Features(found.flatten(1, 2), masks.flatten(1), mean, (depth, *grid))

    def _attend(self, states: Tensor, seen: Tensor) -> Tensor:
        # Positions count from the first valid slice, so that padding ahead of it moves nothing.
        depth = states.shape[1]
        first = seen.long().argmax(dim=1, keepdim=True)
        place = (torch.arange(depth, device=seen.device) - first).clamp(min=0)
        states = states + self.positions((depth,))[place]
        for block in self.blocks:
            states = block(states, None if seen.all() else seen)
        normed: Tensor = self.norm(states)
        return normed

    def _flat(self, slices: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
        """Encode slices `(S, 1, H, W)`; returns tokens, mask, pooled and grid."""
        size = self.chunk or len(slices)
        parts = []
        for first in range(0, len(slices), size):
            given = slices[first : first + size], None if valid is None else valid[first : first + size]
            if torch.is_grad_enabled() and size < len(slices):
                parts.append(checkpoint(self._one, *given, use_reentrant=False))
            else:
                parts.append(self._one(*given))
        tokens, mask, pooled = (torch.cat(pieces) for pieces in zip(*(part[:3] for part in parts), strict=True))
        return tokens, mask, pooled, parts[0][3]

    def _one(self, slices: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
        features = self.flat(slices, valid)
        return features.tokens, features.mask, features.pooled, features.grid or (1, 1)
