"""The alignment task: a loss, retrieval metrics and the optimiser around two towers."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from datamodules.batches import StudyBatch
from medvl.distributed import gather_objects, mean_over_ranks
from medvl.encoders.base import ImageEncoder, TextEncoder
from medvl.freezing import freeze as freeze_parts
from medvl.freezing import rest
from medvl.idle import with_idle
from medvl.losses import AlignmentLoss, InfoNCE
from medvl.optim import parameter_groups, scheduled
from medvl.schedule import Schedule
from tasks.alignment.evaluation import Evaluation
from tasks.alignment.model import AlignmentModel, Embeddings, Pooling, Projection
from tasks.alignment.predictions import PredictionWriter, StudyResult, results_of
from tasks.alignment.studies import Known, finding_names


class AlignmentTask(LightningModule):
    """Aligns images, films or volumes, with their reports.

    A study without an image or without a text is left out of the metrics, and of the loss unless that `takes_halves`
    (MedTrim's does). `val/loss` is the mean over batches of `val`, weighted by their studies; a loss of mined triplets
    or of patches has none, for only training batches bring them.

    Args:
        image_encoder: Any image encoder; a 3D one for volumes.
        text_encoder: Any text encoder.
        loss: Any of `medvl.losses`. One that needs labels, scores or triplets gets those of the data: findings that are
            present; how alike studies are across all ranks, by entities or else labels; what was mined.
        dim: Width of the shared space.
        projection: From each pooled vector to it: `linear` or `mlp`.
        image_pooling: From an image's tokens to one vector: as the `encoder` does it, or `lse`, a smooth maximum.
        text_pooling: The same of a text.
        centred: Whether vectors lose their modality's mean before they get their length (`Centre`).
        optimizer: Called with parameter groups.
        schedule: Learning rate over the run.
        lr_scale: Multiples of the learning rate for parts of the model, by prefix: `{text_encoder: 0.1}`.
        freeze: Parts of the model that are not trained and stay in evaluation mode, by prefix: `[text_encoder]`.
    """

    task_name = "alignment"
    monitor = ("val/mean_recall", "max")
    headline = (
        *("mean_recall", "mean_chance", "i2t/r@5", "i2t/chance@5", "t2i/r@5", "t2i/chance@5"),
        *("i2t/p@10", "i2t/chance", "t2i/p@10", "t2i/chance", "i2i/p@10", "i2i/chance", "t2t/p@10", "t2t/chance"),
        *("zero_shot/auc", "zero_shot/f1", "zero_shot/acc"),  # where the `ZeroShot` callback is there
    )

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        loss: AlignmentLoss | None = None,
        dim: int = 512,
        projection: Projection = "linear",
        image_pooling: Pooling = "encoder",
        text_pooling: Pooling = "encoder",
        centred: bool = False,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        lr_scale: dict[str, float] | None = None,
        freeze: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.model = AlignmentModel(image_encoder, text_encoder, dim, projection, image_pooling, text_pooling, centred)
        self.loss = loss or InfoNCE()
        self.optimizer, self.schedule, self.lr_scale = optimizer, schedule or Schedule(), lr_scale or {}
        self.frozen = tuple(freeze or ())
        freeze_parts(self.model, self.frozen)
        self.train()
        self.val_evaluation, self.test_evaluation = Evaluation(at=(1, 5, 10)), Evaluation()
        self._validated: list[tuple[Embeddings, Known]] = []

    def train(self, mode: bool = True) -> AlignmentTask:
        """Set training mode, except of frozen parts: their dropout and running means rest as well."""
        super().train(mode)
        rest(self.model, self.frozen)
        return self

    def setup(self, stage: str) -> None:
        """Test class by class where the data set names its labels."""
        names = getattr(getattr(self.trainer, "datamodule", None), "label_names", ())
        if stage == "test":
            self.test_evaluation = Evaluation(finding_names(names)).to(self.device)

    def forward(self, batch: StudyBatch) -> Embeddings:
        """Embed the studies of a batch."""
        patches = self.training and "patches" in self.loss.needs  # those of all of `val` would be too many to keep
        embeddings: Embeddings = self.model(batch.images, batch.valid, batch.texts, patches)
        return embeddings

    def losses(self, embeddings: Embeddings, batch: StudyBatch) -> dict[str, Tensor]:
        """Return `loss` and its parts, of the studies that have what the loss compares."""
        return self._compare(*self._counted(embeddings, batch))

    def _counted(self, embeddings: Embeddings, batch: StudyBatch) -> tuple[Embeddings, Known]:
        """Return the studies that count in the loss, and what is known of them."""
        halves = torch.stack([batch.has_image, batch.has_text], dim=1)
        if self.loss.takes_halves:
            kept = halves.any(dim=1)
            return embeddings.where(kept), Known.of(batch, kept, halves)
        kept = halves.all(dim=1)
        return embeddings.where(kept), Known.of(batch, kept)

    def _compare(self, studies: Embeddings, known: Known) -> dict[str, Tensor]:
        patches = {} if studies.patches is None else {"patches": studies.patches}
        found: dict[str, Tensor] = self.loss(studies.image, studies.text, **known.extras(), **patches)
        return found

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        """Return the loss."""
        losses = self.losses(self(batch), batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch))
        self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False, batch_size=len(batch))
        return with_idle(losses["loss"], self)

    def validation_step(self, batch: StudyBatch, batch_idx: int) -> None:
        """Add the batch to the validation metrics."""
        embeddings = self(batch)
        self.val_evaluation.update(embeddings, batch)
        self._validated.append(self._counted(embeddings, batch))

    def test_step(  # type: ignore[override]  # for callbacks: Lightning hands on whatever a step returns
        self, batch: StudyBatch, batch_idx: int
    ) -> list[StudyResult]:
        """Add the batch to the test metrics and return its embeddings."""
        embeddings = self(batch)
        self.test_evaluation.update(embeddings, batch)
        return results_of(embeddings, batch)

    def predict_step(self, batch: StudyBatch, batch_idx: int) -> list[StudyResult]:
        """Return the embeddings of the batch."""
        return results_of(self(batch), batch)

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted validation left."""
        self._validated.clear()

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and metrics."""
        loss = self._validation_loss()
        if loss is not None:
            self.log("val/loss", loss, sync_dist=True)  # the same on every rank already
        self._log_metrics("val", self.val_evaluation)

    def _validation_loss(self) -> Tensor | None:
        """Return the mean loss of the batches seen, on every rank, or None where the data lacks what it needs.

        Only here, for ranks may have seen different numbers of batches, and a loss looks across ranks.
        """
        counts = gather_objects([len(self._validated)])
        if not min(counts):
            return None
        first, known = self._validated[0]
        if not self.loss.needs <= known.extras().keys():
            return None
        nobody = first.where(torch.zeros_like(known.groups, dtype=torch.bool)), known.nobody()
        total = weight = torch.zeros((), dtype=torch.float64)
        for place in range(max(counts)):
            studies, known = self._validated[place] if place < len(self._validated) else nobody
            count = mean_over_ranks(studies.image.new_tensor(float(len(studies.image)))).double().cpu()
            total = total + count * mean_over_ranks(self._compare(studies, known)["loss"]).double().cpu()
            weight = weight + count
        return (total / weight).float().to(self.device)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test", self.test_evaluation)

    def configure_callbacks(self) -> list[Callback]:
        """Write embeddings and neighbours into the run folder."""
        return [PredictionWriter()]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser, of the model and of what the loss learns, and a schedule in fractions of the run."""
        groups = parameter_groups(self.model, self.lr_scale) + parameter_groups(self.loss, {})
        return scheduled(groups, self.optimizer, self.schedule, int(self.trainer.estimated_stepping_batches))

    def _log_metrics(self, stage: str, evaluation: Evaluation) -> None:
        values = {f"{stage}/{name}": value.to(self.device) for name, value in evaluation.compute().items()}
        # The same on every rank, for the metrics have been reduced; Lightning warns of each that is not synchronised.
        self.log_dict(values, sync_dist=True)
        self.log("recall", values[f"{stage}/mean_recall"], prog_bar=True, logger=False, sync_dist=True)
