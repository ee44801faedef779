"""What `ddp-parity` compares: each task with each of its losses, in float64 and without dropout."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ddp_batches import WORDS, grounding, halved, reports, volumes
from medvl.encoders import Tiny3D, TinyConv, TinyText
from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss, SigmoidLoss, SoftInfoNCE, SupCon
from tasks.alignment import AlignmentTask
from tasks.grounding import GroundingCriterion, GroundingTask
from tasks.grounding.baselines import DenseTask, OneBoxTask
from tasks.grounding.denoising import Denoising
from tasks.grounding.matcher import Targets
from tasks.volume import VolumeTask
from tasks.volume.large_batch import ChunkedStep
from tasks.volume.prompts import Prompts

Parts = list[list[int]]
"""The items of each rank, in rank order; those of this rank alone where it is one of several."""


class Case(nn.Module):
    """A task with one loss; called, it returns the loss of a batch, as `training_step` does.

    Args:
        task: The task.
        batch: Makes a batch of items.
        chunk: Studies at a time, where the gradients are made by hand (`ChunkedStep`).
    """

    def __init__(self, task: Any, batch: Callable[[Parts], Any], chunk: int = 0) -> None:
        super().__init__()
        self.task, self.batch, self.chunk = task.double(), batch, chunk
        for parameter in task.parameters():  # heads that start at zero let no gradient through to what is below them
            if parameter.ndim:
                parameter.data.add_(0.02 * torch.randn_like(parameter))

    def forward(self, parts: Parts) -> Tensor:
        """Return the loss; where gradients are made by hand, add them."""
        batch = self.batch(parts)
        if self.chunk:
            return ChunkedStep(self.task)(batch, self.chunk)["loss"]
        self.task.log = self.task.log_dict = lambda *values, **options: None  # there is no trainer
        loss: Tensor = self.task.training_step(batch, 0)
        return loss

    def metrics(self, batches: list[Parts]) -> dict[str, float]:
        """Return what an epoch of validation over batches measures."""
        found: dict[str, float] = {}

        def keep(values: dict[str, Tensor], **options: Any) -> None:
            found.update({name: float(value) for name, value in values.items()})

        task = self.task.eval()
        task.log_dict = task.log = lambda *values, **options: None
        with torch.no_grad():
            for number, parts in enumerate(batches):
                task.validation_step(self.batch(parts), number)
            task.log_dict, task.log = keep, lambda name, value, **options: keep({name: value})
            task.on_validation_epoch_end()
        return found


@dataclass(frozen=True)
class _Ground:
    kind: type[Any] = GroundingTask
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self) -> Case:
        own = {GroundingTask: {"heads": 2, "fusion_layers": 1, "decoder_layers": 2, "queries": 4},
               OneBoxTask: {"heads": 2, "layers": 1}, DenseTask: {"layers": 1}}[self.kind]  # fmt: skip
        # Copied, for evaluation leaves a criterion in evaluation mode.
        task = self.kind(*_encoders(), width=32, ff_ratio=2, dropout=0.0, **own, **deepcopy(dict(self.options)))
        return Case(task, lambda parts: grounding(_items(parts)))


def _ground(kind: type[Any] = GroundingTask, **options: Any) -> Callable[[], Case]:
    return _Ground(kind, tuple(options.items()))


def _align(loss: Callable[[], AlignmentLoss], halves: bool = False, **options: Any) -> Callable[[], Case]:
    def made() -> Case:
        def batch(parts: Parts) -> Any:
            items = _items(parts)
            given = reports(items, _triplets(parts))
            return halved(given, items) if halves else given

        return Case(AlignmentTask(*_encoders(), loss(), dim=16, **options), batch)

    return made


def _volume(loss: Callable[[], AlignmentLoss], chunk: int = 0, **options: Any) -> Callable[[], Case]:
    def made() -> Case:
        encoders = Tiny3D(width=16, depth=1, context=1), TinyText(width=16, depth=1, buckets=64)
        task = VolumeTask(*encoders, dim=16, loss=loss(), **options)
        task.prompts = Prompts.of(WORDS, ["There is a {}."], ["No {}."])
        task.val_evaluation = type(task.val_evaluation)(WORDS if task.weights["disease"] else ())
        return Case(task, lambda parts: volumes(_items(parts)), chunk)

    return made


def _encoders() -> tuple[TinyConv, TinyText]:
    return TinyConv(width=64, context=1), TinyText(width=16, depth=1, buckets=64)


def _items(parts: Parts) -> list[int]:
    return [item for part in parts for item in part]


def _triplets(parts: Parts) -> list[list[int]]:
    """Return the triplets of each rank's own rows: three for every three of them, so that ranks differ in number."""
    starts = [sum(map(len, parts[:k])) for k in range(len(parts))]
    rows = [range(start, start + len(part)) for start, part in zip(starts, parts, strict=True)]
    return [[own[i], own[i - 1], own[i - 2]] for own in rows for i in range(len(own)) if len(own) > 2]


def _mined(**options: Any) -> Callable[[], AlignmentLoss]:
    return lambda: MedTrimLoss(miner=BatchMiner(fallback="below"), **options)


class _Shifted(Denoising):
    """Starts beside the gold box, the same on any rank: on it L1 has a corner, where rounding makes the gradient."""

    def starts(self, targets: Targets) -> Tensor:
        """Return what is given as starts without noise, a little smaller and moved."""
        return 0.85 * super().starts(targets) + 0.04


CASES: dict[str, Callable[[], Case]] = {
    "grounding/criterion": _ground(),
    "grounding/denoising": _ground(criterion=GroundingCriterion(denoising=_Shifted(queries=2, noise=0.0))),
    "grounding/iou-confidence": _ground(criterion=GroundingCriterion(confidence="iou"), learned_queries=True),
    "grounding/one-box": _ground(OneBoxTask),
    "grounding/dense": _ground(DenseTask),
    "alignment/infonce": _align(InfoNCE),
    "alignment/sigmoid": _align(lambda: SigmoidLoss(chunk=3)),
    "alignment/soft": _align(SoftInfoNCE),
    "alignment/supcon": _align(lambda: SupCon(learn_temperature=True)),
    "alignment/supcon-cross": _align(lambda: SupCon(positives="exact", modalities="cross")),
    "alignment/triplets": _align(MedTrimLoss),
    "alignment/triplets-paired": _align(lambda: MedTrimLoss(paired=0.5), halves=True),
    "alignment/mined-in-batch": _align(_mined()),
    "alignment/mined-halves": _align(_mined(paired=0.5), halves=True),
    "alignment/mined-patches": _align(_mined(patches=0.5, paired=0.5)),
    "alignment/mined-centred": _align(_mined(), halves=True, centred=True, image_pooling="lse", text_pooling="lse"),
    "volume/sigmoid": _volume(SigmoidLoss),
    "volume/infonce": _volume(InfoNCE),
    "volume/global-heads": _volume(SigmoidLoss, depth_heads="global"),
    "volume/contrastive-only": _volume(SigmoidLoss, disease_weight=0.0, localisation_weight=0.0),
    "volume/diseases-only": _volume(SigmoidLoss, contrastive_weight=0.0, localisation_weight=0.0),
    "volume/depths-only": _volume(SigmoidLoss, contrastive_weight=0.0, disease_weight=0.0),
    "volume/gradcache-sigmoid": _volume(SigmoidLoss, chunk=2),
    "volume/gradcache-infonce": _volume(InfoNCE, chunk=2),
}


def make(name: str) -> Case:
    """Build a case, the same on every rank."""
    torch.manual_seed(0)
    return CASES[name]()
