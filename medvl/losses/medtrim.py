"""MedTrim's loss: triplets of studies, pulled and pushed within and across images and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from medvl.distributed import gather_with_grad, mean_over_ranks, world_size
from medvl.errors import ConfigError
from medvl.losses.base import AlignmentLoss, Extras, Pairs, unit
from medvl.losses.contrastive import checked_scores
from medvl.losses.mining import BatchMiner, Mined
from medvl.losses.patches import Patches, best_patch

Term = Literal["ii", "tt", "it", "ti"]
TERMS: tuple[Term, ...] = get_args(Term)


class MedTrimLoss(AlignmentLoss):
    """Cosine hinges over triplets (MedTrim, arXiv 2504.15929).

    `L = eta (L_ii + L_tt) + (1 - eta) (L_it + L_ti) + w (P_it + P_ti)`, where
    `L_xy = mean over triplets of max(0, d(a_x, p_y) - d(a_x, n_y) + margin)`, d = 1 - cosine; a, p and n are the
    anchor, its positive and its negative, x and y image or text. The public code is eta = 1/2 and w = 0, and never sees
    an anchor's own text as its image's positive; the paired term P, with the anchor's partner in place of p, is ours.

    Triplets come with the batch (mined over the whole data set), as rows of this rank, or are mined in the batch of
    all ranks if there is a `miner`. A study may lack its image or its text (`halves`): a triplet counts in the terms
    for which its studies have what is compared, and each term is the mean over those.

    With `patches`, ours as well, an image and a text are as alike as their cosine, by 1 - v, and as the text and the
    patch of the image that fits it best, by v (`best_patch`). The vectors of whole images are trained still, and they
    are what retrieval goes by. Every rank gets the patches of all: `(N, P, C)`.

    Args:
        margin: Of the hinge.
        eta: Weight of the terms within a modality; 1 - eta is that of those across.
        paired: w.
        terms: Those that count, anchor's modality first; the others are 0.
        miner: Mines in the batch from its `scores`; without, the batch gives `triplets`.
        seed: Of the miner's ties.
        patches: v, in [0, 1].
        sharpness: Of the smooth maximum over patches.
    """

    step: Tensor
    takes_halves = True

    def __init__(
        self,
        margin: float = 0.3,
        eta: float = 0.5,
        paired: float = 0.0,
        terms: Sequence[Term] = TERMS,
        miner: BatchMiner | None = None,
        seed: int = 0,
        patches: float = 0.0,
        sharpness: float = 10.0,
    ) -> None:
        super().__init__()
        unknown = sorted(set(terms) - set(TERMS))
        if unknown or not terms:
            raise ConfigError(
                f"MedTrimLoss has no term {unknown[0]!r}" if unknown else "MedTrimLoss has no terms",
                hint=f"expected some of: {', '.join(TERMS)}",
            )
        if not 0 <= eta <= 1 or margin < 0 or paired < 0:
            raise ConfigError(f"expected margin, paired >= 0 and eta in [0, 1], got {margin}, {paired}, {eta}")
        if not 0 <= patches <= 1 or sharpness <= 0:
            raise ConfigError(f"expected patches in [0, 1] and sharpness > 0, got {patches} and {sharpness}")
        self.margin, self.eta, self.paired, self.terms = margin, eta, paired, tuple(terms)
        self.miner, self.seed, self.patches, self.sharpness = miner, seed, patches, sharpness
        self.needs = frozenset({"scores" if miner else "triplets"} | ({"patches"} if patches else set()))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # resumed runs break ties as if never killed

    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss`, each term, `triplets` (mean count of ranks) and `active` (share that costs anything)."""
        chosen = self._mine(pairs, extras) if self.miner else _given(pairs, extras)
        views, there = _Views.of(pairs, extras.patches), _there(pairs, extras)
        weight: dict[str, float] = {name: self.eta if name[0] == name[1] else 1 - self.eta for name in self.terms}
        hinges: dict[str, Tensor] = {}
        for name in self.terms:
            x, y = name
            kept = chosen.where(there(x, chosen.anchor + pairs.start) & there(y, chosen.positive, chosen.negative))
            hinges[name] = self._hinge(views, name, kept)
        for x, y in ("it", "ti") if self.paired else ():
            anchors = chosen.anchor + pairs.start
            kept = chosen._replace(positive=anchors).where(there(x, anchors) & there(y, anchors, chosen.negative))
            weight[f"paired_{x}{y}"] = self.paired
            hinges[f"paired_{x}{y}"] = self._hinge(views, x + y, kept)
        return self._sum(hinges, weight, views, len(chosen.anchor))

    def _sum(self, hinges: dict[str, Tensor], weight: dict[str, float], views: _Views, count: int) -> dict[str, Tensor]:
        loss = views.nothing()  # a rank without triplets takes part in the backward
        counts = loss.new_tensor([count, *map(len, hinges.values())])
        triplets, *means = mean_over_ranks(counts).clamp_min(1 / world_size()).unbind()  # as `mean_count`, in one go
        parts = {name: hinge.sum() / mean for (name, hinge), mean in zip(hinges.items(), means, strict=True)}
        for name, part in parts.items():
            loss = loss + weight[name] * part
        costs = [(hinge.detach() > 0).sum() / mean for hinge, mean in zip(hinges.values(), means, strict=True)]
        found = {name: part.detach() for name, part in parts.items()}
        return {"loss": loss, **found, "triplets": triplets, "active": sum(costs, triplets.new_zeros(())) / len(costs)}

    def _hinge(self, views: _Views, term: str, chosen: Mined) -> Tensor:
        """Return the loss of each triplet in a term, `(T,)`."""
        near, far = (self._alike(views, term, chosen.anchor, rows) for rows in (chosen.positive, chosen.negative))
        return torch.relu(far - near + self.margin)

    def _alike(self, views: _Views, term: str, anchor: Tensor, other: Tensor) -> Tensor:
        """Return how alike anchors, rows of this rank `(T,)`, are to others, rows of all ranks `(T,)`."""
        x, y = term[0], term[1]
        own, others = views.own[x][anchor], views.everyone[y][other]
        cosines = (own * others).sum(dim=1)
        if x == y or views.patches is None or views.all_patches is None or not self.patches:
            return cosines
        images, texts = (views.patches.where(anchor), others) if x == "i" else (views.all_patches.where(other), own)
        return (1 - self.patches) * cosines + self.patches * best_patch(images, texts, self.sharpness)

    def _mine(self, pairs: Pairs, extras: Extras) -> Mined:
        if self.miner is None:
            raise RuntimeError("there is no miner")
        scores = checked_scores(extras, pairs)
        groups = torch.arange(len(pairs.all_image), device=scores.device)
        barred = pairs.own[:, None] == groups[None]
        if extras.groups is not None:
            barred |= extras.groups[:, None] == gather_with_grad(extras.groups).rows[None]
        mined = self.miner(scores, barred, pairs.start, self.seed + int(self.step))
        if self.training:
            self.step += 1
        return mined


