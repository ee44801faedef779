"""The transformer pieces of the grounding model: fusion of image and sentence, and the query decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def grid_centres(grid: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the token centres `(H*W, 2)` as (x, y) in [0, 1], row-major."""
    height, width = grid
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)


def token_at(points: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return the index of the token that holds each point `(..., 2)`, (x, y) in [0, 1]."""
    height, width = grid
    column = (points[..., 0] * width).long().clamp(0, width - 1)
    return (points[..., 1] * height).long().clamp(0, height - 1) * width + column


def sine_embedding(values: Tensor, width: int, temperature: float = 20.0) -> Tensor:
    """Embed coordinates in [0, 1]: `(..., n)` to `(..., n * width)` of sines and cosines."""
    frequencies = temperature ** (2 * torch.arange(width // 2, device=values.device) / width)
    angles = values[..., None] * 2 * math.pi * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Multi-head attention in which positions enter queries and keys, not values.

    Args:
        width: Channels.
        heads: Attention heads; divides `width`.
        dropout: Dropout on the attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from `(P, Q, C)` to `(P, N, C)`; `mask` `(P, N)` or `(1, Q, N)` is True where a key may be seen."""
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        seen = None if mask is None else mask.view(len(mask), 1, -1, mask.shape[-1])
        drop = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=drop)
        merged: Tensor = self.out(out.transpose(1, 2).flatten(2))
        return merged

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Pre-norm feed-forward block without its residual."""

    def __init__(self, width: int, ratio: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, ratio * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(ratio * width, width),
            nn.Dropout(dropout),
        )


class FusionLayer(nn.Module):
    """Bidirectional attention: sentence and image tokens look at each other, image tokens also at their own kind."""

    def __init__(self, width: int, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.norm_text, self.norm_image, self.norm_own = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_text = Attention(width, heads, dropout)
        self.to_image = Attention(width, heads, dropout)
        self.among = Attention(width, heads, dropout)
        self.image_ff = FeedForward(width, ratio, dropout)
        self.text_ff = FeedForward(width, ratio, dropout)

    def forward(
        self, image: Tensor, position: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the fused image tokens `(P, N, C)` and text tokens `(P, T, C)`."""
        seen, said = self.norm_image(image), self.norm_text(text)
        text = text + self.to_image(said, seen + position, seen, image_mask)
        image = image + self.to_text(seen + position, said, said, text_mask)
        own = self.norm_own(image)
        image = image + self.among(own + position, own + position, own, image_mask)
        return image + self.image_ff(image), text + self.text_ff(text)


class Scorer(nn.Module):
    """Says how well every image token fits a sentence, and what the tokens that fit best look like to it.

    Detectors read the tokens whatever the sentence, so they run once per image; a sentence moves their thresholds and
    weighs their answers: `sum_r w_r(sentence) relu(a_r(token) + b_r(sentence))`, additive attention (Bahdanau et al.
    2015) with weights that depend on the sentence as well. So a further sentence costs no matrix product per token.

    Args:
        width: Channels of tokens and sentences.
        detectors: Their number.
        bias: The score before anything is learnt.
    """

    def __init__(self, width: int, detectors: int, bias: float) -> None:
        super().__init__()
        self.detect = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, detectors))
        self.threshold = nn.Linear(width, detectors)
        self.weight = nn.Linear(width, detectors)
        self.bias = nn.Parameter(torch.tensor(bias))
        self.out = nn.Linear(detectors, width)
        nn.init.normal_(self.weight.weight, std=0.001)
        nn.init.normal_(self.weight.bias, std=0.05)

    def score(self, found: Tensor, row: Tensor, sentence: Tensor) -> Tensor:
        """Score every token for each sentence.

        Args:
            found: What `detect` says of the tokens, `(B, N, R)`.
            row: `(P,)`, the row of `found` that each sentence looks at.
            sentence: `(P, C)`.

        Returns:
            `(P, N)` in float32 at least.
        """
        # index_select: the gradient of plain indexing is several times slower.
        answers = (found.index_select(0, row) + self.threshold(sentence)[:, None]).relu_()
        score = torch.bmm(answers, self.weight(sentence)[..., None]).squeeze(-1)
        return score.to(torch.promote_types(score.dtype, torch.float32)) + self.bias

    def read(self, found: Tensor, sentence: Tensor) -> Tensor:
        """Return what each sentence adds `(P, K, C)` to chosen tokens, of which `detect` said `found` `(P, K, R)`."""
        added: Tensor = self.out((found + self.threshold(sentence)[:, None]).relu())
        return added


class DecoderLayer(nn.Module):
    """Queries look at each other, at the fused image and at the sentence."""

    def __init__(self, width: int, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.norm_self, self.norm_image, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.among = Attention(width, heads, dropout)
        self.to_image = Attention(width, heads, dropout)
        self.to_text = Attention(width, heads, dropout)
        self.ff = FeedForward(width, ratio, dropout)

    def forward(
        self,
        queries: Tensor,
        place: Tensor,
        image: Tensor,
        position: Tensor,
        image_mask: Tensor,
        text: Tensor,
        text_mask: Tensor,
        among: Tensor | None = None,
    ) -> Tensor:
        """Update the queries `(P, Q, C)`, whose boxes are embedded in `place` `(P, Q, C)`.

        `among` `(1, Q, Q)` is True where one query may see another; None: everywhere.
        """
        own = self.norm_self(queries)
        queries = queries + self.among(own + place, own + place, own, among)
        queries = queries + self.to_image(self.norm_image(queries) + place, image + position, image, image_mask)
        queries = queries + self.to_text(self.norm_text(queries), text, text, text_mask)
        updated: Tensor = queries + self.ff(queries)
        return updated


class LearnedQueries(nn.Module):
    """Queries that start at the same content and boxes for every image and sentence (DAB-DETR, arXiv 2201.12329).

    Args:
        count: Their number.
        width: Channels.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.randn(count, width))
        self.place = nn.Parameter(torch.randn(count, 4))

    def forward(self, sentences: int) -> tuple[Tensor, Tensor]:
        """Return content `(P, Q, C)` and boxes `(P, Q, 4)`, cxcywh, for `P` sentences."""
        return self.content.expand(sentences, -1, -1), self.place.sigmoid().expand(sentences, -1, -1)


class Head(nn.Module):
    """A small network on every token or query, whose answer starts at `bias` whatever it sees.

    Args:
        width: Channels in.
        bias: First answer, one value per output channel.
    """

    def __init__(self, width: int, bias: Sequence[float]) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, len(bias))
        nn.init.normal_(self.out.weight, std=0.001)
        self.out.bias.data.copy_(torch.tensor(bias, dtype=self.out.bias.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., len(bias))`, in float32 at least: half a precision cannot hold 1 - 1e-4."""
        answer: Tensor = self.out(F.relu(self.hidden(x)))
        return answer.to(torch.promote_types(answer.dtype, torch.float32))
