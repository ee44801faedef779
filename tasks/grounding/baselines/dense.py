"""A dense detector: every image token scores the sentence and says a box; no queries, no matching, NMS at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchvision.ops import batched_nms, sigmoid_focal_loss

from datamodules.batches import GroundingBatch
from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.schedule import Schedule
from tasks.grounding.baselines.shared import box_losses, normaliser
from tasks.grounding.boxes import to_cxcywh, to_xyxy
from tasks.grounding.layers import FeedForward, Head, grid_centres, sine_embedding
from tasks.grounding.matcher import Targets
from tasks.grounding.postprocess import Postprocess
from tasks.grounding.task import PhraseTask

RARE, NEAR = math.log(0.01 / 0.99), math.log(0.1 / 0.9)  # first scores; first distances: a tenth of the image
CANDIDATES = 64  # of a sentence, before NMS


@dataclass(frozen=True)
class DenseOutput:
    """What the model says of `P` sentences.

    Attributes:
        logits: Confidence after NMS `(1, P, Q)`; boxes that NMS drops have a score of 0.
        boxes: Their boxes, cxcywh in [0, 1] of the network input `(1, P, Q, 4)`.
        token_logits: That of every image token `(P, N)`.
        token_boxes: The box of every image token, cxcywh `(P, N, 4)`.
        grid: `(H, W)` of the tokens.
    """

    logits: Tensor
    boxes: Tensor
    token_logits: Tensor
    token_boxes: Tensor
    grid: tuple[int, ...]


class DenseModel(nn.Module):
    """FCOS (arXiv 1904.01355) whose class is the sentence, which modulates the tokens (FiLM, arXiv 1709.07871).

    Args:
        image_encoder: Any 2D encoder of the contract.
        text_encoder: Any text encoder of the contract.
        width: Channels of the tokens.
        layers: Feed-forward layers on every token for every sentence, each modulated anew.
        ff_ratio: Their width, in multiples of `width`.
        dropout: Dropout in them.
        most: The most boxes that one sentence can get.
        nms: IoU above which the weaker of two boxes of a sentence is dropped.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        width: int = 256,
        layers: int = 2,
        ff_ratio: int = 2,
        dropout: float = 0.1,
        most: int = 8,
        nms: float = 0.5,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.width, self.most, self.nms = width, most, nms
        self.image_proj = nn.Sequential(nn.Linear(image_encoder.width, width), nn.LayerNorm(width))
        self.text_proj = nn.Sequential(nn.Linear(text_encoder.width, width), nn.LayerNorm(width))
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(layers))
        self.layers = nn.ModuleList(FeedForward(width, ff_ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = Head(width, [RARE, NEAR, NEAR, NEAR, NEAR])

    def forward(self, images: Tensor, valid: Tensor | None, phrases: list[str], image_index: Tensor) -> DenseOutput:
        """Ground `P` sentences in `B` images; arguments as of `GroundingModel.forward`."""
        image = self.image_encoder(images, valid)
        if image.grid is None or len(image.grid) != 2:
            raise ValueError(f"grounding needs a 2D token grid, got {image.grid}")
        scores, boxes = self._every_token(image, self.text_encoder(phrases), image_index)
        kept, places = self._suppress(scores.detach(), boxes.detach())
        return DenseOutput(kept[None], places[None], scores, boxes, image.grid)

    def _every_token(self, image: Features, text: Features, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit `(P, N)` and the box `(P, N, 4)` of every token for each sentence."""
        centres = grid_centres(image.grid or (), index.device)
        tokens = self.image_proj(image.tokens) + sine_embedding(centres, self.width // 2)
        tokens, sentence = tokens.index_select(0, index), self.text_proj(text.pooled)[:, None]
        for modulation, layer in zip(self.modulations, self.layers, strict=True):
            scale, shift = modulation(sentence).chunk(2, dim=-1)
            tokens = tokens + layer(tokens * (1 + scale) + shift)
        score, reach = self.head(self.norm(tokens)).split([1, 4], dim=-1)
        left_top, right_bottom = reach.sigmoid().chunk(2, dim=-1)
        boxes = to_cxcywh(torch.cat([centres - left_top, centres + right_bottom], dim=-1))
        return score.squeeze(-1).masked_fill(~image.mask[index], -1e4), boxes

    def _suppress(self, scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits `(P, Q)` and boxes `(P, Q, 4)` that NMS leaves, best first."""
        top = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
        candidates = boxes.gather(1, top.indices[..., None].expand(-1, -1, 4)).float()
        sentence = torch.arange(len(scores), device=scores.device).repeat_interleave(top.values.shape[1])
        left = batched_nms(to_xyxy(candidates).flatten(0, 1), top.values.flatten().to(candidates), sentence, self.nms)
        dropped = torch.ones_like(sentence, dtype=torch.bool).index_fill(0, left, False).view_as(top.values)
        best = top.values.masked_fill(dropped, -1e4).topk(min(self.most, dropped.shape[1]), dim=1)
        return best.values, candidates.gather(1, best.indices[..., None].expand(-1, -1, 4))


class DenseCriterion(nn.Module):
    """Focal loss on every token (arXiv 1708.02002), L1 and GIoU on those in the middle of a gold box.

    Args:
        score: Weight of the focal loss, over the number of positive tokens.
        l1: Weight of the L1 distance of boxes as cxcywh.
        giou: Weight of 1 - GIoU.
        radius: How far from the middle of its box a positive token may lie, in tokens. It takes the place of FCOS's
            centre-ness.
    """

    def __init__(self, score: float = 1.0, l1: float = 2.0, giou: float = 2.0, radius: float = 1.5) -> None:
        super().__init__()
        self.score, self.l1, self.giou, self.radius = score, l1, giou, radius

    def forward(self, output: DenseOutput, batch: GroundingBatch) -> dict[str, Tensor]:
        """Return `loss` and its parts as scalars."""
        targets = Targets.pack(batch.boxes, like=output.token_boxes)
        owner = owners(targets, output.grid, len(batch.boxes), self.radius)
        positive = owner >= 0
        count = normaliser(float(positive.sum()), output.token_logits, self.training)
        score = sigmoid_focal_loss(output.token_logits, positive.to(output.token_logits), reduction="sum") / count
        losses = box_losses(output.token_boxes[positive], targets.boxes[owner[positive]])
        l1, giou = (part / count for part in losses)
        loss = self.score * score + self.l1 * l1 + self.giou * giou
        return {"loss": loss, "score": score, "l1": l1, "giou": giou}


def owners(targets: Targets, grid: tuple[int, ...], phrases: int, radius: float) -> Tensor:
    """Return which gold box each token is to find, `(P, N)`; -1 for none. Where boxes overlap the smallest counts.

    A token is positive in a box, near its middle; the nearest one is whatever its place, so that no box has none.
    """
    centres = grid_centres(grid, targets.boxes.device)
    gold = to_cxcywh(targets.boxes)
    away = (centres[None] - gold[:, None, :2]).abs()  # (G, N, 2)
    step = gold.new_tensor([1 / grid[1], 1 / grid[0]])
    positive = ((away <= radius * step) & (away <= gold[:, None, 2:] / 2)).all(-1)
    if len(gold):
        positive.scatter_(1, (away / step).square().sum(-1).argmin(1, keepdim=True), True)
    owner = torch.full((phrases, len(centres)), -1, dtype=torch.long, device=centres.device)
    for row in gold[:, 2:].prod(-1).argsort(descending=True).tolist():
        owner[targets.phrase[row], positive[row]] = row
    return owner


class DenseTask(PhraseTask):
    """Grounding with a dense detector.

    Args:
        image_encoder: Any 2D image encoder.
        text_encoder: Any text encoder.
        width: Channels of the tokens.
        layers: Feed-forward layers on every token for every sentence.
        ff_ratio: Their width, in multiples of `width`.
        dropout: Dropout in them.
        most: The most boxes that one sentence can get.
        nms: IoU above which the weaker of two boxes of a sentence is dropped.
        criterion: The loss.
        postprocess: Threshold and fusion of the boxes shown.
        optimizer: Called with parameter groups.
        schedule: Learning rate over the run.
        lr_scale: Multiples of the learning rate for parts of the model, by prefix: `{image_encoder: 0.1}`.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        width: int = 256,
        layers: int = 2,
        ff_ratio: int = 2,
        dropout: float = 0.1,
        most: int = 8,
        nms: float = 0.5,
        criterion: DenseCriterion | None = None,
        postprocess: Postprocess | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        lr_scale: dict[str, float] | None = None,
    ) -> None:
        model = DenseModel(image_encoder, text_encoder, width, layers, ff_ratio, dropout, most, nms)
        super().__init__(model, criterion or DenseCriterion(), postprocess, optimizer, schedule, lr_scale)
