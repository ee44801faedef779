"""Volumes, reports and snippets in one space; and the depths of a volume in another. Pure torch."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.errors import ConfigError
from tasks.volume.depth import DepthGrid
from tasks.volume.localisation import Depths, Localiser, Similarity

DepthHeads = Literal["own", "global"]


class MapHead(nn.Module):
    """Pools tokens by attention of one learnt query (the MAP head of SigLIP, arXiv 2303.15343), and by their maxima.

    A mean over thousands of tokens hides a finding that a few of them show, and before it is trained a query attends to
    all of them alike; the greatest value of each channel (ours) is there from the first step.

    With one query, keys and values of thousands of tokens need not be made: `q · (K t) = (Kᵀ q) · t`, and the mean of
    `V t` is `V` times the mean of `t`. The parameters are those of `nn.MultiheadAttention`, and so is the result.

    Args:
        width: Channels.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.most = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Map `(B, N, C)` and their mask `(B, N)`, True on content, to `(B, C)`."""
        found = self._attended(tokens, mask)
        found = found + self.most(tokens.masked_fill(~mask[..., None], -torch.inf).amax(dim=1))
        pooled: Tensor = found + self.mlp(self.norm(found))
        return pooled

    def _attended(self, tokens: Tensor, mask: Tensor) -> Tensor:
        heads, width = self.attention.num_heads, tokens.shape[-1]
        of_query, of_keys, of_values = self.attention.in_proj_weight.view(3, heads, -1, width)
        query_bias, _, value_bias = self.attention.in_proj_bias.view(3, heads, -1)  # one for keys would shift all alike
        query = of_query @ self.query.flatten() + query_bias  # (heads, width / heads)
        asked = torch.einsum("hd,hdc->ch", query, of_keys) / math.sqrt(query.shape[1])
        weights = (tokens @ asked).masked_fill(~mask[..., None], -torch.inf).softmax(dim=1)  # (B, N, heads)
        seen = torch.einsum("bnh,bnc->bhc", weights, tokens)
        values = torch.einsum("bhc,hdc->bhd", seen, of_values) + value_bias
        found: Tensor = self.attention.out_proj(values.flatten(1))
        return found


class VolumeModel(nn.Module):
    """Two towers, with a branch from the tokens of the image tower to depths (after RadFinder, arXiv 2603.02026).

    Args:
        image_encoder: Any 3D encoder of the contract.
        text_encoder: Any text encoder of the contract; it reads reports, prompts and snippets.
        dim: Width of both spaces.
        localiser: Compares snippets with depths.
        depth_heads: Whose heads depths and snippets go through: their `own`, which the depths' loss trains, or the
            `global` ones of volumes and reports, so that each depth is embedded as if it were a volume; these are
            compared by their cosine.

    Raises:
        ConfigError: The encoder is not for volumes, or does not say how many slices a token covers; or global heads
            have a localiser that does not compare by cosine.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        localiser: Localiser | None = None,
        depth_heads: DepthHeads = "own",
    ) -> None:
        super().__init__()
        stride = getattr(image_encoder, "stride", None)
        if image_encoder.ndim != 3 or stride is None:
            hint = "expected a 3D one, for example configs/encoders/tiny_3d.yaml"
            raise ConfigError(
                f"{type(image_encoder).__name__} encodes no volumes", where="model.image_encoder", hint=hint
            )
        self.image_encoder, self.text_encoder, self.depth_stride = image_encoder, text_encoder, int(stride[0])
        width, words = image_encoder.width, text_encoder.width
        self.pool = MapHead(width)
        self.image_proj, self.text_proj = _projection(width, dim), _projection(words, dim)
        self.depth_proj, self.snippet_proj = _projection(width, dim), _projection(words, dim)
        likeness: Similarity = "dot" if depth_heads == "own" else "cosine"  # the global heads are taught by cosines
        self.localiser, self.depth_heads = localiser or Localiser(similarity=likeness), depth_heads
        if depth_heads == "global" and self.localiser.similarity != likeness:
            hint = "--model.localiser.similarity cosine"
            raise ConfigError("global heads compare by cosine", where="model.depth_heads", hint=hint)
        self.salience = nn.Linear(width, 1) if self.localiser.salience and depth_heads == "own" else None

    def read_volumes(self, volumes: Tensor, valid: Tensor | None) -> Features:
        """Return the tokens of `(B, 1, D, H, W)` volumes in [0, 1]; `valid` `(B, D, H, W)` is False on padding."""
        features: Features = self.image_encoder(volumes, valid)
        return features

    def embed_volumes(self, features: Features) -> Tensor:
        """Return a unit vector of each volume, `(B, C)`."""
        return normalize(self.image_proj(self.pool(features.tokens, features.mask)), dim=-1)

    def embed_texts(self, texts: list[str]) -> Tensor:
        """Return a unit vector of each report or prompt, `(B, C)`."""
        return normalize(self.text_proj(self.text_encoder(texts).pooled), dim=-1)

    def embed_snippets(self, snippets: list[str]) -> Tensor:
        """Return a vector of each snippet, `(S, C)`; of none too, with the graph that other ranks have."""
        head = self.snippet_proj if self.depth_heads == "own" else self.text_proj
        found: Tensor = head(self.text_encoder(snippets or [""]).pooled)
        return found[: len(snippets)]

    def grid(self, features: Features, first_mm: Tensor, step_mm: Tensor, slices: Tensor) -> DepthGrid:
        """Lay the depth positions of some features over their volumes."""
        return DepthGrid.of(first_mm, step_mm, slices, self.sides(features)[0], self.depth_stride)

    def locate(self, features: Features, grid: DepthGrid, snippets: Tensor, index: Tensor) -> Depths:
        """Compare snippets `(S, C)` with the depths of the volumes that `index` `(S,)` names."""
        depth, height, width = self.sides(features)
        mask, salience = features.mask.view(-1, depth, height * width), None
        if self.salience is not None:
            salience = self.salience(features.tokens).view(mask.shape)
        head = None
        if self.depth_heads == "own":
            norm, head = cast(nn.Sequential, self.depth_proj)
            tokens = norm(features.tokens).unflatten(1, mask.shape[1:])
        else:
            tokens, mask = self._embed_depths(features.tokens, mask), mask.any(dim=2, keepdim=True)
        depths: Depths = self.localiser(tokens, mask, snippets, index, grid, salience, head)
        return depths

    def _embed_depths(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool the tokens of each depth as those of a volume are, `(B, D, 1, C)`."""
        # Attention to nothing is no number; what becomes of padding does not matter, for no answer can lie there.
        seen = mask | ~mask.any(dim=2, keepdim=True)
        pooled = self.pool(tokens.reshape(-1, mask.shape[2], tokens.shape[-1]), seen.flatten(0, 1))
        embedded: Tensor = self.image_proj(pooled).view(*mask.shape[:2], 1, -1)
        return embedded

    @staticmethod
    def sides(features: Features) -> tuple[int, int, int]:
        """Return the grid of some features, depth first."""
        if features.grid is None or len(features.grid) != 3:
            raise ValueError(f"volumes need a 3D token grid, got {features.grid}")
        depth, height, width = features.grid
        return depth, height, width


def _projection(width: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
