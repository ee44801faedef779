"""Softmax losses: each anchor's likelihoods of its candidates against a distribution of what is right."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from medvl.distributed import gather_with_grad
from medvl.losses.base import AlignmentLoss, Extras, Pairs, Temperature, mean_count
from medvl.relevance import same_set, share_any


class InfoNCE(AlignmentLoss):
    """The loss of CLIP (arXiv 2103.00020, figure 3).

    `L = (1/2N) sum_i [CE(s x_i . y_*, i) + CE(s y_i . x_*, i)]` with unit image and text embeddings x and y.
    Two studies with the same text are negatives of each other, as published.

    Args:
        temperature: The first one; its inverse is the factor s.
        minimum_temperature: The least one.
        learn_temperature: Whether it is trained.
    """

    def __init__(
        self, temperature: float = 0.07, minimum_temperature: float = 0.01, learn_temperature: bool = True
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, minimum_temperature, learn_temperature)

    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss`, `i2t`, `t2i` and `scale`."""
        return _both_ways(pairs, self.temperature(), pairs.own)


class SoftInfoNCE(AlignmentLoss):
    """InfoNCE whose target is shared out by entity scores, so that alike studies are no negatives.

    `L = (1/2N) sum_i [H(q_i, softmax_j s x_i . y_j) + H(q_i, softmax_j s y_i . x_j)]`, H the cross entropy, with
    `q_i = (1 - w) onehot(i) + w softmax_j(score_ij / t)`; at w = 1 that is the semantic matching loss of MedCLIP
    (arXiv 2210.10163), with whatever scores are given.

    Args:
        weight: w, in [0, 1]; 0 is InfoNCE.
        target_temperature: t; the smaller, the less is given to any but the most alike.
        temperature: As for `InfoNCE`.
        minimum_temperature: As for `InfoNCE`.
        learn_temperature: As for `InfoNCE`.
    """

    needs = frozenset({"scores"})

    def __init__(
        self,
        weight: float = 0.5,
        target_temperature: float = 0.1,
        temperature: float = 0.07,
        minimum_temperature: float = 0.01,
        learn_temperature: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= weight <= 1 or target_temperature <= 0:
            raise ValueError(
                f"expected weight in [0, 1] and target_temperature > 0, got {weight}, {target_temperature}"
            )
        self.weight, self.target_temperature = weight, target_temperature
        self.temperature = Temperature(temperature, minimum_temperature, learn_temperature)

    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss`, `i2t`, `t2i` and `scale`."""
        scores = checked_scores(extras, pairs).to(pairs.image)
        target = self.weight * torch.softmax(scores / self.target_temperature, dim=1)
        own = torch.full_like(pairs.own, 1 - self.weight, dtype=target.dtype)
        return _both_ways(pairs, self.temperature(), target.scatter_add(1, pairs.own[:, None], own[:, None]))


class SupCon(AlignmentLoss):
    """Supervised contrast, the mean outside the logarithm (arXiv 2004.11362, equation 2).

    `L = (1/|I|) sum_{i in I} -1/|P(i)| sum_{p in P(i)} log(exp(s z_i . z_p) / sum_{a in A(i)} exp(s z_i . z_a))`. The
    views I are all images and all texts; P(i) are those of alike studies, the anchor's partner always among them.
    `modalities: all` takes as A(i) every view but i; `cross` takes the other modality only (UniCL, arXiv 2204.03610).

    Args:
        positives: `any` shared label or the `exact` same set makes two studies alike; none at all is alike none at all.
        modalities: What an anchor is compared with.
        temperature: As for `InfoNCE`, here fixed unless `learn_temperature`.
        minimum_temperature: As for `InfoNCE`.
        learn_temperature: As for `InfoNCE`.
    """

    needs = frozenset({"labels"})

    def __init__(
        self,
        positives: Literal["any", "exact"] = "any",
        modalities: Literal["all", "cross"] = "all",
        temperature: float = 0.1,
        minimum_temperature: float = 0.01,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__()
        self.rule = {"any": share_any, "exact": same_set}[positives]
        self.modalities = modalities
        self.temperature = Temperature(temperature, minimum_temperature, learn_temperature)

    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss`, `image` and `text` by the anchor's modality, and `scale`."""
        if extras.labels is None or len(extras.labels) != len(pairs.image):
            raise ValueError("expected one row of labels for each pair")
        alike = self.rule(extras.labels, gather_with_grad(extras.labels).rows)
        alike = alike.scatter(1, pairs.own[:, None], True)
        scale, count = self.temperature(), mean_count(len(alike), pairs.image)
        image, text = (
            _mean_likelihood(logits, positives) / count for logits, positives in self._logits(pairs, alike, scale)
        )
        return _named((image + text) / 2, image=image, text=text, scale=scale)

    def _logits(self, pairs: Pairs, alike: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return logits and positives of images, and of texts; an anchor's logit with itself is -inf."""
        if self.modalities == "cross":
            crossed = ((pairs.image, pairs.all_text), (pairs.text, pairs.all_image))
            return [(scale * own @ others.T, alike) for own, others in crossed]
        views, found = torch.cat([pairs.all_image, pairs.all_text]), []
        for own, offset in ((pairs.image, 0), (pairs.text, len(pairs.all_image))):
            itself = (pairs.own + offset)[:, None]
            logits = (scale * own @ views.T).scatter(1, itself, -torch.inf)
            found.append((logits, torch.cat([alike, alike], dim=1).scatter(1, itself, False)))
        return found


def checked_scores(extras: Extras, pairs: Pairs) -> Tensor:
    """Return the scores.

    Raises:
        ValueError: They are not of this rank's rows against everyone's.
    """
    expected = (len(pairs.image), len(pairs.all_image))
    if extras.scores is None or tuple(extras.scores.shape) != expected:
        found = None if extras.scores is None else tuple(extras.scores.shape)
        raise ValueError(f"expected scores {expected}, own rows against those of all ranks, got {found}")
    return extras.scores


def _both_ways(pairs: Pairs, scale: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return the cross entropies of images against all texts, and of texts against all images."""
    i2t = cross_entropy(scale * pairs.image @ pairs.all_text.T, target, reduction="sum")
    t2i = cross_entropy(scale * pairs.text @ pairs.all_image.T, target, reduction="sum")
    count = mean_count(len(target), i2t)
    i2t, t2i = i2t / count, t2i / count
    return _named((i2t + t2i) / 2, i2t=i2t, t2i=t2i, scale=scale)


def _mean_likelihood(logits: Tensor, positives: Tensor) -> Tensor:
    """Return the sum over anchors of the mean negative log-likelihood of their positives."""
    likelihood = torch.log_softmax(logits, dim=1).masked_fill(~positives, 0)  # -inf times 0 would be NaN
    return -(likelihood.sum(dim=1) / positives.sum(dim=1)).sum()


def _named(loss: Tensor, **parts: Tensor) -> dict[str, Tensor]:
    return {"loss": loss} | {name: part.detach() for name, part in parts.items()}
