"""Two towers and a projection of each: images and texts to unit vectors. Pure torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvl.distributed import gather_with_grad
from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.errors import ConfigError
from medvl.losses.patches import Patches

Projection = Literal["linear", "mlp"]
Pooling = Literal["encoder", "lse"]


class Embeddings(NamedTuple):
    """What two towers make of studies; row i is of study i.

    Attributes:
        image: Unit vectors `(B, C)`.
        text: Unit vectors `(B, C)`.
        patches: Projected tokens of the images, where they are asked for.
    """

    image: Tensor
    text: Tensor
    patches: Patches | None = None

    def where(self, kept: Tensor) -> Embeddings:
        """Return the studies that bool `(B,)` names."""
        patches = None if self.patches is None else self.patches.where(kept)
        return Embeddings(self.image[kept], self.text[kept], patches)


class AlignmentModel(nn.Module):
    """A two-tower model (CLIP, arXiv 2103.00020; before it ConVIRT, arXiv 2010.00747).

    Args:
        image_encoder: Any image encoder of the contract.
        text_encoder: Any text encoder of the contract.
        dim: Width of the shared space.
        projection: `linear`, without bias, as in CLIP; or `mlp`, with a hidden layer, as in ConVIRT.
        image_pooling: From tokens to one vector: as the `encoder` does it, or a smooth maximum, `lse` (`LSEPool`).
        text_pooling: The same.
        centred: Subtract the mean of all images, and that of all texts, before vectors get their length (`Centre`).
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        projection: Projection = "linear",
        image_pooling: Pooling = "encoder",
        text_pooling: Pooling = "encoder",
        centred: bool = False,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_pool = LSEPool(image_encoder.width) if image_pooling == "lse" else None
        self.text_pool = LSEPool(text_encoder.width) if text_pooling == "lse" else None
        self.image_proj = _projection(projection, image_encoder.width, dim)
        self.text_proj = _projection(projection, text_encoder.width, dim)
        self.image_centre, self.text_centre = (Centre(dim) if centred else None for _ in range(2))

    def forward(self, images: Tensor, valid: Tensor | None, texts: list[str], patches: bool = False) -> Embeddings:
        """Embed studies.

        Args:
            images: `(B, 1|3, H, W)` in [0, 1], or volumes `(B, 1, D, H, W)`.
            valid: `(B, H, W)` or `(B, D, H, W)` bool, or None when nothing is padding.
            texts: `B` texts.
            patches: Whether to project the tokens of images too, as if each were an image of one token.

        Raises:
            ConfigError: The encoder is for images of another kind.
        """
        features = self._read(images, valid)
        tokens = Patches(self._project_tokens(features.tokens), features.mask) if patches else None
        return Embeddings(self._project_image(features, valid), self.embed_texts(texts), tokens)

    def embed_images(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return unit vectors `(B, C)`."""
        return self._project_image(self._read(images, valid), valid)

    def _read(self, images: Tensor, valid: Tensor | None) -> Features:
        encoder = self.image_encoder
        if images.ndim != encoder.ndim + 2:
            what = (
                f"{type(encoder).__name__} encodes no {'volumes' if images.ndim == 5 else 'images in two dimensions'}"
            )
            hint = f"for example configs/encoders/tiny_{'3d' if images.ndim == 5 else 'conv'}.yaml"
            raise ConfigError(what, where="model.image_encoder", hint=hint)
        features: Features = encoder(images, valid)
        return features

    def _project_image(self, features: Features, valid: Tensor | None) -> Tensor:
        projected = self.image_proj(_pooled(features, self.image_pool))
        if self.image_centre is not None:
            there = projected.new_ones(len(projected), dtype=torch.bool) if valid is None else valid.flatten(1).any(1)
            projected = self.image_centre(projected, there)
        return normalize(projected, dim=-1)

    def _project_tokens(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self.image_proj(tokens if self.image_pool is None else self.image_pool.values(tokens))
        return projected if self.image_centre is None else projected - self.image_centre.mean.to(projected)

    def embed_texts(self, texts: list[str]) -> Tensor:
        """Return unit vectors `(B, C)`."""
        projected = self.text_proj(_pooled(self.text_encoder(texts), self.text_pool))
        if self.text_centre is not None:
            projected = self.text_centre(projected, torch.tensor([bool(text) for text in texts]).to(projected.device))
        return normalize(projected, dim=-1)


class Centre(nn.Module):
    """Subtracts the mean vector: of the batch of all ranks in training, of batches seen so far in evaluation.

    Images of one kind, as chest films are, begin as nearly the same vector. A cosine hardly tells them apart then, and
    a hinge on cosines, which has next to no gradient between vectors that agree, may leave them there.

    Args:
        width: Channels.
        momentum: Weight of a new batch in the mean that evaluation uses.
    """

    mean: Tensor

    def __init__(self, width: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, rows: Tensor, there: Tensor) -> Tensor:
        """Return `(B, C)` less the mean of those rows, on all ranks, that bool `(B,)` says are there."""
        if not self.training:
            return rows - self.mean.to(rows)
        everyone = gather_with_grad(rows[there]).rows
        if not len(everyone):
            return rows + everyone.sum()
        mean = everyone.mean(dim=0)
        self.mean.lerp_(mean.detach().to(self.mean), self.momentum)
        return rows - mean


class LSEPool(nn.Module):
    """A smooth maximum over tokens of learnt features: `1/r log mean_n exp(r v_n)` (arXiv 1411.6228, equation 6).

    A finding covers a few tokens of an image; the mean of all dilutes it, a maximum passes it on.

    Args:
        width: Channels.
        sharpness: r; 0 is nearly the mean, a large one the maximum.
    """

    def __init__(self, width: int, sharpness: float = 4.0) -> None:
        super().__init__()
        self.values, self.sharpness = nn.Linear(width, width), sharpness

    def forward(self, features: Features) -> Tensor:
        """Return `(B, C)`; padding does not enter it."""
        values = (self.sharpness * self.values(features.tokens)).masked_fill(~features.mask[..., None], -torch.inf)
        count = features.mask.sum(dim=1, keepdim=True).to(values)
        return (torch.logsumexp(values, dim=1) - count.log()) / self.sharpness


def _pooled(features: Features, pool: LSEPool | None) -> Tensor:
    if pool is None:
        return features.pooled
    pooled: Tensor = pool(features)
    return pooled


def _projection(kind: Projection, width: int, dim: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(width, dim, bias=False)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))
