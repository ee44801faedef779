"""The grounding network: an image and its sentences to scored boxes. Pure torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from tasks.grounding.boxes import inverse_sigmoid
from tasks.grounding.layers import (
    DecoderLayer,
    FusionLayer,
    Head,
    LearnedQueries,
    Scorer,
    grid_centres,
    sine_embedding,
    token_at,
)


@dataclass(frozen=True)
class GroundingOutput:
    """What the model says of `P` sentences of `B` images.

    Attributes:
        logits: Confidence per decoder layer `(L, P, Q)`; the last layer is the answer.
        boxes: cxcywh in [0, 1] of the network input `(L, P, Q, 4)`.
        heat: Logit of every image token to be the centre of a box of the sentence `(P, N)`.
        any_heat: Logit of every image token to be the centre of a box of *any* sentence `(B, N)`.
        any_boxes: The box that every image token proposes, cxcywh `(B, N, 4)`.
        grid: `(H, W)` of the tokens.
        denoised: Where further queries went that started at given boxes, cxcywh `(L, P, K, 4)`; None without any.
    """

    logits: Tensor
    boxes: Tensor
    heat: Tensor
    any_heat: Tensor
    any_boxes: Tensor
    grid: tuple[int, ...]
    denoised: Tensor | None = None


class GroundingModel(nn.Module):
    """Set prediction of boxes for a sentence.

    Every image token proposes a box, whatever the sentence (proposals as in the two-stage form of Deformable DETR,
    arXiv 2010.04159). Each sentence then scores the tokens; the best distinct ones start its queries, and a decoder
    moves their boxes layer by layer, looking at the tokens that fit the sentence best. What is done per token is done
    once per image, and per sentence only for the few tokens it chose (sparse tokens: arXiv 2111.14330).

    Args:
        image_encoder: Any 2D encoder of the contract.
        text_encoder: Any text encoder of the contract.
        width: Channels of fusion and decoder.
        heads: Attention heads.
        fusion_layers: Layers of bidirectional attention between image and sentence before tokens are scored; they run
            on every token for every sentence. 0 is the fastest.
        decoder_layers: Layers of the query decoder.
        queries: The most boxes that one sentence can get.
        memory: How many of the best tokens the queries look at; all when the image has no more.
        ff_ratio: Width of the feed-forward blocks, in multiples of `width`.
        dropout: Dropout in fusion and decoder.
        learned_queries: Start the queries at learnt content and boxes in place of the best tokens and their proposals.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        width: int = 256,
        heads: int = 8,
        fusion_layers: int = 3,
        decoder_layers: int = 3,
        queries: int = 8,
        memory: int = 64,
        ff_ratio: int = 4,
        dropout: float = 0.1,
        learned_queries: bool = False,
    ) -> None:
        super().__init__()
        if min(queries, memory) < 1:
            raise ValueError(f"queries {queries} and memory {memory}: expected at least 1 of each")
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.width, self.queries, self.memory = width, queries, memory
        self.image_proj = nn.Sequential(nn.Linear(image_encoder.width, width), nn.LayerNorm(width))
        self.text_proj = nn.Sequential(nn.Linear(text_encoder.width, width), nn.LayerNorm(width))
        self.pooled_proj = nn.Sequential(nn.Linear(text_encoder.width, width), nn.LayerNorm(width))
        # Heads start with boxes at their anchors and little confidence, which keeps the first steps calm.
        self.proposal_head = Head(width, [_logit(0.01), 0, 0, 0, 0])
        self.fusion = nn.ModuleList(FusionLayer(width, heads, ff_ratio, dropout) for _ in range(fusion_layers))
        self.scorer = Scorer(width, 2 * width, _logit(0.01))
        self.token_norm = nn.LayerNorm(width)
        self.text_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, ff_ratio, dropout) for _ in range(decoder_layers))
        self.learned = LearnedQueries(queries, width) if learned_queries else None
        self.query_norm = nn.LayerNorm(width)
        self.place = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        self.score_heads = nn.ModuleList(Head(width, [_logit(0.1)]) for _ in range(decoder_layers))
        self.box_heads = nn.ModuleList(Head(width, [0, 0, 0, 0]) for _ in range(decoder_layers))

    def forward(
        self,
        images: Tensor,
        valid: Tensor | None,
        phrases: list[str],
        image_index: Tensor,
        starts: Tensor | None = None,
    ) -> GroundingOutput:
        """Ground `P` sentences in `B` images.

        Args:
            images: `(B, 1|3, H, W)` in [0, 1].
            valid: `(B, H, W)` bool, or None when nothing is padding.
            phrases: `P` sentences.
            image_index: `(P,)`, the image each sentence speaks of.
            starts: Boxes that further queries start from, cxcywh `(P, K, 4)`; they change no other answer.
        """
        image = self.image_encoder(images, valid)
        return self.ground(image, self.text_encoder(phrases), image_index, starts)

    def ground(
        self, image: Features, text: Features, image_index: Tensor, starts: Tensor | None = None
    ) -> GroundingOutput:
        """Ground encoded sentences in encoded images: the part that is done once per pair."""
        if image.grid is None or len(image.grid) != 2:
            raise ValueError(f"grounding needs a 2D token grid, got {image.grid}")
        centres = grid_centres(image.grid, image.tokens.device)
        position = sine_embedding(centres, self.width // 2)
        tokens, row = self.image_proj(image.tokens) + position, image_index
        any_heat, any_boxes = self._propose(tokens, image.mask, centres)
        words, sentence, mask = self.text_proj(text.tokens), self.pooled_proj(text.pooled), image.mask[image_index]
        if self.fusion:  # from here on every sentence has image tokens of its own
            tokens, row = tokens.index_select(0, image_index), torch.arange(len(image_index), device=row.device)
        for layer in self.fusion:
            tokens, words = layer(tokens, position, mask, words, text.mask)
        found = self.scorer.detect(tokens)
        heat = self.scorer.score(found, row, sentence).masked_fill(~mask, -1e4)
        peaks, best = self._choose(heat.detach(), image.grid)
        starts = any_boxes.new_zeros(len(heat), 0, 4) if starts is None else starts
        chosen = torch.cat([peaks, token_at(starts[..., :2], image.grid), best], dim=1)
        seen = self.token_norm(_take(tokens, row, chosen) + self.scorer.read(_take(found, row, chosen), sentence))
        queries, extra, memory = seen.split([peaks.shape[1], starts.shape[1], best.shape[1]], dim=1)
        places = _take(any_boxes.detach(), image_index, peaks)
        if self.learned is not None:
            queries, places = self.learned(len(heat))
        own, among = queries.shape[1], _apart(queries, extra)
        context = (memory, position[best], mask.gather(1, best), self.text_norm(words), text.mask, among)
        logits, boxes = self._decode(torch.cat([queries, extra], 1), torch.cat([places, starts], 1), *context)
        denoised = None if among is None else boxes[:, :, own:]
        return GroundingOutput(logits[..., :own], boxes[:, :, :own], heat, any_heat, any_boxes, image.grid, denoised)

    def _propose(self, tokens: Tensor, mask: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for every token, the logit of being a box centre `(B, N)` and its box `(B, N, 4)`."""
        heat, delta = self.proposal_head(tokens).split([1, 4], dim=-1)
        anchors = inverse_sigmoid(torch.cat([centres, torch.full_like(centres, 0.2)], dim=-1))
        return heat.squeeze(-1).masked_fill(~mask, -1e4), (anchors + delta).sigmoid()

    def _choose(self, heat: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the indices of the strongest local maxima `(P, Q)`, which lie apart, and best tokens `(P, K)`."""
        plane = heat.view(-1, 1, *grid)
        peak = plane == F.max_pool2d(plane, 3, stride=1, padding=1)
        ranked = torch.where(peak, plane, plane - 1e3).flatten(1)
        tokens = heat.shape[1]
        return ranked.topk(min(self.queries, tokens)).indices, heat.topk(min(self.memory, tokens)).indices

    def _decode(
        self, queries: Tensor, reference: Tensor, memory: Tensor, position: Tensor, mask: Tensor, words: Tensor,
        word_mask: Tensor, among: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        all_logits, all_boxes = [], []
        for layer, score_head, box_head in zip(self.decoder, self.score_heads, self.box_heads, strict=True):
            place = self.place(sine_embedding(reference, self.width // 2))
            queries = layer(queries, place, memory, position, mask, words, word_mask, among)
            normed = self.query_norm(queries)
            boxes = (inverse_sigmoid(reference) + box_head(normed)).sigmoid()
            all_logits.append(score_head(normed).squeeze(-1))
            all_boxes.append(boxes)
            reference = boxes.detach()
        return torch.stack(all_logits), torch.stack(all_boxes)


def _take(values: Tensor, row: Tensor, token: Tensor) -> Tensor:
    """Return `values[row[p], token[p, k]]` as `(P, K, C)` from `(B, N, C)`."""
    flat = (row[:, None] * values.shape[1] + token).flatten()
    return values.flatten(0, 1).index_select(0, flat).view(*token.shape, -1)


def _apart(queries: Tensor, extra: Tensor) -> Tensor | None:
    """Return who sees whom `(1, Q, Q)` where `extra` queries see only themselves; None where all see each other."""
    if not extra.shape[1]:
        return None
    among = torch.eye(queries.shape[1] + extra.shape[1], dtype=torch.bool, device=queries.device)
    among[: queries.shape[1], : queries.shape[1]] = True
    return among[None]


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
