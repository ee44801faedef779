"""MedTrim's loss: triplets of studies, pulled and pushed within and across images and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from medvl.distributed import gather_with_grad, mean_over_ranks, world_size
from medvl.errors import ConfigError
from medvl.losses.base import AlignmentLoss, Extras, Pairs
from medvl.losses.contrastive import checked_scores
from medvl.losses.mining import BatchMiner, Mined

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

    Args:
        margin: Of the hinge.
        eta: Weight of the terms within a modality; 1 - eta is that of those across.
        paired: w.
        terms: Those that count, anchor's modality first; the others are 0.
        miner: Mines in the batch from its `scores`; without, the batch gives `triplets`.
        seed: Of the miner's ties.
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
        self.margin, self.eta, self.paired, self.terms = margin, eta, paired, tuple(terms)
        self.miner, self.seed = miner, seed
        self.needs = frozenset({"scores"} if miner else {"triplets"})
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # resumed runs break ties as if never killed

    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss`, each term, `triplets` (mean count of ranks) and `active` (share that costs anything)."""
        chosen = self._mine(pairs, extras) if self.miner else _given(pairs, extras)
        own, everyone = {"i": pairs.image, "t": pairs.text}, {"i": pairs.all_image, "t": pairs.all_text}
        there = _there(pairs, extras)
        weight: dict[str, float] = {name: self.eta if name[0] == name[1] else 1 - self.eta for name in self.terms}
        hinges: dict[str, Tensor] = {}
        for name in self.terms:
            x, y = name
            kept = chosen.where(there(x, chosen.anchor + pairs.start) & there(y, chosen.positive, chosen.negative))
            others = everyone[y]
            hinges[name] = self._hinge(own[x][kept.anchor], others[kept.positive], others[kept.negative])
        for x, y in ("it", "ti") if self.paired else ():
            anchors = chosen.anchor + pairs.start
            kept = chosen.where(there(x, anchors) & there(y, anchors, chosen.negative))
            weight[f"paired_{x}{y}"] = self.paired
            partner, negative = own[y][kept.anchor], everyone[y][kept.negative]
            hinges[f"paired_{x}{y}"] = self._hinge(own[x][kept.anchor], partner, negative)
        return self._sum(hinges, weight, pairs, len(chosen.anchor))

    def _sum(self, hinges: dict[str, Tensor], weight: dict[str, float], pairs: Pairs, count: int) -> dict[str, Tensor]:
        counts = pairs.image.new_tensor([count, *map(len, hinges.values())])
        triplets, *means = mean_over_ranks(counts).clamp_min(1 / world_size()).unbind()  # as `mean_count`, in one go
        parts = {name: hinge.sum() / mean for (name, hinge), mean in zip(hinges.items(), means, strict=True)}
        loss = 0 * (pairs.all_image.sum() + pairs.all_text.sum())  # a rank without triplets takes part in the backward
        for name, part in parts.items():
            loss = loss + weight[name] * part
        costs = [(hinge.detach() > 0).sum() / mean for hinge, mean in zip(hinges.values(), means, strict=True)]
        found = {name: part.detach() for name, part in parts.items()}
        return {"loss": loss, **found, "triplets": triplets, "active": sum(costs, triplets.new_zeros(())) / len(costs)}

    def _hinge(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss of each triplet of unit embeddings `(T, C)`."""
        return torch.relu((anchor * (negative - positive)).sum(dim=1) + self.margin)

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
