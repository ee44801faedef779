"""The grounding loss: matched queries learn their box, all others learn to be silent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import GroundingBatch
from medvl.distributed import mean_over_ranks, world_size
from tasks.grounding.boxes import paired_giou, to_cxcywh, to_xyxy
from tasks.grounding.layers import grid_centres
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
    """

    def __init__(
        self,
        score: float = 1.0,
        l1: float = 5.0,
        giou: float = 2.0,
        heat: float = 1.0,
        any_heat: float = 1.0,
        matcher: HungarianMatcher | None = None,
    ) -> None:
        super().__init__()
        self.score, self.l1, self.giou, self.heat, self.any_heat = score, l1, giou, heat, any_heat
        self.matcher = matcher or HungarianMatcher()

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
        loss = self.score * parts["score"] + self.heat * parts["heat"] + self.any_heat * parts["any_heat"]
        loss = loss + self.l1 * (parts["l1"] + parts["any_l1"]) + self.giou * (parts["giou"] + parts["any_giou"])
        return {"loss": loss, **parts, "unmatched": gold.new_tensor(float(matches.unmatched))}

    def _normaliser(self, own: Tensor) -> Tensor:
        """Return what to divide a sum over `own` things by: in training, the mean over the ranks."""
        if not self.training:  # evaluation is not padded: a rank may have a batch more than the others
            return own.clamp(min=1)
        return mean_over_ranks(own).clamp(min=1 / world_size())

    def _decoder(
        self, output: GroundingOutput, targets: Targets, matches: Matches, phrases: Tensor, gold: Tensor
    ) -> dict[str, Tensor]:
        layers = output.logits.shape[0]
        truth = torch.zeros_like(output.logits)
        truth[matches.layer, matches.phrase, matches.query] = 1.0
        score = F.binary_cross_entropy_with_logits(output.logits, truth, reduction="sum") / (layers * phrases)
        predicted = output.boxes[matches.layer, matches.phrase, matches.query]
        l1, giou = _box_losses(predicted, targets.boxes[matches.gold])
        return {"score": score, "l1": l1 / (layers * gold), "giou": giou / (layers * gold)}

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


def _box_losses(predicted: Tensor, gold: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the summed L1 and 1 - GIoU of cxcywh predictions against xyxy gold boxes `(n, 4)`; 0 for none."""
    l1 = (predicted - to_cxcywh(gold)).abs().sum(-1)
    giou = 1 - paired_giou(to_xyxy(predicted), gold)
    return (l1.sum(), giou.sum()) if weight is None else (l1 @ weight, giou @ weight)


def _centre_map(heat: Tensor, grid: tuple[int, ...], targets: Targets) -> tuple[Tensor, Tensor]:
    """Return a bump per gold box, shaped like `heat` `(P, N)` and 1 at its centre, and the centre tokens `(G,)`."""
    height, width = grid
    centres = grid_centres(grid, heat.device)
    gold = to_cxcywh(targets.boxes)
    column = (gold[:, 0] * width).long().clamp(0, width - 1)
    row = (gold[:, 1] * height).long().clamp(0, height - 1)
    token = row * width + column
    # A sixth of the side: CenterNet's three sigmas reach the edge; never narrower than a third of a token.
    sigma = (gold[:, 2:] / 6).clamp(min=0.33 / max(height, width))
    offset = (centres[None] - centres[token][:, None]) / sigma[:, None]
    bump = torch.exp(-0.5 * offset.square().sum(-1)).to(heat.dtype)
    truth = torch.zeros_like(heat)
    truth = truth.scatter_reduce(0, targets.phrase[:, None].expand_as(bump), bump, "amax")
    truth[targets.phrase, token] = 1.0
    return truth, token
