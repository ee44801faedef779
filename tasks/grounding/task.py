"""The grounding task: losses, metrics and optimiser around the model."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from datamodules.batches import GroundingBatch
from medvl.encoders.base import ImageEncoder, TextEncoder
from medvl.idle import with_idle
from medvl.optim import parameter_groups, scheduled
from medvl.permutation import PermutationCheck
from medvl.schedule import Schedule
from tasks.grounding.calibrator import Calibrator
from tasks.grounding.criterion import GroundingCriterion
from tasks.grounding.evaluation import Evaluation
from tasks.grounding.model import GroundingModel, GroundingOutput
from tasks.grounding.permuted import deal
from tasks.grounding.postprocess import Postprocess, ScoredBoxes
from tasks.grounding.predictions import PredictionWriter, SentenceResult


class PhraseTask(LightningModule):
    """Grounding with any network: training, evaluation and predictions around it.

    Args:
        model: Called with images, valid pixels, phrases and the image of each phrase (see `GroundingModel.forward`);
            answers with at least what `ScoredBoxes` names. Its `queries`, if it has any, are the most boxes.
        criterion: Called with that answer and the batch; returns `loss` and what else is to be logged.
        postprocess: Threshold and fusion of the boxes shown.
        optimizer: Called with parameter groups.
        schedule: Learning rate over the run.
        lr_scale: Multiples of the learning rate for parts of the model, by prefix: `{image_encoder: 0.1}`.
    """

    task_name = "grounding"
    monitor = ("val/p_at_f1", "max")
    headline = (
        *("p_at_f1/boxed", "p_at_f1/single", "p_at_f1/multi", "set_f1@0.5/boxed", "miou"),
        *("n_acc/negated", "n_acc/absent", "t_acc", "map_50", "froc/mean", "ece"),
    )

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module,
        postprocess: Postprocess | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        lr_scale: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion
        self.postprocess_asked = postprocess or Postprocess()
        self.postprocess = self.postprocess_asked.using(None)
        self.calibration: dict[str, Any] | None = None
        self.optimizer, self.schedule, self.lr_scale = optimizer, schedule or Schedule(), lr_scale or {}
        self.val_evaluation, self.test_evaluation = Evaluation(), Evaluation(full=True)

    def setup(self, stage: str) -> None:
        """Say when a sentence has more gold boxes than the network has queries: they can never all be found."""
        count = getattr(getattr(self.trainer, "datamodule", None), "crowded", None)
        queries = getattr(self.model, "queries", None)
        if stage != "predict" and count and queries and (found := count(queries)):
            rank_zero_warn(
                f"{found} sentences have more gold boxes than the {queries} queries: raise --model.queries; "
                f"`medvl data check ... --queries {queries}` names them"
            )

    def forward(self, batch: GroundingBatch) -> ScoredBoxes:
        """Ground every sentence of a batch."""
        output: ScoredBoxes = self.model(batch.images, batch.valid, batch.phrases, batch.image_index)
        return output

    def shared_step(self, batch: GroundingBatch, stage: str) -> tuple[ScoredBoxes, dict[str, Tensor]]:
        """Return the output and the losses, logged under `stage`."""
        output = self(batch)
        losses = self.criterion(output, batch)
        logged = {f"{stage}/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(
            logged,
            batch_size=len(batch),
            on_step=stage == "train",
            on_epoch=stage != "train",
            sync_dist=stage != "train",
        )
        if stage == "train":
            self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False, batch_size=len(batch))
        return output, losses

    def training_step(self, batch: GroundingBatch, batch_idx: int) -> Tensor:
        """Return the loss."""
        return with_idle(self.shared_step(batch, "train")[1]["loss"], self)

    def validation_step(  # type: ignore[override]  # for callbacks: Lightning hands on whatever a step returns
        self, batch: GroundingBatch, batch_idx: int
    ) -> list[SentenceResult]:
        """Add the batch to the validation metrics and return what the model said."""
        output, _ = self.shared_step(batch, "val")
        results = self._results(batch, output)
        self.val_evaluation.update(results)
        return results

    def test_step(  # type: ignore[override]  # for callbacks: Lightning hands on whatever a step returns
        self, batch: GroundingBatch, batch_idx: int
    ) -> list[SentenceResult]:
        """Add the batch to the test metrics and return what the model said."""
        output, _ = self.shared_step(batch, "test")
        results = self._results(batch, output)
        self.test_evaluation.update(results)
        return results

    def predict_step(self, batch: GroundingBatch, batch_idx: int) -> list[SentenceResult]:
        """Return what the model says of the batch."""
        return self._results(batch, self(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_metrics("val", self.val_evaluation)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test", self.test_evaluation)

    def configure_callbacks(self) -> list[Callback]:
        """Calibrate on validation data; write predictions, and whether questions dealt out anew change them."""
        return [Calibrator(self.postprocess.n_acc_floor), PredictionWriter(), PermutationCheck(deal)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Use the threshold and fusion that were calibrated for these weights, unless the user says otherwise."""
        self.calibration = checkpoint.get("calibration")
        if self._trainer is None or self._trainer.state.fn != TrainerFn.FITTING:  # of one fit, all epochs compare
            self.postprocess = self.postprocess_asked.using(self.calibration)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser and a schedule in fractions of the run."""
        groups = parameter_groups(self.model, self.lr_scale)
        return scheduled(groups, self.optimizer, self.schedule, int(self.trainer.estimated_stepping_batches))

    def _results(self, batch: GroundingBatch, output: ScoredBoxes) -> list[SentenceResult]:
        raw = self.postprocess.raw(output, batch.image_index, batch.transforms)
        sizes = [batch.transforms[i].source for i in batch.image_index.tolist()]
        return [
            SentenceResult(record, (size[0], size[1]), found, self.postprocess.keep(found))
            for record, size, found in zip(batch.records, sizes, raw, strict=True)
        ]

    def _log_metrics(self, stage: str, evaluation: Evaluation) -> None:
        values = {f"{stage}/{name}": value.to(self.device) for name, value in evaluation.compute().items()}
        # The same on every rank, for the metrics have been reduced; Lightning warns of each that is not synchronised.
        self.log_dict(values, sync_dist=True)
        self.log("p@f1", values[f"{stage}/p_at_f1"], prog_bar=True, logger=False, sync_dist=True)


class GroundingTask(PhraseTask):
    """Generalised medical phrase grounding: an image and a sentence to zero, one or many scored boxes.

    Args:
        image_encoder: Any 2D image encoder.
        text_encoder: Any text encoder.
        width: Channels of fusion and decoder.
        heads: Attention heads.
        fusion_layers: Layers of image-sentence attention before tokens are scored; 0 is the fastest.
        decoder_layers: Layers of the query decoder.
        queries: The most boxes that one sentence can get.
        memory: How many of the tokens that fit a sentence best its queries look at.
        ff_ratio: Width of feed-forward blocks, in multiples of `width`.
        dropout: Dropout in fusion and decoder.
        learned_queries: Start the queries at learnt content and boxes in place of the best tokens and their proposals.
        criterion: The loss.
        postprocess: Threshold and fusion of the boxes shown.
        optimizer: Called with parameter groups.
        schedule: Learning rate over the run.
        lr_scale: Multiples of the learning rate for parts of the model, by prefix: `{image_encoder: 0.1}`.
    """

    model: GroundingModel
    criterion: GroundingCriterion

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
        criterion: GroundingCriterion | None = None,
        postprocess: Postprocess | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        lr_scale: dict[str, float] | None = None,
    ) -> None:
        sizes = (width, heads, fusion_layers, decoder_layers, queries, memory, ff_ratio, dropout)
        model = GroundingModel(image_encoder, text_encoder, *sizes, learned_queries=learned_queries)
        super().__init__(model, criterion or GroundingCriterion(), postprocess, optimizer, schedule, lr_scale)

    def forward(self, batch: GroundingBatch) -> GroundingOutput:
        """Ground every sentence of a batch; in training, from the starts that the criterion asks for as well."""
        starts = self.criterion.starts(batch)
        output: GroundingOutput = self.model(batch.images, batch.valid, batch.phrases, batch.image_index, starts)
        return output
