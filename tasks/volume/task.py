"""The volume task: contrastive, disease and depth losses, metrics and the optimiser around the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim.lr_scheduler import LRScheduler

from datamodules.batches import VolumeBatch
from medvl.distributed import alone
from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.freezing import freeze as freeze_parts
from medvl.freezing import rest
from medvl.idle import with_idle
from medvl.losses import AlignmentLoss, SigmoidLoss
from medvl.optim import parameter_groups, scheduled
from medvl.permutation import PermutationCheck
from medvl.schedule import Schedule
from tasks.volume.evaluation import Evaluation
from tasks.volume.large_batch import ChunkedStep, LargeBatch
from tasks.volume.localisation import Answer, Depths, LocalisationLoss, Localiser, read
from tasks.volume.model import DepthHeads, VolumeModel
from tasks.volume.permuted import deal
from tasks.volume.predictions import DepthWriter, SnippetResult
from tasks.volume.prompts import NEGATIVE, POSITIVE, PromptDiseaseLoss, Prompts, margins
from tasks.volume.protocols import HEADLINE, Protocols
from tasks.volume.scans import ScanResult, ScanWriter, StepResults
from tasks.volume.summary import SummaryWriter


class VolumeOutput(NamedTuple):
    """What the model says of a batch.

    Attributes:
        volumes: Unit vectors `(B, C)`.
        reports: Unit vectors `(B, C)`.
        depths: Of the `S` snippets.
        diseases: Margins of the prompts `(B, K)`; None without classes.
    """

    volumes: Tensor
    reports: Tensor
    depths: Depths
    diseases: Tensor | None


class VolumeTask(LightningModule):
    """Aligns CT volumes with reports, supervises diseases by prompts, and finds the depths of snippets.

    Args:
        image_encoder: Any 3D image encoder.
        text_encoder: Any text encoder.
        dim: Width of the shared spaces.
        loss: Any of `medvl.losses` that needs no labels; its temperature also scales the prompts' margins.
        localiser: Compares snippets with depths.
        localisation: Loss of the depths.
        disease_weight: Weight of the prompts' loss; 0 leaves it out. RadFinder's is 0.5.
        localisation_weight: Weight of the depths' loss; 0 leaves it out.
        contrastive_weight: Weight of `loss`; 0 leaves it out.
        weight_cap: The most that a positive label weighs.
        positive: Templates of prompts that affirm a class, `{}` being its name.
        negative: Templates that deny it.
        class_words: What a class is called in a sentence, where its label in lower case will not do.
        confidence: Share of the probability that the interval around an answer holds.
        silence: Each validation calibrates when a snippet is answered with "not in this scan": so that this share of
            those that a scan of val shows is.
        depth_heads: Whose heads depths and snippets go through: their `own`, or the `global` ones of volumes and
            reports, which need no loss of the depths.
        protocols: What test measures besides: `[ctrate/retrieval/first, ctrate/auc18]` (see `tasks.volume.protocols`).
        optimizer: Called with parameter groups.
        schedule: Learning rate over the run.
        lr_scale: Multiples of the learning rate for parts of the model, by prefix: `{text_encoder: 0.1}`.
        freeze: Parts of the model that are not trained and stay in evaluation mode, by prefix: `[image_encoder]`.
        large_batch: Trains on batches that do not fit into memory, some studies at a time: `{chunk: 8, clip: 1.0}`.
    """

    task_name = "volume"
    monitor = ("val/always/mae", "min")
    headline = (
        *("mae", "median", "within_12", "within_24", "abstained", "denied_absent", "auroc_absent"),
        *("always/mae", "always/median"),
        *("auc", "f1", "mean_recall", "i2t/r@5", "i2t/chance@5", "t2i/r@5", "t2i/chance@5"),
        *HEADLINE,
    )

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        loss: AlignmentLoss | None = None,
        localiser: Localiser | None = None,
        localisation: LocalisationLoss | None = None,
        disease_weight: float = 0.5,
        localisation_weight: float = 1.0,
        contrastive_weight: float = 1.0,
        weight_cap: float = 20.0,
        positive: list[str] | None = None,
        negative: list[str] | None = None,
        class_words: dict[str, str] | None = None,
        confidence: float = 0.8,
        silence: float = 0.002,
        depth_heads: DepthHeads = "own",
        protocols: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        lr_scale: dict[str, float] | None = None,
        freeze: list[str] | None = None,
        large_batch: LargeBatch | None = None,
    ) -> None:
        super().__init__()
        self.model = VolumeModel(image_encoder, text_encoder, dim, localiser, depth_heads)
        self.loss, self.localisation = loss or SigmoidLoss(), localisation or LocalisationLoss()
        self.diseases = PromptDiseaseLoss(weight_cap)
        self.weights = {"contrastive": contrastive_weight, "disease": disease_weight, "depth": localisation_weight}
        self.templates = tuple(positive or POSITIVE), tuple(negative or NEGATIVE)
        self.class_words, self.confidence, self.silence = class_words or {}, confidence, silence
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(()))
        self.prompts, self.protocols = Prompts((), (), ()), Protocols(protocols or ())
        self.optimizer, self.schedule, self.lr_scale = optimizer, schedule or Schedule(), lr_scale or {}
        self.frozen, self.large_batch = tuple(freeze or ()), large_batch
        self.automatic_optimization = large_batch is None
        freeze_parts(self.model, self.frozen)
        self.train()
        self.val_evaluation, self.test_evaluation = Evaluation(), Evaluation()

    def train(self, mode: bool = True) -> VolumeTask:
        """Set training mode, except of frozen parts."""
        super().train(mode)
        rest(self.model, self.frozen)
        return self

    def setup(self, stage: str) -> None:
        """Take the classes and their balance from the data."""
        data = getattr(self.trainer, "datamodule", None)
        names = tuple(getattr(data, "label_names", ()))
        self.prompts = Prompts.of(names, *self.templates, words=self.class_words)
        if data is not None and names and stage == "fit":
            self.diseases.balance(data.label_table("train"))
        if stage == "test":
            self.protocols.check(data)
        self.val_evaluation = Evaluation(names, self.silence).to(self.device)
        self.test_evaluation = Evaluation(names).to(self.device)

    def forward(self, batch: VolumeBatch) -> VolumeOutput:
        """Embed the studies of a batch and locate its snippets."""
        features = self.model.read_volumes(batch.volumes, batch.valid)
        volumes, depths, diseases = self.model.embed_volumes(features), self.locate(features, batch), None
        if self.prompts.names and self.weights["disease"]:
            diseases = margins(volumes, *self._prompts(), self.scale())
        return VolumeOutput(volumes, self.model.embed_texts(batch.texts), depths, diseases)

    def locate(self, features: Features, batch: VolumeBatch) -> Depths:
        """Compare the snippets of a batch with the depths of its volumes, whose features are given."""
        grid = self.model.grid(features, batch.first_mm, batch.step_mm, batch.slices)
        return self.model.locate(features, grid, self.model.embed_snippets(batch.snippets), batch.snippet_index)

    def losses(self, output: VolumeOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return `loss` and its parts."""
        told, parts = batch.has_text, {}
        if self.weights["contrastive"]:
            parts["contrastive"] = self.loss(output.volumes[told], output.reports[told])["loss"]
        if self.weights["depth"]:
            parts["depth"] = self.localisation(output.depths, batch.intervals)
        if output.diseases is not None:
            parts["disease"] = self.diseases(output.diseases, batch.labels)
        total = sum((self.weights[name] * value for name, value in parts.items()), output.volumes.sum() * 0.0)
        return {"loss": total, **parts}

    def shared_step(self, batch: VolumeBatch, stage: str) -> tuple[VolumeOutput, Tensor]:
        """Return the output and the loss, logged under `stage`."""
        output = self(batch)
        losses = self.losses(output, batch)
        self._log_losses(losses, len(batch), stage)
        return output, losses["loss"]

    def training_step(self, batch: VolumeBatch, batch_idx: int) -> Tensor:
        """Return the loss; of a large batch after the optimiser's step, which it takes itself."""
        if self.large_batch is not None:
            return self._step(batch, self.large_batch)
        return with_idle(self.shared_step(batch, "train")[1], self)

    def validation_step(  # type: ignore[override]  # for callbacks: Lightning hands on whatever a step returns
        self, batch: VolumeBatch, batch_idx: int
    ) -> StepResults:
        """Add the batch to the validation metrics."""
        return self._evaluate(batch, "val", self.val_evaluation)

    def test_step(  # type: ignore[override]  # for callbacks: Lightning hands on whatever a step returns
        self, batch: VolumeBatch, batch_idx: int
    ) -> StepResults:
        """Add the batch to the test metrics and return what the model said."""
        results = self._evaluate(batch, "test", self.test_evaluation)
        self.protocols.add(results)
        return results

    def predict_step(self, batch: VolumeBatch, batch_idx: int) -> list[SnippetResult]:
        """Return what the model says of the batch's snippets."""
        return SnippetResult.of(batch, self._answers(self(batch)))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_metrics("val", self.val_evaluation)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test", self.test_evaluation)
        found = self.protocols.measure(self.embed_classes)
        self.log_dict({f"test/{name}": value for name, value in found.items()}, sync_dist=True)

    def configure_callbacks(self) -> list[Callback]:
        """Write predictions of test and predict, and whether questions dealt out anew change them."""
        if self.large_batch is not None:  # the first hook, before Lightning refuses in words of its own
            self.large_batch.check(self.trainer)
        return [DepthWriter(), ScanWriter(), SummaryWriter(), PermutationCheck(deal)]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser, of the model and of what the loss learns, and a schedule in fractions of the run."""
        groups = parameter_groups(self.model, self.lr_scale) + parameter_groups(self.loss, {})
        return scheduled(groups, self.optimizer, self.schedule, int(self.trainer.estimated_stepping_batches))

    def _step(self, batch: VolumeBatch, large: LargeBatch) -> Tensor:
        optimizer, schedule = cast(LightningOptimizer, self.optimizers()), cast(LRScheduler, self.lr_schedulers())
        optimizer.zero_grad()
        losses = ChunkedStep(self)(batch, large.chunk)
        self.clip_gradients(optimizer.optimizer, large.clip, "norm")
        optimizer.step()
        schedule.step()
        self._log_losses(losses, len(batch), "train")
        return losses["loss"]

    def _log_losses(self, losses: Mapping[str, Tensor], studies: int, stage: str) -> None:
        logged, train = {f"{stage}/{name}": value.detach() for name, value in losses.items()}, stage == "train"
        self.log_dict(logged, batch_size=studies, on_step=train, on_epoch=not train, sync_dist=not train)
        if train:
            self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False, batch_size=studies)

    def _evaluate(self, batch: VolumeBatch, stage: str, evaluation: Evaluation) -> StepResults:
        with alone():
            output, _ = self.shared_step(batch, stage)
        answers = self._answers(output)
        probability = None if output.diseases is None else output.diseases.sigmoid()
        evaluation.update(batch, output.volumes, output.reports, probability, answers)
        scans = ScanResult.of(batch, output.volumes, output.reports, output.diseases)
        return StepResults(SnippetResult.of(batch, answers), scans)

    def _answers(self, output: VolumeOutput) -> list[Answer]:
        return read(output.depths, self.confidence, self.shift)

    def _prompts(self) -> tuple[Tensor, Tensor]:
        """Return embeddings of prompts `(K, C)`: one drawn for each class in training, the mean of all otherwise."""
        return self.embed_drawn(*self.prompts.drawn()) if self.training else self._mean(self.prompts)

    def embed_drawn(self, affirming: Sequence[str], denying: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return vectors `(K, C)` of one affirming and one denying sentence of each class, in one pass for both."""
        positive, negative = self.model.embed_texts([*affirming, *denying]).chunk(2)
        return positive, negative

    @torch.inference_mode()
    def embed_classes(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return vectors `(K, C)` that affirm and deny classes, which need not be those of the data."""
        return self._mean(Prompts.of(names, *self.templates, words=self.class_words))

    def _mean(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Return the mean of each class's sentences, `(K, C)`: of those that affirm it and of those that deny it."""
        found = []
        for groups in (prompts.positive, prompts.negative):
            every = torch.split(self.model.embed_texts([text for one in groups for text in one]), [*map(len, groups)])
            found.append(torch.stack([normalize(part.mean(dim=0), dim=0) for part in every]))
        return found[0], found[1]

    def scale(self) -> Tensor:
        """Return what the prompts' margins are multiplied by: the inverse of the loss's temperature."""
        temperature = getattr(self.loss, "temperature", None)
        return temperature() if temperature is not None else torch.tensor(10.0, device=self.device)

    def _log_metrics(self, stage: str, evaluation: Evaluation) -> None:
        found = evaluation.compute()
        if (shift := found.pop("shift", None)) is not None:
            self.shift += shift.to(self.shift)
        values = {f"{stage}/{name}": value.to(self.device).float() for name, value in found.items()}
        # The same on every rank, for the metrics have been reduced; Lightning warns of each that is not synchronised.
        self.log_dict(values, sync_dist=True)
        self.log("mae", values[f"{stage}/always/mae"], prog_bar=True, logger=False, sync_dist=True)
