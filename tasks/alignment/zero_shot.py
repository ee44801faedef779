"""Zero-shot classification of the test images, by prompts that affirm a finding and prompts that deny it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import SumMetric

from datamodules.batches import StudyBatch
from medvl.errors import ConfigError, nearest
from medvl.metrics.zero_shot import Ensemble, ZeroShotClassification, prompt_scores
from tasks.alignment.model import AlignmentModel
from tasks.alignment.predictions import StudyResult

SLOT = "{}"
Mode = Literal["multiclass", "multilabel"]
Blanks = Literal["unknown", "absent"]
Prompts = tuple[Tensor, Tensor]
"""Vectors `(P, C)`, and the class that each speaks of `(P,)`."""


class ZeroShotEvaluation(nn.Module):
    """Scores images by prompts.

    `multilabel`: a class's score is the cosine with what affirms it less that with what denies it, and it is found at
    >= 0: the pair's softmax of CheXzero (doi 10.1038/s41551-022-00936-9) is >= 1/2 just there, at any temperature.
    `multiclass`: the class of the highest cosine with what affirms it, over images that show exactly one class.

    Args:
        classes: Their names.
        present: Prompts that affirm.
        absent: Prompts that deny; `multiclass` does not look at them.
        mode: See above.
        ensemble: How a class's prompts become one score (see `prompt_scores`).
        blanks: Whether a label that is left open is `unknown`, and does not count, or `absent`.
        minority: Rare classes by name, or the share of known labels below which a class is rare.
    """

    def __init__(
        self,
        classes: Sequence[str],
        present: Prompts,
        absent: Prompts,
        mode: Mode = "multilabel",
        ensemble: Ensemble = "embedding",
        blanks: Blanks = "unknown",
        minority: float | Sequence[str] = 0.05,
    ) -> None:
        super().__init__()
        self.present, self.absent, self.mode, self.ensemble, self.blanks = present, absent, mode, ensemble, blanks
        self.metric = ZeroShotClassification(classes, mode, 0.0, minority)
        self.images = SumMetric()

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add images.

        Args:
            images: Embeddings `(n, C)`.
            labels: `(n, classes)`: 1, 0, -1 (uncertain) or NaN (left open).
        """
        labels = labels.nan_to_num(nan=0.0 if self.blanks == "absent" else -1.0)
        scores = self._scores(images, self.present)
        if self.mode == "multiclass":
            counted, gold = (labels == 1).sum(dim=1) == 1, labels.argmax(dim=1)
        else:
            counted, gold = (labels >= 0).any(dim=1), labels
            scores = scores - self._scores(images, self.absent)
        self.metric.update(scores[counted], gold[counted])
        self.images.update(counted.sum())

    def compute(self) -> dict[str, Tensor]:
        """Return what `ZeroShotClassification` names, and `images`, how many counted, of all ranks."""
        return {**self.metric.compute(), "images": self.images.compute()}

    def _scores(self, images: Tensor, prompts: Prompts) -> Tensor:
        return prompt_scores(images, *prompts, len(self.metric.classes), self.ensemble)


class ZeroShot(Callback):
    """Measures the images of `medvl test` against prompts. Texts of the data set play no part: it needs none.

    A prompt is a template with the name of a finding in its slot; each finding is called by all its names in all
    templates. What `ZeroShotEvaluation` returns is logged as `test/zero_shot/auc`, `test/zero_shot/auc/Edema`, ...

    Args:
        names: Of each label of the data set, what reports call it. Labels that the data set has not are left out.
        present: Templates that affirm.
        absent: Templates that deny.
        mode: How classes are told apart, as the arguments below in `ZeroShotEvaluation`.
        ensemble: How a class's prompts become one score.
        blanks: What a label that is left open is.
        minority: Rare classes by name, or the share of known labels below which a class is rare.

    Raises:
        ConfigError: A class has no name, or a template no slot.
    """

    def __init__(
        self,
        names: dict[str, list[str]],
        present: Sequence[str] = ("{}", "there is {}", "findings of {}"),
        absent: Sequence[str] = ("no {}", "there is no {}", "no evidence of {}"),
        mode: Mode = "multilabel",
        ensemble: Ensemble = "embedding",
        blanks: Blanks = "unknown",
        minority: float | list[str] = 0.05,
    ) -> None:
        super().__init__()
        for label, found in names.items():
            if not found:
                raise ConfigError("a class without a name", where=f"ZeroShot.names: {label}", hint="[edema, ...]")
        for key, templates in (("present", present), ("absent", absent)):
            if not templates or any(SLOT not in one for one in templates):
                raise ConfigError("expected templates with a slot", where=f"ZeroShot.{key}", hint="'there is {}'")
        self.names, self.present, self.absent = names, tuple(present), tuple(absent)
        self.mode, self.ensemble, self.blanks, self.minority = mode, ensemble, blanks, minority
        self._evaluation: ZeroShotEvaluation | None = None
        self._columns: list[int] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Embed the prompts of the labels that the data set has.

        Raises:
            ConfigError: It has none of them.
        """
        labels = tuple(getattr(getattr(trainer, "datamodule", None), "label_names", ()))
        classes = [label for label in self.names if label in labels]
        if not classes:
            hint = nearest(next(iter(self.names), ""), labels) if labels else "the data set has no labels at all"
            raise ConfigError("the data set has none of these labels", where="ZeroShot.names", hint=hint)
        names, model = [self.names[label] for label in classes], _model(pl_module)
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            present, absent = (embed_prompts(model, names, texts) for texts in (self.present, self.absent))
        rare = self.minority if isinstance(self.minority, int | float) else tuple(self.minority)
        choices = (self.mode, self.ensemble, self.blanks, rare)
        self._evaluation = ZeroShotEvaluation(classes, present, absent, *choices).to(pl_module.device)
        self._columns = [labels.index(label) for label in classes]

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: StudyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the images of a batch, as the test step has embedded them."""
        results: list[StudyResult] = outputs
        images = [one.image for one in results if one.image is not None]
        if self._evaluation is not None and images:
            labels = batch.labels[batch.has_image]
            self._evaluation.update(torch.stack(images).to(labels.device), labels[:, self._columns])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics of all ranks."""
        if self._evaluation is not None:
            found = self._evaluation.compute()
            values = {f"test/zero_shot/{name}": value.to(pl_module.device) for name, value in found.items()}
            pl_module.log_dict(values, sync_dist=True)  # the same on every rank
            self._evaluation = None


def embed_prompts(model: AlignmentModel, names: Sequence[Sequence[str]], templates: Sequence[str]) -> Prompts:
    """Return the prompts of classes: every template with every name of each."""
    texts = [template.replace(SLOT, name) for own in names for name in own for template in templates]
    owner = [row for row, own in enumerate(names) for _ in range(len(own) * len(templates))]
    vectors = model.embed_texts(texts).float()
    return vectors, torch.tensor(owner, device=vectors.device)


def _model(task: LightningModule) -> AlignmentModel:
    model = task.model
    if not isinstance(model, AlignmentModel):
        raise ConfigError("this run's model aligns no images with texts", where="ZeroShot", hint="an AlignmentTask")
    return model