@dataclass(frozen=True)
class _Views:
    """What is compared: unit vectors of this rank and of all, by modality, and patches of images."""

    own: dict[str, Tensor]
    everyone: dict[str, Tensor]
    patches: Patches | None
    all_patches: Patches | None

    @classmethod
    def of(cls, pairs: Pairs, patches: Patches | None) -> _Views:
        """Normalise the patches and gather them."""
        own = None if patches is None else Patches(unit(patches.tokens), patches.mask)
        everyone = None if own is None else own.gathered()
        vectors = {"i": pairs.image, "t": pairs.text}, {"i": pairs.all_image, "t": pairs.all_text}
        return cls(*vectors, own, everyone)

    def nothing(self) -> Tensor:
        """Return 0, with a gradient, 0 too, for all that was gathered."""
        parts = [*self.everyone.values(), *([] if self.all_patches is None else [self.all_patches.tokens])]
        return 0 * sum((part.sum() for part in parts), parts[0].new_zeros(()))


def _there(pairs: Pairs, extras: Extras) -> Callable[..., Tensor]:
    """Return what tells whether studies, rows of all ranks, have their image `i` or their text `t`."""
    if extras.halves is None:
        return lambda modality, *rows: torch.ones_like(rows[0], dtype=torch.bool)
    everyone = gather_with_grad(extras.halves.to(torch.uint8)).rows > 0

    def there(modality: str, *rows: Tensor) -> Tensor:
        own = everyone[:, "it".index(modality)]
        return torch.stack([own[row] for row in rows]).all(dim=0)

    return there


def _given(pairs: Pairs, extras: Extras) -> Mined:
    """Return the batch's own triplets, positives and negatives as rows of all ranks.

    Raises:
        ValueError: They are not of this shape, or name rows that the batch does not have.
    """
    triplets = extras.triplets
    if triplets is None or triplets.ndim != 2 or triplets.shape[1] != 3:
        raise ValueError("expected triplets (T, 3)")
    if len(triplets) and not 0 <= int(triplets.min()) <= int(triplets.max()) < len(pairs.image):
        raise ValueError(f"expected triplets of rows 0 to {len(pairs.image) - 1}")
    anchor, positive, negative = triplets.long().unbind(1)
    return Mined(anchor, positive + pairs.start, negative + pairs.start)
