"""Small encoders that start from random weights and need no file: for the quickstart, tests and small data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.encoders.blocks import Block, FourierPositions, Normalise, grid_mask, masked_mean
from medvl.encoders.hashing import START, pieces, split_words

GREY = ((0.5,), (0.25,), 1)  # mean, deviation and channels of images in [0, 1]


class _Residual(nn.Module):
    """Pre-activation residual block with GroupNorm (He et al. 2016, "Identity mappings"; Wu and He 2018)."""

    def __init__(self, width: int, convs: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convs):
            layers += [nn.GroupNorm(8, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        change: Tensor = self.layers(x)
        return x + change


def _down(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


class TinyConv(ImageEncoder):
    """A residual CNN whose stride-8 tokens also carry what coarser levels saw.

    Strides 4, 8 and 16 are convolutional; self-attention over the stride-16 map gives every place the whole image; the
    result is merged top-down into the stride-8 map (Lin et al. 2017, "Feature pyramid networks").

    Args:
        width: Channels of the features, a multiple of 64.
        depth: Residual blocks per level.
        context: Attention blocks on the stride-16 map.
        heads: Attention heads.
    """

    def __init__(self, width: int = 128, depth: int = 1, context: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.width, self.normalise = width, Normalise(*GREY)
        fine, middle = width // 4, 3 * width // 8
        self.stem = nn.Conv2d(1, fine, 5, stride=2, padding=2)
        self.level4 = nn.Sequential(_down(fine, middle), *(_Residual(middle) for _ in range(depth)))
        self.level8 = nn.Sequential(_down(middle, width), *(_Residual(width) for _ in range(depth)))
        self.level16 = nn.Sequential(_down(width, width), *(_Residual(width) for _ in range(depth)))
        self.positions = FourierPositions(width)
        self.context = nn.ModuleList(Block(width, heads, expand=2) for _ in range(context))
        self.merge = _Residual(width, convs=1)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1|3, H, W)` images of any size in [0, 1]; see `ImageEncoder.forward`."""
        x = self.normalise(image, valid).contiguous(memory_format=torch.channels_last)
        fine = self.level8(self.level4(F.relu(self.stem(x))))
        coarse = self._attend(self.level16(fine), valid)
        merged = self.merge(fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"))
        grid = (fine.shape[-2], fine.shape[-1])
        tokens = self.norm(merged.flatten(2).transpose(1, 2) + self.positions(grid))
        mask = grid_mask(valid, len(image), grid, 8, image.device)
        return Features(tokens, mask, masked_mean(tokens, mask), grid)

    def _attend(self, coarse: Tensor, valid: Tensor | None) -> Tensor:
        grid = (coarse.shape[-2], coarse.shape[-1])
        mask = None if valid is None else grid_mask(valid, len(coarse), grid, 16, coarse.device)
        tokens = coarse.flatten(2).transpose(1, 2) + self.positions(grid)
        for block in self.context:
            tokens = block(tokens, mask)
        attended: Tensor = tokens.transpose(1, 2).unflatten(2, grid)
        return attended


class TinyViT(ImageEncoder):
    """A plain vision transformer (Dosovitskiy et al. 2021) with positions for any grid.

    Args:
        width: Channels of the features.
        depth: Transformer blocks.
        heads: Attention heads.
        patch: Side of a patch in pixels; images are padded to a multiple of it.
    """

    def __init__(self, width: int = 128, depth: int = 4, heads: int = 4, patch: int = 8) -> None:
        super().__init__()
        self.width, self.patch, self.normalise = width, patch, Normalise(*GREY)
        self.embed = nn.Conv2d(1, width, patch, stride=patch)
        self.positions = FourierPositions(width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1|3, H, W)` images of any size in [0, 1]; see `ImageEncoder.forward`."""
        x = self.normalise(image, valid)
        patches = self.embed(F.pad(x, (0, -x.shape[3] % self.patch, 0, -x.shape[2] % self.patch)))
        grid = (patches.shape[-2], patches.shape[-1])
        mask = grid_mask(valid, len(image), grid, self.patch, image.device)
        tokens = patches.flatten(2).transpose(1, 2) + self.positions(grid)
        for block in self.blocks:
            tokens = block(tokens, None if valid is None else mask)
        tokens = self.norm(tokens)
        return Features(tokens, mask, masked_mean(tokens, mask), grid)


class TinyText(TextEncoder):
    """A small transformer over hashed words: no vocabulary, any language, unseen words and typos keep a meaning.

    Args:
        width: Channels of the features.
        depth: Transformer blocks.
        heads: Attention heads.
        buckets: Rows of the word table and of the n-gram table.
        max_length: Words read of each text; the rest is cut off.
        dropout: Dropout after attention and feed-forward nets.
        pace: Multiple of the learning rate for the tables: a word is met in few batches, all else in every one.
    """

    def __init__(
        self,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        buckets: int = 8192,
        max_length: int = 48,
        dropout: float = 0.0,
        pace: float = 1.0,
    ) -> None:
        super().__init__()
        self.width, self.buckets, self.max_length = width, buckets, max_length
        self.words = nn.Embedding(buckets, width, padding_idx=0)
        self.grams = nn.EmbeddingBag(buckets, width, padding_idx=0, mode="sum")
        self.positions = nn.Parameter(0.02 * torch.randn(max_length + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.words.weight)  # an unseen word adds nothing: its n-grams alone speak for it
        nn.init.normal_(self.grams.weight, std=0.5)
        self.paces = {"words": pace, "grams": pace}

    def tokenize(self, texts: list[str]) -> dict[str, Tensor]:
        """Return `words` `(B, L)`, rows into `pieces` `(U, P)`, the buckets of the batch's distinct words; 0 pads."""
        known: dict[str, int] = {START: 1}
        split = [split_words(text) for text in texts]
        self.note_cut(sum(len(words) > self.max_length for words in split))
        kept = [(START, *words[: self.max_length]) for words in split]
        rows = [[known.setdefault(word, len(known) + 1) for word in words] for words in kept]
        spelled = [(0,), *(pieces(word, self.buckets) for word in known)]
        return {"words": self._padded(rows), "pieces": self._padded(spelled)}

    def _padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        longest = max(map(len, rows))
        return torch.tensor([(*row, *(0,) * (longest - len(row))) for row in rows], device=self.positions.device)

    def encode(self, **tokens: Tensor) -> Features:
        """Encode what `tokenize` returned; the first token stands for the start of the text."""
        words, pieces = tokens["words"], tokens["pieces"]
        mask = words > 0
        grams = pieces[:, 1:]
        count = (grams > 0).sum(dim=1, keepdim=True).clamp(min=1)
        table = self.words(pieces[:, 0]) + self.grams(grams) / count.sqrt()
        x = table[words] + self.positions[: words.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return Features(x, mask, masked_mean(x, mask), None)
