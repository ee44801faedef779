"""The grounding loss: matched queries learn their box, all others learn to be silent."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import GroundingBatch
from medvl.distributed import mean_over_ranks, world_size
from tasks.grounding.boxes import paired_giou, paired_iou, to_cxcywh, to_xyxy
from tasks.grounding.denoising import Denoising
from tasks.grounding.layers import grid_centres, token_at
from tasks.grounding.matcher import HungarianMatcher, Matches, Targets
from tasks.grounding.model import GroundingOutput


class GroundingCriterion(nn.Module):
    """Binary confidence, L1 and GIoU on matched queries of every decoder layer; centre maps; L1 and GIoU of proposals.

    Every sum is divided by a count that, in training, is averaged over the ranks first, so that the gradient under DDP
    is that of one process with the whole batch. Evaluation crosses no ranks: they may take different numbers of steps.

    Args:
        score: Weight of the binary cross-entropy on confidences.
        l1: Weight of the L1 distance of boxes as cxcywh.
        giou: Weight of 1 - GIoU.
        heat: Weight of the focal loss on box-centre logits of the image tokens (CenterNet, arXiv 1904.07850, eq. 1).
        any_heat: Weight of the same loss for the boxes of any sentence of the image, read before the sentence comes in:
            the image encoder learns what findings look like before it is clear which one a sentence means.
        matcher: Assignment of gold boxes to queries.
        confidence: What a matched query's confidence learns: `match`, that it is 1; `iou`, the IoU of its box, so that
            among boxes of one finding the best placed scores highest (as in VarifocalNet, arXiv 2008.13367). Scores are
            lower then, and so is the threshold that fits them.
        denoising: Train the decoder to put noisy gold boxes right as well; null for no such queries.
    """

    def __init__(
        self,
        score: float = 1.0,
        l1: float = 5.0,
        giou: float = 2.0,
        heat: float = 1.0,
        any_heat: float = 1.0,
        matcher: HungarianMatcher | None = None,
        confidence: Literal["match", "iou"] = "match",
        denoising: Denoising | None = None,
    ) -> None:
        super().__init__()
        self.score, self.l1, self.giou, self.heat, self.any_heat = score, l1, giou, heat, any_heat
        self.matcher = matcher or HungarianMatcher()
        self.confidence, self.denoising = confidence, denoising

    def starts(self, batch: GroundingBatch) -> Tensor | None:
        """Return where the batch's denoising queries start, cxcywh `(P, K, 4)`; None without them or in evaluation."""
        if self.denoising is None or not self.training:
            return None
        return self.denoising.starts(Targets.pack(batch.boxes, like=batch.images))

    def forward(self, output: GroundingOutput, batch: GroundingBatch) -> dict[str, Tensor]:
        """Return `loss` and its parts as scalars; a sentence without boxes trains every query to zero."""
        targets = Targets.pack(batch.boxes, like=output.boxes)
        matches = self.matcher(output.logits, output.boxes, targets)
        phrases = self._normaliser(output.logits.new_tensor(float(len(batch.boxes))))
        gold = self._normaliser(output.logits.new_tensor(float(len(targets.boxes))))
        truth, _ = _centre_map(output.heat, output.grid, targets)
        parts = self._decoder(output, targets, matches, phrases, gold)
        # Padding has a constant logit: no gradient.
        parts["heat"] = _focal(output.heat, truth).sum() / gold
        parts |= self._proposals(output, batch.image_boxes, batch.share)
        parts |= self._denoised(output, targets)
        loss = self.score * parts["score"] + self.heat * parts["heat"] + self.any_heat * parts["any_heat"]
        for kind, weight in (("l1", self.l1), ("giou", self.giou)):
            loss = loss + weight * sum(part for name, part in parts.items() if name.endswith(kind))
        return {"loss": loss, **parts}

    def _normaliser(self, own: Tensor) -> Tensor:
        """Return what to divide a sum over `own` things by: in training, the mean over the ranks."""
        if not self.training:  # evaluation is not padded: a rank may have a batch more than the others
            return own.clamp(min=1)
        return mean_over_ranks(own).clamp(min=1 / world_size())

    def _decoder(
        self, output: GroundingOutput, targets: Targets, matches: Matches, phrases: Tensor, gold: Tensor
    ) -> dict[str, Tensor]:
        found = matches.layer, matches.phrase, matches.query
        truth = torch.zeros_like(output.logits)
        truth[found] = 1.0
        if self.confidence == "iou":
            boxes = to_xyxy(output.boxes[found].detach())
            truth[found] = paired_iou(boxes, targets.boxes[matches.gold])[0].to(truth)
        score = F.binary_cross_entropy_with_logits(output.logits, truth, reduction="sum")
        l1, giou = _matched(output.boxes, targets, matches, gold)
        return {"score": score / (len(truth) * phrases), "l1": l1, "giou": giou}

    def _denoised(self, output: GroundingOutput, targets: Targets) -> dict[str, Tensor]:
        if output.denoised is None or self.denoising is None:
            return {}
        matches = self.denoising.matches(targets, len(output.denoised))
        count = self._normaliser(output.denoised.new_tensor(len(matches.gold) / len(output.denoised)))
        l1, giou = _matched(output.denoised, targets, matches, count)
        return {"denoise_l1": l1, "denoise_giou": giou}

    def _proposals(self, output: GroundingOutput, image_boxes: list[Tensor], share: Tensor) -> dict[str, Tensor]:
        """Train the image tokens alone: a peak at the centre of every sentence's boxes, and that token's box.

        An image whose sentences are in several batches counts by its share in each.
        """
        targets = Targets.pack(image_boxes, like=output.boxes)
        truth, centre = _centre_map(output.any_heat, output.grid, targets)
        weight = share.to(output.any_heat)
        gold = self._normaliser(weight[targets.phrase].sum())
        heat = (_focal(output.any_heat, truth).sum(-1) * weight).sum() / gold
        l1, giou = _box_losses(output.any_boxes[targets.phrase, centre], targets.boxes, weight[targets.phrase])
        return {"any_heat": heat, "any_l1": l1 / gold, "any_giou": giou / gold}


