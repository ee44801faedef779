"""Diseases supervised by prompts: a positive and a negative sentence of each, in the space of volumes and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvl.distributed import mean_over_ranks, world_size
from medvl.errors import ConfigError

POSITIVE = ("There is {}.", "{} is present.", "Findings are consistent with {}.")
NEGATIVE = ("There is no {}.", "No evidence of {}.", "{} is not seen.")


@dataclass(frozen=True)
class Prompts:
    """Sentences that affirm and deny each class.

    Attributes:
        names: `K` classes, as the data set's labels name them.
        positive: For each class its sentences.
        negative: The same, denying it.
    """

    names: tuple[str, ...]
    positive: tuple[tuple[str, ...], ...]
    negative: tuple[tuple[str, ...], ...]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        positive: Sequence[str] = POSITIVE,
        negative: Sequence[str] = NEGATIVE,
        words: Mapping[str, str] | None = None,
    ) -> Prompts:
        """Fill templates, whose `{}` is the class.

        Args:
            names: The classes.
            positive: Templates that affirm.
            negative: Templates that deny.
            words: What a class is called in a sentence, where its name in lower case will not do.

        Raises:
            ConfigError: There is no template, or one without `{}`.
        """
        for kind, templates in (("positive", positive), ("negative", negative)):
            if not templates or any("{}" not in one for one in templates):
                raise ConfigError("every prompt needs a place {} for the class", where=f"prompts: {kind}")
        said = [(words or {}).get(name, name.replace("_", " ").lower()) for name in names]
        filled = [
            tuple(tuple(_sentence(one, word) for one in group) for word in said) for group in (positive, negative)
        ]
        return cls(tuple(names), *filled)

    def drawn(self, generator: torch.Generator | None = None) -> tuple[list[str], list[str]]:
        """Return one affirming and one denying sentence of each class, drawn at random."""

        def pick(group: tuple[str, ...]) -> str:
            return group[int(torch.randint(len(group), (), generator=generator))]

        return [pick(group) for group in self.positive], [pick(group) for group in self.negative]


def _sentence(template: str, word: str) -> str:
    text = template.replace("{}", word)
    return text[:1].upper() + text[1:]


def margins(volumes: Tensor, positive: Tensor, negative: Tensor, scale: Tensor | float) -> Tensor:
    """Return logits `(B, K)`: how much closer a volume is to the affirming prompt; a bias would cancel.

    Args:
        volumes: Unit vectors `(B, C)`.
        positive: Of the affirming prompts `(K, C)`.
        negative: Of the denying prompts `(K, C)`.
        scale: Inverse temperature; RadFinder shares that of the contrastive loss.
    """
    return scale * (volumes @ (positive - negative).T)


class PromptDiseaseLoss(nn.Module):
    """Binary cross-entropy of prompt margins (RadFinder, arXiv 2603.02026).

    Labels of -1 and NaN are ignored, class by class.

    Args:
        weight_cap: Positives weigh as many times more as negatives are more frequent, but no more than this.
    """

    positive_weight: Tensor

    def __init__(self, weight_cap: float = 20.0) -> None:
        super().__init__()
        if weight_cap < 1:
            raise ValueError(f"weight_cap must be at least 1, got {weight_cap}")
        self.weight_cap = weight_cap
        # Follows from the training labels, so it is counted anew and not kept.
        self.register_buffer("positive_weight", torch.ones(()), persistent=False)

    def balance(self, labels: Tensor) -> None:
        """Weigh by the labels of all training studies `(n, K)`; a class without both answers weighs 1."""
        negatives, positives = (labels == 0).sum(dim=0).float(), (labels == 1).sum(dim=0).float()
        ratio = (negatives / positives.clamp_min(1)).clamp(max=self.weight_cap)
        both = (negatives > 0) & (positives > 0)
        self.positive_weight = torch.where(both, ratio, torch.ones_like(ratio)).to(self.positive_weight)

    def forward(self, logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
        """Return the mean over all known labels of all ranks, scaled so that DDP's average is that of one process.

        Args:
            logits: `(B, K)` of this rank.
            labels: `(B, K)`: 1 present, 0 absent, -1 or NaN not known.
            count: What the sum is divided by, where these are but a part of the batch.
        """
        present = labels == 1
        known = present | (labels == 0)
        weight = self.positive_weight.expand(logits.shape[1]).to(logits)
        each = F.binary_cross_entropy_with_logits(logits, present.to(logits), reduction="none", pos_weight=weight)
        return (each * known).sum() / (self.count(labels, logits) if count is None else count)

    def count(self, labels: Tensor, like: Tensor) -> Tensor:
        """Return the known labels per rank, in training; never 0."""
        known = ((labels == 1) | (labels == 0)).sum().to(like)
        return (mean_over_ranks(known) if self.training else known).clamp_min(1 / world_size())
