"""Retrieval between images and texts: by class, and of the very report of an image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medvl.metrics.neighbours import CHUNK, RANKS, Precision, Relevant, class_precision, instance_recall
from medvl.metrics.pieces import joined, pieces
from medvl.relevance import Rule, no_finding, same_set, share_any

DIRECTIONS = ("i2t", "t2i", "i2i", "t2t")


class _Embeddings(Metric):
    """Keeps a row of every study in flat float states: a rank may have none, and then knows neither width nor type.

    Args:
        key: Name of the integers that go with each row.
        more: Names of further rows.
        kwargs: Passed to `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, key: str, *more: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key, self.names = key, ("image", "text", *more)
        for name in (key, *self.names):
            self.add_state(name, [], dist_reduce_fx="cat")

    def _keep(self, **rows: Tensor) -> None:
        count = len(rows["image"])
        for name, value in rows.items():
            if len(value) != count:
                raise ValueError(f"expected {count} rows of {name}, got {len(value)}")
            if value.is_floating_point() and not value.isfinite().all():
                raise ValueError(f"{name}: expected finite values")
            kept = value.detach().float() if value.is_floating_point() else pieces(value)
            getattr(self, name).append(kept.reshape(-1).to(self.device))

    def _rows(self) -> dict[str, Tensor]:
        """Return the states as rows `(n, ...)`, the key as integers `(n,)`."""
        names = (self.key, *self.names)
        flat = {name: dim_zero_cat(part) if len(part := getattr(self, name)) else torch.zeros(0) for name in names}
        key = joined(flat[self.key])
        return {self.key: key} | {n: flat[n].reshape(len(key), -1 if len(key) else 0) for n in self.names}


class ClassRetrieval(_Embeddings):
    """Class P@R: of the R nearest candidates, the share that is alike (as in ConVIRT, arXiv 2010.00747).

    `compute` returns for each direction, `i2t` (images ask, texts answer), `t2i`, `i2i` and `t2t`:

    - `i2t/p@10` and `i2t/chance`: mean over queries that have a finding; `chance` is what a random order reaches, at
      every R. Higher is better.
    - `i2t/p@10/no_finding` and `i2t/chance/no_finding`: over queries without one, which are many and all alike.
    - `i2t/p@10/NAME` and `i2t/chance/NAME`: over queries of that class, when `classes` are named.

    All studies are candidates, whatever they show. A query's own study (its group) is no candidate within a modality;
    across, the query's own partner is one, as published, unless `own_pair` is false. Queries to which nothing is
    relevant are left out, and an R beyond the number of candidates is NaN.

    Args:
        at: The R.
        relevance: `any` shared label, the `exact` same set, or a rule such as `score_at_least(0.6, scorer)`.
        classes: Names of the columns of labels.
        own_pair: Whether studies of the query's group are candidates across modalities.
        chunk: Queries at once; memory is O(studies * chunk).
        kwargs: Passed to `torchmetrics.Metric`.
    """

    def __init__(
        self,
        at: Sequence[int] = RANKS,
        relevance: Literal["any", "exact"] | Rule = "any",
        classes: Sequence[str] = (),
        own_pair: bool = True,
        chunk: int = CHUNK,
        **kwargs: Any,
    ) -> None:
        super().__init__("groups", "labels", **kwargs)
        self.rule = {"any": share_any, "exact": same_set}[relevance] if isinstance(relevance, str) else relevance
        self.at, self.classes, self.own_pair, self.chunk = tuple(at), tuple(classes), own_pair, chunk

    def update(self, image: Tensor, text: Tensor, labels: Tensor, groups: Tensor | None = None) -> None:
        """Add studies.

        Args:
            image: `(n, C)` embeddings.
            text: `(n, C)` embeddings.
            labels: `(n, K)` multi-hot, or whatever the rule takes.
            groups: `(n,)` integers >= 0, the same for what must not find each other (images of a study, studies of a
                patient); by default each row is one of its own.

        Raises:
            ValueError: Numbers of rows differ, a value is not finite, or labels do not fit the classes.
        """
        if labels.ndim != 2 or (self.classes and labels.shape[1] != len(self.classes)):
            raise ValueError(f"expected labels (n, {len(self.classes) or 'K'}), got {tuple(labels.shape)}")
        alone = torch.full((len(image),), -1, device=image.device)
        groups = alone if groups is None else groups.long()
        self._keep(image=image, text=text, labels=labels.float(), groups=groups)

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        labels = self._rows()["labels"]
        labels = labels if len(labels) else labels.new_zeros(0, len(self.classes))
        normal = no_finding(labels)
        masks = {"": ~normal, "/no_finding": normal}
        masks |= {f"/{name}": labels[:, k] > 0 for k, name in enumerate(self.classes)}
        found: dict[str, Tensor] = {}
        for direction in DIRECTIONS:
            values, chance = self.queries(direction)
            for name, mask in masks.items():
                means = values[mask].nanmean(dim=0)
                found |= {f"{direction}/p@{r}{name}": mean for r, mean in zip(self.at, means, strict=True)}
                found[f"{direction}/chance{name}"] = chance[mask].nanmean()
        return found

    def queries(self, direction: str) -> Precision:
        """Return precision and chance of each study as a query, for intervals over patients."""
        rows = self._rows()
        modality, labels = {"i": rows["image"], "t": rows["text"]}, rows["labels"]
        spare = direction[0] == direction[2] or not self.own_pair
        return class_precision(
            modality[direction[0]],
            modality[direction[2]],
            lambda block: self.rule(labels[block], labels),
            self.at,
            _same_group(rows["groups"]) if spare else None,
            self.chunk,
        )


class InstanceRetrieval(_Embeddings):
    """Instance R@K with identical texts merged: the report of this image, or an image of this report.

    Reports repeat (more than half of the impressions of Open-i do), so that a model which finds the very words on
    another study must not be marked wrong. Texts that differ in case and white space only are one; its embedding is the
    mean of its copies'.

    `compute` returns, higher is better: `i2t/r@5`, the share of images whose text is among the 5 nearest distinct
    texts; `t2i/r@5`, the share of distinct texts of which an image is among the 5 nearest; both with `chance@5`;
    `texts`, the number of distinct ones.

    Args:
        at: The K.
        chunk: Queries at once; memory is O(studies * chunk).
        kwargs: Passed to `torchmetrics.Metric`.
    """

    def __init__(self, at: Sequence[int] = (1, 5, 10), chunk: int = CHUNK, **kwargs: Any) -> None:
        super().__init__("ids", **kwargs)
        self.at, self.chunk = tuple(at), chunk

    def update(self, image: Tensor, text: Tensor, texts: Sequence[str]) -> None:
        """Add studies.

        Args:
            image: `(n, C)` embeddings.
            text: `(n, C)` embeddings.
            texts: What the embeddings are of; only a hash is kept.

        Raises:
            ValueError: Numbers of rows differ, or a value is not finite.
        """
        self._keep(image=image, text=text, ids=torch.tensor([text_id(one) for one in texts], dtype=torch.long))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        rows = self._rows()
        image, ids = rows["image"], rows["ids"]
        distinct, member = torch.unique(ids, return_inverse=True)
        found = {"texts": image.new_tensor(float(len(distinct)))}
        text = rows["text"].new_zeros(len(distinct), rows["text"].shape[1])
        text.index_add_(0, member, torch.nn.functional.normalize(rows["text"], dim=1))
        asked = {"i2t": (image, text, ids, distinct), "t2i": (text, image, distinct, ids)}
        for way, given in asked.items():
            for kind, values in zip(("r", "chance"), instance_recall(*given, self.at, self.chunk), strict=True):
                found |= {f"{way}/{kind}@{k}": mean for k, mean in zip(self.at, values.nanmean(dim=0), strict=True)}
        return found


def text_id(text: str) -> int:
    """Return a 64-bit hash of a text, the same for texts that differ in case and white space only."""
    plain = " ".join(text.casefold().split()).encode()
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "big", signed=True)


def _same_group(groups: Tensor) -> Relevant:
    """Return which studies share the query's group; each row without one (-1) is its own."""
    alone = -1 - torch.arange(len(groups), device=groups.device)
    groups = torch.where(groups < 0, alone, groups)
    return lambda block: groups[block, None] == groups[None]
