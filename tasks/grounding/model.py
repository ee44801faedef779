"""The grounding network: an image and its sentences to scored boxes. Pure torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from tasks.grounding.boxes import inverse_sigmoid
from tasks.grounding.layers import DecoderLayer, FusionLayer, Head, Modulation, grid_centres, sine_embedding


@dataclass(frozen=True)
class GroundingOutput:
    """What the model says of `P` sentences.

    Attributes:
        logits: Confidence per decoder layer `(L, P, Q)`; the last layer is the answer.
        boxes: cxcywh in [0, 1] of the network input `(L, P, Q, 4)`.
        heat: Logit of every image token to be a box centre `(P, N)`.
        token_boxes: The box that every image token proposes, cxcywh `(P, N, 4)`.
        token_mask: `(P, N)`, True where a token shows image rather than padding.
        any_heat: Logit of every image token to be the centre of a box of *any* sentence `(B, N)`.
        grid: `(H, W)` of the tokens.
    """

    logits: Tensor
    boxes: Tensor
    heat: Tensor
    token_boxes: Tensor
    token_mask: Tensor
    any_heat: Tensor
    grid: tuple[int, ...]


class GroundingModel(nn.Module):
    """Set prediction of boxes for a sentence.

    Sentence and image are fused token by token; every image token then says how likely it is a box centre and which
    box that would be. The best distinct tokens start the queries, and a decoder refines them layer by layer (iterative
    refinement as in Deformable DETR, arXiv 2010.04159; proposals as in its two-stage form).

    Args:
        image_encoder: Any 2D encoder of the contract.
        text_encoder: Any text encoder of the contract.
        width: Channels of fusion and decoder.
        heads: Attention heads.
        fusion_layers: Layers of bidirectional attention between image and sentence, after the modulation of the image
            tokens by the sentence; 0 is the fastest.
        decoder_layers: Layers of the query decoder.
        queries: The most boxes that one sentence can get.
        ff_ratio: Width of the feed-forward blocks, in multiples of `width`.
        dropout: Dropout in fusion and decoder.
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
        ff_ratio: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.width, self.queries = width, queries
        self.image_proj = nn.Sequential(nn.Linear(image_encoder.width, width), nn.LayerNorm(width))
        self.text_proj = nn.Sequential(nn.Linear(text_encoder.width, width), nn.LayerNorm(width))
        self.pooled_proj = nn.Sequential(nn.Linear(text_encoder.width, width), nn.LayerNorm(width))
        self.modulation = Modulation(width, ratio=2)
        self.fusion = nn.ModuleList(FusionLayer(width, heads, ff_ratio, dropout) for _ in range(fusion_layers))
        self.fused_norm = nn.LayerNorm(width)
        self.text_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, ff_ratio, dropout) for _ in range(decoder_layers))
        self.query_norm = nn.LayerNorm(width)
        self.place = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        # Start with boxes at their anchors and little confidence, which keeps the first steps calm.
        self.token_head = Head(width, [_logit(0.01), 0, 0, 0, 0])
        self.any_head = Head(width, [_logit(0.01)])
        self.score_heads = nn.ModuleList(Head(width, [_logit(0.1)]) for _ in range(decoder_layers))
        self.box_heads = nn.ModuleList(Head(width, [0, 0, 0, 0]) for _ in range(decoder_layers))

    def forward(self, images: Tensor, valid: Tensor | None, phrases: list[str], image_index: Tensor) -> GroundingOutput:
        """Ground `P` sentences in `B` images.

        Args:
            images: `(B, 1|3, H, W)` in [0, 1].
            valid: `(B, H, W)` bool, or None when nothing is padding.
            phrases: `P` sentences.
            image_index: `(P,)`, the image each sentence speaks of.
        """
        image = self.image_encoder(images, valid)
        return self.ground(image, self.text_encoder(phrases), image_index)

    def ground(self, image: Features, text: Features, image_index: Tensor) -> GroundingOutput:
        """Ground encoded sentences in encoded images: the part that is done once per pair."""
        if image.grid is None or len(image.grid) != 2:
            raise ValueError(f"grounding needs a 2D token grid, got {image.grid}")
        centres = grid_centres(image.grid, image.tokens.device)
        position = sine_embedding(centres, self.width // 2)
        mask = image.mask[image_index]
        words = self.text_proj(text.tokens)
        seen = self.image_proj(image.tokens) + position
        any_heat = self.any_head(seen).squeeze(-1).masked_fill(~image.mask, -1e4)
        tokens = self.modulation(seen, image_index, self.pooled_proj(text.pooled))
        for layer in self.fusion:
            tokens, words = layer(tokens, position, mask, words, text.mask)
        tokens, words = self.fused_norm(tokens), self.text_norm(words)
        heat, token_boxes = self._propose(tokens, mask, centres)
        chosen = self._peaks(heat.detach(), image.grid)
        logits, boxes = self._decode(tokens, position, mask, words, text.mask, token_boxes, chosen)
        return GroundingOutput(logits, boxes, heat, token_boxes, mask, any_heat, image.grid)

    def _propose(self, tokens: Tensor, mask: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for every token, the logit of being a box centre `(P, N)` and its box `(P, N, 4)`."""
        heat, delta = self.token_head(tokens).split([1, 4], dim=-1)
        anchors = inverse_sigmoid(torch.cat([centres, torch.full_like(centres, 0.2)], dim=-1))
        return heat.squeeze(-1).masked_fill(~mask, -1e4), (anchors + delta).sigmoid()

    def _peaks(self, heat: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Return the indices `(P, Q)` of the strongest local maxima, so that queries start at distinct places."""
        plane = heat.view(-1, 1, *grid)
        peak = plane == F.max_pool2d(plane, 3, stride=1, padding=1)
        ranked = torch.where(peak, plane, plane - 1e3).flatten(1)
        return ranked.topk(min(self.queries, ranked.shape[1]), dim=1).indices

    def _decode(
        self,
        tokens: Tensor,
        position: Tensor,
        mask: Tensor,
        words: Tensor,
        word_mask: Tensor,
        token_boxes: Tensor,
        chosen: Tensor,
    ) -> tuple[Tensor, Tensor]:
        queries = tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]))
        reference = token_boxes.gather(1, chosen[..., None].expand(-1, -1, 4)).detach()
        all_logits, all_boxes = [], []
        for layer, score_head, box_head in zip(self.decoder, self.score_heads, self.box_heads, strict=True):
            place = self.place(sine_embedding(reference, self.width // 2))
            queries = layer(queries, place, tokens, position, mask, words, word_mask)
            normed = self.query_norm(queries)
            boxes = (inverse_sigmoid(reference) + box_head(normed)).sigmoid()
            all_logits.append(score_head(normed).squeeze(-1))
            all_boxes.append(boxes)
            reference = boxes.detach()
        return torch.stack(all_logits), torch.stack(all_boxes)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
