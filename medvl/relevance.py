"""When two studies count as alike, for losses and retrieval: rules from label rows to booleans.

Labels are multi-hot rows `(n, K)`, or class numbers `(n,)`. A multi-hot row without any label says `no finding`, and
two such rows are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]


def share_any(rows: Tensor, others: Tensor) -> Tensor:
    """Return whether labels overlap, or both have none: `(n, K)` and `(m, K)` to bool `(n, m)`."""
    if rows.ndim == 1:
        return rows[:, None] == others[None]
    rows, others = (torch.cat([part > 0, no_finding(part)[:, None]], dim=1).float() for part in (rows, others))
    return rows @ others.T > 0


def same_set(rows: Tensor, others: Tensor) -> Tensor:
    """Return whether labels are the same: `(n, K)` and `(m, K)` to bool `(n, m)`."""
    if rows.ndim == 1:
        return rows[:, None] == others[None]
    signs, others = 2 * (rows > 0).float() - 1, 2 * (others > 0).float() - 1
    return signs @ others.T == rows.shape[1]  # every column agrees


def score_at_least(threshold: float, scorer: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """Return the rule `score >= threshold`.

    Args:
        threshold: The least score.
        scorer: From rows `(n, ...)` and `(m, ...)` of whatever stands as labels to scores `(n, m)`; entity scores may
            be asymmetric, the first rows being the queries.
    """
    return lambda rows, others: scorer(rows, others) >= threshold


def no_finding(labels: Tensor) -> Tensor:
    """Return which rows have no label at all, `(n,)`; class numbers always name one."""
    if labels.ndim == 1:
        return torch.zeros_like(labels, dtype=torch.bool)
    return ~(labels > 0).flatten(1).any(dim=1)
