"""The contract between encoders and tasks: any encoder that keeps it plugs into any task."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn


@dataclass(frozen=True)
class Features:
    """What an encoder returns.

    Attributes:
        tokens: Local features `(B, N, C)`. For images `N` is the product of `grid`, in row-major order: class
            and register tokens are left out.
        mask: `(B, N)` bool, True where a token holds content rather than padding. At least one per row is True.
        pooled: One vector per input, `(B, C)`; padding does not enter it.
        grid: `(H, W)` of the token map for 2D images, `(D, H, W)` for volumes, None for text.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    grid: tuple[int, ...] | None = None


class ImageEncoder(nn.Module, ABC):
    """Encodes images with values in [0, 1]; owns its normalisation as buffers.

    Attributes:
        width: Channels `C` of the features.
        ndim: 2 for `(B, 1|3, H, W)` images, 3 for `(B, 1, D, H, W)` volumes.
        paces: Multiples of the learning rate for parts that learn slower than the rest, by prefix of their names.
    """

    width: int
    ndim: int = 2
    paces: Mapping[str, float] = MappingProxyType({})

    @abstractmethod
    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode a batch.

        Args:
            image: Float `(B, 1|3, H, W)` (or `(B, 1, D, H, W)`) in [0, 1].
            valid: Bool `(B, H, W)` (or `(B, D)`), False on what letterboxing or padding added.
        """


class TextEncoder(nn.Module, ABC):
    """Encodes strings; owns its tokenizer, which travels in checkpoints as primitives.

    Attributes:
        width: Channels `C` of the features.
        max_length: Tokens read of each text.
        truncated: How many texts were longer than that so far, and lost their end.
        paces: As in `ImageEncoder`.
    """

    width: int
    paces: Mapping[str, float] = MappingProxyType({})
    ndim: int = 1
    max_length: int
    truncated: int = 0

    @abstractmethod
    def tokenize(self, texts: list[str]) -> dict[str, Tensor]:
        """Turn texts into padded tensors on this module's device: the keyword arguments of `encode`."""

    @abstractmethod
    def encode(self, **tokens: Tensor) -> Features:
        """Encode what `tokenize` returned; tensors only, so that it can be exported and compiled."""

    def note_cut(self, texts: int) -> None:
        """Count texts that were cut off, and warn the first time, without showing them."""
        if texts and not self.truncated:
            warnings.warn(
                f"a text is longer than max_length={self.max_length} tokens; its end is not read", stacklevel=3
            )
        self.truncated += texts

    def forward(self, texts: list[str]) -> Features:
        """Tokenize and encode `texts`."""
        return self.encode(**self.tokenize(texts))
