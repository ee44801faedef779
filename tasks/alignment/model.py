"""Two towers and a projection of each: images and texts to unit vectors. Pure torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn.functional import normalize

from medvl.encoders.base import ImageEncoder, TextEncoder

Projection = Literal["linear", "mlp"]


class Embeddings(NamedTuple):
    """Unit vectors, `(B, C)` each; row i of both is of the same study."""

    image: Tensor
    text: Tensor


class AlignmentModel(nn.Module):
    """A two-tower model (CLIP, arXiv 2103.00020; before it ConVIRT, arXiv 2010.00747).

    Args:
        image_encoder: Any image encoder of the contract; its pooled vector is used.
        text_encoder: Any text encoder of the contract; the same.
        dim: Width of the shared space.
        projection: `linear`, without bias, as in CLIP; or `mlp`, with a hidden layer, as in ConVIRT.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        projection: Projection = "linear",
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_proj = _projection(projection, image_encoder.width, dim)
        self.text_proj = _projection(projection, text_encoder.width, dim)

    def forward(self, images: Tensor, valid: Tensor | None, texts: list[str]) -> Embeddings:
        """Embed studies.

        Args:
            images: `(B, 1|3, H, W)` in [0, 1].
            valid: `(B, H, W)` bool, or None when nothing is padding.
            texts: `B` texts.
        """
        return Embeddings(self.embed_images(images, valid), self.embed_texts(texts))

    def embed_images(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return unit vectors `(B, C)`."""
        return normalize(self.image_proj(self.image_encoder(images, valid).pooled), dim=-1)

    def embed_texts(self, texts: list[str]) -> Tensor:
        """Return unit vectors `(B, C)`."""
        return normalize(self.text_proj(self.text_encoder(texts).pooled), dim=-1)


def _projection(kind: Projection, width: int, dim: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(width, dim, bias=False)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))
