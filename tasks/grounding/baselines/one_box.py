"""One box per sentence: referring expression comprehension, with a head that says whether there is anything to find."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import GroundingBatch
from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.encoders.blocks import Block
from medvl.schedule import Schedule
from tasks.grounding.baselines.negation import denies
from tasks.grounding.baselines.shared import box_losses, hulls, normaliser
from tasks.grounding.boxes import to_cxcywh
from tasks.grounding.layers import Head, grid_centres, sine_embedding, token_at
from tasks.grounding.postprocess import Postprocess
from tasks.grounding.task import PhraseTask

SIZE = -1.4  # logit of a fifth: boxes start in the middle of the image, a fifth of its sides


@dataclass(frozen=True)
class OneBoxOutput:
    """What the model says of `P` sentences.

    Attributes:
        logits: Whether there is anything to find `(1, P, 1)`.
        boxes: Where, cxcywh in [0, 1] of the network input `(1, P, 1, 4)`.
        denied: `(P,)`, sentences that the rule in front has answered.
        pointed: Logits of where the centre lies, `(P, H*W)` over image tokens, -inf on padding.
        grid: `(H, W)` of the image tokens.
    """

    logits: Tensor
    boxes: Tensor
    denied: Tensor
    pointed: Tensor
    grid: tuple[int, ...]


class OneBoxModel(nn.Module):
    """Image tokens, words and a [REG] token in one transformer; [REG] becomes a box and a groundability score.

    After TransVG (arXiv 2104.08541) and MedRPG (arXiv 2303.07618, without its contrastive term), which have no score
    and read the box off [REG] alone. Here [REG] points at image tokens first, and the box lies about where it points:
    from scratch and in a few hundred steps the published head finds nothing, which would be no comparison.

    Args:
        image_encoder: Any 2D encoder of the contract.
        text_encoder: Any text encoder of the contract.
        width: Channels of the transformer.
        heads: Attention heads.
        layers: Its layers; they run on every token for every sentence.
        ff_ratio: Width of the feed-forward blocks, in multiples of `width`.
        dropout: Dropout in the transformer.
        rule: Give no box to sentences that deny a finding or call something normal (see `denies`).
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        width: int = 256,
        heads: int = 8,
        layers: int = 6,
        ff_ratio: int = 4,
        dropout: float = 0.1,
        rule: bool = False,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.width, self.rule = width, rule
        self.image_proj = nn.Sequential(nn.Linear(image_encoder.width, width), nn.LayerNorm(width))
        self.text_proj = nn.Sequential(nn.Linear(text_encoder.width, width), nn.LayerNorm(width))
        self.reg = nn.Parameter(0.02 * torch.randn(width))
        self.kinds = nn.Parameter(0.02 * torch.randn(2, width))  # so that words and image tokens are told apart
        self.blocks = nn.ModuleList(Block(width, heads, ff_ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.ask, self.offer = nn.Linear(width, width), nn.Linear(width, width)
        self.head = Head(2 * width, [0, 0, 0, SIZE, SIZE])

    def forward(self, images: Tensor, valid: Tensor | None, phrases: list[str], image_index: Tensor) -> OneBoxOutput:
        """Ground `P` sentences in `B` images; arguments as of `GroundingModel.forward`."""
        image = self.image_encoder(images, valid)
        score, box, pointed = self._read(image, self.text_encoder(phrases), image_index)
        denied = torch.tensor([self.rule and denies(phrase) for phrase in phrases], device=score.device)
        logits = score.masked_fill(denied, -1e4)[None, :, None]
        return OneBoxOutput(logits, box[None, :, None], denied, pointed, image.grid or ())

    def _read(self, image: Features, text: Features, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores `(P,)` as logits, boxes `(P, 4)`, and where [REG] points `(P, N)` as logits."""
        if image.grid is None or len(image.grid) != 2:
            raise ValueError(f"grounding needs a 2D token grid, got {image.grid}")
        centres = grid_centres(image.grid, index.device)
        position = sine_embedding(centres, self.width // 2)
        seen = (self.image_proj(image.tokens) + position + self.kinds[0]).index_select(0, index)
        said, reg = self.text_proj(text.tokens) + self.kinds[1], self.reg.expand(len(index), 1, -1)
        tokens = torch.cat([reg, said, seen], dim=1)
        mask = torch.cat([text.mask.new_ones(len(index), 1), text.mask, image.mask[index]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, mask)
        tokens = self.norm(tokens)
        own, places = tokens[:, 0], tokens[:, -len(centres) :]
        pointed = torch.einsum("pc,pnc->pn", self.ask(own), self.offer(places)) / self.width**0.5
        pointed = pointed.to(torch.promote_types(pointed.dtype, torch.float32))
        pointed = pointed.masked_fill(~mask[:, -len(centres) :], -torch.inf)
        share = pointed.softmax(dim=1).to(own)
        seen = torch.einsum("pn,pnc->pc", share, places)
        score, change = self.head(torch.cat([own, seen], dim=1)).split([1, 4], dim=-1)
        middle = (share @ centres.to(share)).logit(eps=1e-3)
        return score.squeeze(-1), (change + F.pad(middle, (0, 2))).sigmoid(), pointed


class OneBoxCriterion(nn.Module):
    """Binary cross-entropy of the score; L1 and GIoU of the box, which shall enclose all gold boxes of its sentence.

    Where [REG] points has a cross-entropy with the token in the middle of that box.

    Args:
        score: Weight of the cross-entropy, averaged over sentences that the rule left.
        l1: Weight of the L1 distance of boxes as cxcywh.
        giou: Weight of 1 - GIoU.
        point: Weight of the cross-entropy of where it points.
    """

    def __init__(self, score: float = 1.0, l1: float = 5.0, giou: float = 2.0, point: float = 1.0) -> None:
        super().__init__()
        self.score, self.l1, self.giou, self.point = score, l1, giou, point

    def forward(self, output: OneBoxOutput, batch: GroundingBatch) -> dict[str, Tensor]:
        """Return `loss` and its parts as scalars."""
        logits, boxes = output.logits[0, :, 0], output.boxes[0, :, 0]
        boxed, gold = (found.to(logits.device) for found in hulls(batch.boxes))
        asked = ~output.denied
        score = F.binary_cross_entropy_with_logits(logits[asked], boxed[asked].to(logits), reduction="sum")
        score = score / normaliser(float(asked.sum()), logits, self.training)
        count = normaliser(len(gold), logits, self.training)
        l1, giou = (part / count for part in box_losses(boxes[boxed], gold))
        middle = token_at(to_cxcywh(gold)[:, :2], output.grid)
        point = F.cross_entropy(output.pointed[boxed], middle, reduction="sum") / count
        loss = self.score * score + self.l1 * l1 + self.giou * giou + self.point * point
        return {"loss": loss, "score": score, "l1": l1, "giou": giou, "point": point}


class OneBoxTask(PhraseTask):
    """Grounding with one box per sentence.

    Args:
        image_encoder: Any 2D image encoder.
        text_encoder: Any text encoder.
        width: Channels of the transformer.
        heads: Attention heads.
        layers: Layers of the transformer.
        ff_ratio: Width of feed-forward blocks, in multiples of `width`.
        dropout: Dropout in the transformer.
        rule: Give no box to sentences that deny a finding or call something normal, by their words.
        criterion: The loss.
        postprocess: Threshold of the boxes shown.
        optimizer: Called with parameter groups.
        schedule: Learning rate over the run.
        lr_scale: Multiples of the learning rate for parts of the model, by prefix: `{image_encoder: 0.1}`.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        width: int = 256,
        heads: int = 8,
        layers: int = 6,
        ff_ratio: int = 4,
        dropout: float = 0.1,
        rule: bool = False,
        criterion: OneBoxCriterion | None = None,
        postprocess: Postprocess | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        lr_scale: dict[str, float] | None = None,
    ) -> None:
        model = OneBoxModel(image_encoder, text_encoder, width, heads, layers, ff_ratio, dropout, rule)
        super().__init__(model, criterion or OneBoxCriterion(), postprocess, optimizer, schedule, lr_scale)
