"""What every alignment loss promises: two batches of embeddings in, a dict with `loss` out, right across ranks.

Own rows stand against the rows of all ranks, and sums are divided by the mean count over ranks: the mean of `loss` over
ranks is the loss of one process that holds the whole batch, and DDP, which averages gradients, gives its gradient.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvl.distributed import gather_with_grad, is_distributed, mean_over_ranks, world_size
from medvl.errors import ConfigError
from medvl.losses.patches import Patches

_EPS = 1e-6  # a norm below it is not divided by: the gradient of an embedding of zeros stays small


@dataclass(frozen=True)
class Extras:
    """What a loss may want to know beside the embeddings; row i speaks of pair i.

    Attributes:
        labels: Multi-hot `(n, K)`, or class numbers `(n,)`.
        scores: `(n, N)` how alike this rank's studies are to those of all ranks, in rank order (see
            `gather_with_grad`); may be asymmetric, the rows being the anchors.
        triplets: `(T, 3)` anchor, positive and negative as rows of this rank's batch.
        groups: `(n,)` integers; two rows of the same study or patient share one.
        halves: Bool `(n, 2)`, whether the study has an image, and whether it has a text; None where all have both.
        patches: Tokens of this rank's images, projected, of any length.
    """

    labels: Tensor | None = None
    scores: Tensor | None = None
    triplets: Tensor | None = None
    groups: Tensor | None = None
    halves: Tensor | None = None
    patches: Patches | None = None


@dataclass(frozen=True)
class Pairs:
    """Unit embeddings of this rank, `(n, C)`, and of all, `(N, C)`.

    Attributes:
        image: Of this rank.
        text: Of this rank.
        all_image: Of all ranks.
        all_text: Of all ranks.
        start: Row of `all_*` at which this rank's begin.
    """

    image: Tensor
    text: Tensor
    all_image: Tensor
    all_text: Tensor
    start: int

    @classmethod
    def gather(cls, image: Tensor, text: Tensor) -> Pairs:
        """Normalise, and gather both in one go."""
        image, text = unit(image), unit(text)
        if not is_distributed():  # spares a copy of both
            kind = torch.result_type(image, text)
            image, text = image.to(kind), text.to(kind)
            return cls(image, text, image, text, 0)
        own = torch.stack([image, text], dim=1)
        everyone, start = gather_with_grad(own)
        return cls(own[:, 0], own[:, 1], everyone[:, 0], everyone[:, 1], start)

    @property
    def own(self) -> Tensor:
        """Row of `all_*` of each of this rank's pairs, `(n,)`."""
        return torch.arange(self.start, self.start + len(self.image), device=self.image.device)


class AlignmentLoss(nn.Module, ABC):
    """Base of the alignment losses: checks, full precision whatever the autocast, unit embeddings, gathering."""

    needs: frozenset[str] = frozenset()  # the extras without which it cannot do
    takes_halves = False  # whether studies without an image, or without a text, may be among the rows

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        *,
        labels: Tensor | None = None,
        scores: Tensor | None = None,
        triplets: Tensor | None = None,
        groups: Tensor | None = None,
        halves: Tensor | None = None,
        patches: Patches | None = None,
    ) -> dict[str, Tensor]:
        """Return `loss`, with gradient, and its parts by name, without.

        Args:
            image: `(n, C)` embeddings of any length (cosines are what counts), of any float type.
            text: `(n, C)`; row i belongs to image i.
            labels: See `Extras`, as for the others.
            scores: Entity scores against all ranks' rows.
            triplets: Mined offline.
            groups: Who must not stand as positive or negative of whom.
            halves: Which rows have an image, which a text; given by all ranks or by none. What a study has not may be
                any embedding.
            patches: For losses that look at parts of images.

        Raises:
            ValueError: The shapes do not fit.
            ConfigError: An extra in `needs` is missing.
        """
        if image.ndim != 2 or image.shape != text.shape:
            raise ValueError(f"expected embeddings (n, C) in pairs, got {tuple(image.shape)} and {tuple(text.shape)}")
        if halves is not None and not self.takes_halves:
            raise ValueError(f"{type(self).__name__} compares studies that have both an image and a text")
        extras = Extras(labels, scores, triplets, groups, halves, patches)
        for name in sorted(self.needs):
            if getattr(extras, name) is None:
                raise ConfigError(
                    f"{type(self).__name__} needs {name}, which this batch lacks",
                    hint="choose a datamodule or an ontology that gives them, or another loss",
                )
        with torch.autocast(image.device.type, enabled=False):
            return self.compare(Pairs.gather(image, text), extras)

    @abstractmethod
    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss` and its parts."""


class Temperature(nn.Module):
    """The factor that cosines are multiplied by, learnt as its logarithm (CLIP, arXiv 2103.00020, section 2.5).

    Args:
        initial: Of the temperature, the factor's inverse.
        minimum: The temperature never falls below.
        learn: Whether it is trained.
    """

    def __init__(self, initial: float = 0.07, minimum: float = 0.01, learn: bool = True) -> None:
        super().__init__()
        if not 0 < minimum <= initial:
            raise ValueError(f"expected 0 < minimum <= initial temperature, got {minimum} and {initial}")
        self.log_scale = nn.Parameter(torch.tensor(-math.log(initial)), requires_grad=learn)
        self.ceiling = -math.log(minimum)

    def forward(self) -> Tensor:
        """Return the factor."""
        if self.training:
            with torch.no_grad():  # the value is cut, not its gradient: it must find its way back
                self.log_scale.clamp_(max=self.ceiling)
        return self.log_scale.exp()


def unit(rows: Tensor) -> Tensor:
    """Return rows of length 1, in float32 at least."""
    return normalize(rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows, dim=-1, eps=_EPS)


def mean_count(count: int, like: Tensor) -> Tensor:
    """Return what to divide this rank's sum by, so that the mean over ranks is that of all items; never 0."""
    return mean_over_ranks(like.new_tensor(float(count))).clamp_min(1 / world_size())
