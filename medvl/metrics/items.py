"""What metrics are handed: per phrase a mapping of tensors, checked once and laid out flat. The input is only read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvl.metrics.boxes import Array

Item = Mapping[str, Tensor]


def flat_boxes(items: Sequence[Item], name: str) -> tuple[Array, NDArray[np.int64]]:
    """Return all boxes `(sum, 4)` and their number per phrase, after checking them.

    Raises:
        ValueError: For a wrong shape, a value that is not finite, or an inverted box; names `name` and the phrase.
    """
    parts = []
    for i, item in enumerate(items):
        if "boxes" not in item:
            raise ValueError(f"{name}[{i}] has no 'boxes'")
        boxes = torch.as_tensor(item["boxes"]).detach()
        if boxes.numel() and (boxes.ndim != 2 or boxes.shape[1] != 4):
            raise ValueError(f"{name}[{i}]['boxes'] must be (n, 4), got {tuple(boxes.shape)}")
        parts.append(boxes.reshape(-1, 4))
    counts = np.array([len(part) for part in parts], dtype=np.int64)
    flat: Array = torch.cat(parts).cpu().double().numpy() if parts else np.zeros((0, 4))
    owner = np.repeat(np.arange(len(items)), counts)
    for bad, what in ((~np.isfinite(flat).all(1), "not finite"), ((flat[:, 2:] < flat[:, :2]).any(1), "inverted")):
        if bad.any():
            row = np.flatnonzero(bad)[0]
            raise ValueError(f"{name}[{owner[row]}]['boxes'] holds a box that is {what} (xyxy): {flat[row].tolist()}")
    return flat, counts


def flat_scores(preds: Sequence[Item], counts: NDArray[np.int64]) -> Tensor:
    """Return all scores `(sum,)` in their own precision, so that `> threshold` means what it means for them.

    Raises:
        ValueError: For scores that are missing, not as many as the boxes, or not finite.
    """
    parts = []
    for i, (item, count) in enumerate(zip(preds, counts, strict=True)):
        if "scores" not in item:
            raise ValueError(f"preds[{i}] has no 'scores'")
        scores = torch.as_tensor(item["scores"]).detach()
        if scores.ndim != 1 or len(scores) != count:
            raise ValueError(f"preds[{i}]['scores'] must be ({count},) as its boxes, got {tuple(scores.shape)}")
        parts.append(scores)
    if not parts:
        return torch.zeros(0)
    flat = torch.cat(parts).cpu()
    if not flat.isfinite().all():
        owner = int(np.repeat(np.arange(len(preds)), counts)[int((~flat.isfinite()).nonzero()[0])])
        raise ValueError(f"preds[{owner}]['scores'] holds a value that is not finite")
    return flat


def same_length(preds: Sequence[Item], targets: Sequence[Item]) -> None:
    """Check that both speak of as many phrases.

    Raises:
        ValueError: They do not.
    """
    if len(preds) != len(targets):
        raise ValueError(f"preds holds {len(preds)} phrases, targets {len(targets)}")