def _focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss of every logit against a map of bumps that are 1 at their peaks."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = -((1 - p) ** 2) * p.log()
    miss = -((1 - truth) ** 4) * p**2 * (1 - p).log()
    return torch.where(truth >= 1, hit, miss)


def _matched(boxes: Tensor, targets: Targets, matches: Matches, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return L1 and 1 - GIoU of matched boxes `(L, P, Q, 4)`, averaged over the layers, over `count` in each."""
    predicted = boxes[matches.layer, matches.phrase, matches.query]
    l1, giou = _box_losses(predicted, targets.boxes[matches.gold])
    return l1 / (len(boxes) * count), giou / (len(boxes) * count)


def _box_losses(predicted: Tensor, gold: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the summed L1 and 1 - GIoU of cxcywh predictions against xyxy gold boxes `(n, 4)`; 0 for none."""
    l1 = (predicted - to_cxcywh(gold)).abs().sum(-1)
    giou = 1 - paired_giou(to_xyxy(predicted), gold)
    return (l1.sum(), giou.sum()) if weight is None else (l1 @ weight, giou @ weight)


def _centre_map(heat: Tensor, grid: tuple[int, ...], targets: Targets) -> tuple[Tensor, Tensor]:
    """Return a bump per gold box, shaped like `heat` `(P, N)` and 1 at its centre, and the centre tokens `(G,)`."""
    centres, gold = grid_centres(grid, heat.device), to_cxcywh(targets.boxes)
    token = token_at(gold[:, :2], grid)
    # A sixth of the side: CenterNet's three sigmas reach the edge; never narrower than a third of a token.
    sigma = (gold[:, 2:] / 6).clamp(min=0.33 / max(grid))
    offset = (centres[None] - centres[token][:, None]) / sigma[:, None]
    bump = torch.exp(-0.5 * offset.square().sum(-1)).to(heat.dtype)
    truth = torch.zeros_like(heat)
    truth = truth.scatter_reduce(0, targets.phrase[:, None].expand_as(bump), bump, "amax")
    truth[targets.phrase, token] = 1.0
    return truth, token
