"""Batches too large for one pass: studies are embedded chunk by chunk, and the sigmoid loss still sees all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from datamodules.batches import VolumeBatch
from medvl.encoders.base import Features
from medvl.errors import ConfigError
from medvl.losses import GradCache
from tasks.volume.prompts import margins

if TYPE_CHECKING:
    from tasks.volume.task import VolumeTask


@dataclass(frozen=True)
class LargeBatch:
    """How a large batch is trained on; `data.batch_size` is what the contrastive loss sees on each rank.

    Args:
        chunk: Studies whose activations are in memory at a time; the volumes of all are.
        clip: Largest norm of the gradient, in place of `trainer.gradient_clip_val`; None leaves it.

    Raises:
        ConfigError: A value that cannot be.
    """

    chunk: int
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1 or (self.clip is not None and self.clip <= 0):
            hint = "expected chunk >= 1 and clip > 0, or none"
            raise ConfigError(f"chunk is {self.chunk} and clip {self.clip}", where="model.large_batch", hint=hint)

    def check(self, trainer: Trainer) -> None:
        """Refuse what gradients made by hand do not go with.

        Raises:
            ConfigError: The trainer clips, accumulates, scales losses or shards parameters.
        """
        wanted = None
        if trainer.gradient_clip_val:
            wanted = "gradient_clip_val", "null, and model.large_batch.clip in its place"
        elif trainer.accumulate_grad_batches != 1:
            wanted = "accumulate_grad_batches", "1, and a larger data.batch_size: a chunk alone is in memory"
        elif trainer.precision == "16-mixed":
            wanted = "precision", "bf16-mixed or 32-true: a scaler would scale twice"
        elif not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
            wanted = "strategy", "ddp: parameters are whole on every rank"
        if wanted:
            hint = f"expected {wanted[1]}"
            raise ConfigError("large_batch does not go with this", where=f"trainer.{wanted[0]}", hint=hint)


class ChunkedStep:
    """The gradients of one large batch, by GradCache: those of `VolumeTask.losses` of the whole.

    The sigmoid loss is that of all studies of all ranks; the losses of depths and prompts are sums over studies, so
    each chunk adds its own, divided by the counts of the whole batch. Prompts are drawn once and embedded with each
    chunk.

    Args:
        task: Whose model, losses and weights.
    """

    def __init__(self, task: VolumeTask) -> None:
        self.task = task
        self.cache = GradCache(self._embed, task.parameters)

    def __call__(self, batch: VolumeBatch, chunk: int) -> dict[str, Tensor]:
        """Add the gradients of `batch` to those of the parameters; return `loss` and its parts."""
        task, like = self.task, next(self.task.parameters()).detach()
        told = batch.has_text
        depths, labels = task.localisation.count(len(batch.snippets), like), task.diseases.count(batch.labels, like)
        drawn, parts = task.prompts.drawn(), dict[str, Tensor]()

        def add(name: str, value: Tensor) -> Tensor:
            parts[name] = parts.get(name, 0.0) + value.detach()
            return task.weights[name] * value

        def together(volumes: Tensor, reports: Tensor) -> dict[str, Tensor]:
            if not task.weights["contrastive"]:
                return {"loss": volumes.sum() * 0.0}
            return {"loss": add("contrastive", task.loss(volumes[told], reports[told])["loss"])}

        def own(part: VolumeBatch, found: Sequence[Tensor]) -> Tensor:
            loss = found[0].sum() * 0.0
            if task.weights["depth"]:
                features = Features(found[2].flatten(1, 3), found[3], found[0], tuple(found[2].shape[1:4]))
                loss = loss + add("depth", task.localisation(task.locate(features, part), part.intervals, depths))
            if task.prompts.names and task.weights["disease"]:
                logits = margins(found[0], *task.embed_drawn(*drawn), task.scale())
                loss = loss + add("disease", task.diseases(logits, part.labels, labels))
            return loss

        losses = self.cache(batch.chunks(chunk), together, own)
        return {"loss": losses["loss"], **parts}

    def _embed(self, part: VolumeBatch) -> tuple[Tensor, ...]:
        """Return the vectors of volumes and reports, and the tokens `(n, D, H, W, C)` and their mask."""
        model = self.task.model
        features = model.read_volumes(part.volumes, part.valid)
        tokens = features.tokens.view(len(part), *model.sides(features), -1)
        return model.embed_volumes(features), model.embed_texts(part.texts), tokens, features.mask
