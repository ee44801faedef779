"""Zero-shot classification by prompts: scores of ensembles, and how good they are, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Ensemble = Literal["embedding", "score", "max"]


def prompt_scores(
    images: Tensor, prompts: Tensor, owner: Tensor, classes: int, ensemble: Ensemble = "embedding", chunk: int = 1024
) -> Tensor:
    """Return the score of each image for each class, `(n, classes)`, in [-1, 1].

    No score depends on which other images there are (z-scores over a batch, as in GLoRIA's code, do).

    Args:
        images: `(n, C)` embeddings.
        prompts: `(P, C)` embeddings.
        owner: `(P,)` the class that each prompt speaks of.
        classes: How many there are.
        ensemble: Cosine with the mean of a class's unit prompts, made a unit vector again (`embedding`, as CLIP); the
            mean of cosines (`score`); or the greatest cosine (`max`).
        chunk: Images at once.

    Raises:
        ValueError: A class has no prompt.
    """
    counts = owner.bincount(minlength=classes)
    if len(counts) != classes or not (counts > 0).all():
        raise ValueError(f"expected prompts of classes 0 to {classes - 1}, each at least one")
    images, prompts = normalize(images.float(), dim=1), normalize(prompts.float(), dim=1)
    if ensemble == "max":
        own = [prompts[owner == k].T for k in range(classes)]
        blocks = torch.split(images, chunk)
        return torch.cat([torch.stack([(part @ one).amax(dim=1) for one in own], dim=1) for part in blocks])
    means = prompts.new_zeros(classes, prompts.shape[1]).index_add_(0, owner, prompts) / counts[:, None]
    return images @ (normalize(means, dim=1) if ensemble == "embedding" else means).T


def pair_probability(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Return the softmax of "there is" over "there is no" (as in CheXzero), from scores `(n, K)` of both.

    Args:
        positive: Scores of the prompts that claim the finding.
        negative: Scores of the prompts that deny it.
        scale: What the model multiplies cosines by.
    """
    return torch.sigmoid(scale * (positive - negative))


class ZeroShotClassification(Metric):
    """Accuracy, AUC and F1 of class scores, by class and with rare classes apart.

    `compute` returns, higher is better, NaN where undefined: `acc`, `auc` and `f1`; for each class `auc/NAME`,
    `f1/NAME` and `acc/NAME`; over rare classes `auc/minority`, `f1/minority` and `acc/minority`.

    - `multiclass`: one class each; the highest score decides, ties are shared out. `acc` is over images, `acc/NAME`
      over images of that class, AUC one against the rest.
    - `multilabel`: a class is found where its score is >= its threshold; labels that are not 0 or 1 (uncertain, blank)
      do not count for their class. `acc` is the mean over classes.

    `auc` and `f1` are means over classes that have positives (AUC: and negatives). `same_answer`, which is no merit, is
    the share of images that get the most frequent answer, the set of classes called.

    Args:
        classes: Their names, in the order of the scores.
        mode: See above.
        thresholds: One, or one for each class, for `multilabel`; from validation data, see `best_f1_thresholds`.
        minority: The rare ones by name, or the share of known labels below which a class is rare.
        kwargs: Passed to `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(
        self,
        classes: Sequence[str],
        mode: Literal["multiclass", "multilabel"] = "multiclass",
        thresholds: float | Sequence[float] = 0.5,
        minority: float | Sequence[str] = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes, self.mode, self.minority = tuple(classes), mode, minority
        every = [thresholds] * len(classes) if isinstance(thresholds, int | float) else list(thresholds)
        if len(every) != len(self.classes):
            raise ValueError(f"expected {len(self.classes)} thresholds, got {len(every)}")
        self.thresholds = every
        for name in ("scores", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add images.

        Args:
            scores: `(n, classes)`.
            labels: `(n,)` class numbers for `multiclass`, `(n, classes)` of 1, 0 and others for `multilabel`.

        Raises:
            ValueError: A shape is not that, or a score is not finite.
        """
        count = len(self.classes)
        wanted = (len(scores),) if self.mode == "multiclass" else (len(scores), count)
        if scores.ndim != 2 or scores.shape[1] != count or tuple(labels.shape) != wanted:
            raise ValueError(f"expected scores (n, {count}) and labels {wanted}, got {scores.shape}, {labels.shape}")
        if not scores.isfinite().all():
            raise ValueError("expected finite scores")
        if self.mode == "multiclass":
            labels = one_hot(labels.long(), count)
        for name, value in (("scores", scores), ("labels", labels)):
            getattr(self, name).append(value.detach().float().reshape(-1).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        scores, labels = (
            dim_zero_cat(part).reshape(-1, len(self.classes)) if len(part) else torch.zeros(0, len(self.classes))
            for part in (self.scores, self.labels)
        )
        known = (labels == 0) | (labels == 1)
        gold = labels.where(known, 0)
        answers = self._called(scores)
        called = answers * known
        hit, positive = (called * gold).sum(dim=0), gold.sum(dim=0)
        f1 = (2 * hit / (called.sum(dim=0) + positive)).masked_fill(positive == 0, torch.nan)
        right = (called * gold + (1 - called) * (1 - gold)) * known
        acc = hit / positive if self.mode == "multiclass" else right.sum(dim=0) / known.sum(dim=0)
        overall = hit.sum() / positive.sum() if self.mode == "multiclass" else acc.nanmean()
        values = {"auc": area_under_curve(scores, labels), "f1": f1, "acc": acc}
        rare = self._rare(positive / known.sum(dim=0)).to(acc.device)
        found = {name: value.nanmean() for name, value in values.items()}
        found |= {"acc": overall, "same_answer": _mode_share(answers)}
        for metric, value in values.items():
            found[f"{metric}/minority"] = value[rare].nanmean()
            found |= {f"{metric}/{name}": one for name, one in zip(self.classes, value, strict=True)}
        return found

    def _called(self, scores: Tensor) -> Tensor:
        """Return how much of each class is called, `(n, classes)` in [0, 1]."""
        if self.mode == "multilabel":
            return (scores >= torch.tensor(self.thresholds, device=scores.device)).float()
        highest = (scores == scores.amax(dim=1, keepdim=True)).float()
        return highest / highest.sum(dim=1, keepdim=True)

    def _rare(self, prevalence: Tensor) -> Tensor:
        if isinstance(self.minority, int | float):
            return (prevalence < self.minority) & (prevalence > 0)
        return torch.tensor([name in self.minority for name in self.classes])


def _mode_share(answers: Tensor) -> Tensor:
    """Return the share of rows `(n, K)` that are the most frequent one; NaN without any."""
    if not len(answers):
        return answers.new_tensor(torch.nan)
    counts: Tensor = torch.unique(answers, dim=0, return_counts=True)[1]
    return counts.max() / len(answers)


def area_under_curve(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the area under the ROC curve of each column, ties counted half; labels that are not 0 or 1 do not count.

    Args:
        scores: `(n, K)`.
        labels: `(n, K)`.
    """
    areas = []
    for column, label in zip(scores.T, labels.T, strict=True):
        positive, negative = column[label == 1], column[label == 0].sort().values
        below, not_above = (torch.searchsorted(negative, positive, right=side).double() for side in (False, True))
        area = (below + not_above).mean() / (2 * len(negative) or torch.nan)  # the mean of nothing is NaN, as it is
        areas.append(area)
    return torch.stack(areas).float()


def best_f1_thresholds(scores: Tensor, labels: Tensor) -> list[float]:
    """Return for each column the threshold `score >= t` of the highest F1; infinite without positives.

    To be found on validation data: on test data it flatters.

    Args:
        scores: `(n, K)`.
        labels: `(n, K)` of 1, 0 and others, which do not count.
    """
    found = []
    for column, label in zip(scores.T, labels.T, strict=True):
        known = (label == 0) | (label == 1)
        values, order = column[known].sort(descending=True)
        hits = label[known][order].double().cumsum(dim=0)
        f1 = 2 * hits / (torch.arange(1, len(values) + 1, device=hits.device) + hits[-1:])
        last = torch.ones_like(values, dtype=torch.bool)
        last[:-1] = values[:-1] != values[1:]  # tied scores are called together
        f1 = f1.masked_fill(~last, -1)
        found.append(float(values[f1.argmax()]) if len(values) and hits[-1] > 0 else float("inf"))
    return found
