"""Retrieval, one value a query: cosines in blocks of queries, O(keys * chunk) memory, right for negative cosines.

Where cosines are tied the value is what a random order gives on average, so that a model whose embeddings have all
become one reaches chance, not what the order of the files happens to give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

CHUNK = 256
RANKS = (1, 5, 10, 20, 50, 100)

Relevant = Callable[[slice], Tensor]  # a block of queries to bool (block, keys)


class Precision(NamedTuple):
    """Precision of each query; NaN where nothing is relevant, or there are fewer than R candidates.

    Attributes:
        values: `(queries, len(at))`.
        chance: `(queries,)` share of the candidates that are relevant, what a random order has on average at every R.
    """

    values: Tensor
    chance: Tensor


def class_precision(
    queries: Tensor,
    keys: Tensor,
    relevant: Relevant,
    at: Sequence[int] = RANKS,
    excluded: Relevant | None = None,
    chunk: int = CHUNK,
) -> Precision:
    """Return the share of the R nearest keys that are relevant.

    Args:
        queries: `(q, C)` embeddings.
        keys: `(m, C)` embeddings.
        relevant: Which keys are right for a block of queries.
        at: The R.
        excluded: Which keys are no candidates for a block of queries.
        chunk: Queries at once.
    """
    values, chances = [], []
    ranks = torch.tensor(at, device=queries.device)
    for rows, cosines in _blocks(queries, keys, chunk):
        right = relevant(rows)
        candidates = torch.full((len(cosines),), len(keys), device=cosines.device)
        if excluded is not None:
            out = excluded(rows)
            cosines.masked_fill_(out, -torch.inf)
            right, candidates = right & ~out, candidates - out.sum(dim=1)
        found = _hits(cosines, right, ranks) / ranks
        whole = right.sum(dim=1)
        undefined = (ranks > candidates[:, None]) | (whole == 0)[:, None]
        values.append(found.masked_fill(undefined, torch.nan))
        chances.append((whole / candidates).masked_fill(whole == 0, torch.nan))
    if not values:
        return Precision(queries.new_zeros(0, len(at)), queries.new_zeros(0))
    return Precision(torch.cat(values), torch.cat(chances))


def instance_recall(
    queries: Tensor,
    keys: Tensor,
    query_ids: Tensor,
    key_ids: Tensor,
    at: Sequence[int] = (1, 5, 10),
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Return whether a key with the query's id is among the K nearest, and how probable that is by chance.

    Args:
        queries: `(q, C)` embeddings.
        keys: `(m, C)` embeddings.
        query_ids: `(q,)`.
        key_ids: `(m,)`.
        at: The K.
        chunk: Queries at once.

    Returns:
        Hits and chance, `(q, len(at))` each; NaN without such a key. A tie makes a hit a probability.
    """
    hits, chances = [], []
    ranks = torch.tensor(at, device=queries.device)
    for rows, cosines in _blocks(queries, keys, chunk):
        right = query_ids[rows, None] == key_ids[None]
        best = cosines.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        above, tied = (cosines > best).sum(dim=1), cosines == best  # what is above the best right one is wrong
        tied_right, whole = (tied & right).sum(dim=1), right.sum(dim=1)
        hits.append(_hit_probability(above, tied.sum(dim=1) - tied_right, tied_right, ranks))
        chances.append(_hit_probability(0 * above, len(keys) - whole, whole, ranks))
    if not hits:
        return queries.new_zeros(0, len(at)), queries.new_zeros(0, len(at))
    return torch.cat(hits), torch.cat(chances)


def average_precision(
    queries: Tensor,
    keys: Tensor,
    relevant: Relevant,
    at: Sequence[int],
    excluded: Relevant | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Return AP@R of each query: precisions at the places of relevant keys among the first R, summed, over R.

    Tied keys stand in a random order that is the same each time.

    Args:
        queries: `(q, C)` embeddings.
        keys: `(m, C)` embeddings.
        relevant: Which keys are right for a block of queries.
        at: The R.
        excluded: Which keys are no candidates for a block of queries.
        chunk: Queries at once.

    Returns:
        `(queries, len(at))`; 0 where nothing is relevant, NaN where there are fewer than R candidates.
    """
    shuffled = torch.randperm(len(keys), generator=torch.Generator().manual_seed(0)).to(keys.device)
    ranks, found = torch.tensor(at, device=queries.device), []
    for rows, cosines in _blocks(queries, keys, chunk):
        out = torch.zeros_like(cosines, dtype=torch.bool) if excluded is None else excluded(rows)
        order = cosines.masked_fill(out, -torch.inf)[:, shuffled].argsort(dim=1, descending=True, stable=True)
        right = (relevant(rows) & ~out).gather(1, shuffled[order[:, : int(ranks.max())]])
        places = torch.arange(1, right.shape[1] + 1, device=right.device)
        sums = (right.cumsum(dim=1) / places * right).cumsum(dim=1)[:, ranks.clamp(max=right.shape[1]) - 1]
        found.append((sums / ranks).masked_fill(ranks > (~out).sum(dim=1, keepdim=True), torch.nan))
    return torch.cat(found) if found else queries.new_zeros(0, len(at))


def _blocks(queries: Tensor, keys: Tensor, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of cosines `(block, m)` in float32 at least."""
    queries, keys = _unit(queries), _unit(keys)
    for start in range(0, len(queries) if len(keys) else 0, chunk):
        rows = slice(start, min(start + chunk, len(queries)))
        yield rows, queries[rows] @ keys.T


def _unit(rows: Tensor) -> Tensor:
    return normalize(rows if rows.dtype == torch.float64 else rows.float(), dim=1)


def _hits(cosines: Tensor, right: Tensor, ranks: Tensor) -> Tensor:
    """Return how many of the R nearest are right, `(block, len(ranks))`."""
    keys = cosines.shape[1]
    top, places = cosines.topk(min(int(ranks.max()) + 1, keys), dim=1)
    last = ranks.clamp(max=keys) - 1
    hits = right.gather(1, places).cumsum(dim=1)[:, last].to(cosines)
    cut = (top[:, last] == top[:, (last + 1).clamp(max=top.shape[1] - 1)]) & (last + 1 < keys)
    (rows,) = cut.any(dim=1).nonzero(as_tuple=True)
    for column, rank in enumerate(ranks.tolist() if len(rows) else []):
        edge = top[rows, last[column]][:, None]
        above, tied, own = cosines[rows] > edge, cosines[rows] == edge, right[rows]
        free = (rank - above.sum(dim=1)).clamp(min=0)
        hits[rows, column] = (above & own).sum(dim=1) + free * ((tied & own).sum(dim=1) / tied.sum(dim=1))
    return hits


def _hit_probability(above: Tensor, wrong: Tensor, right: Tensor, ranks: Tensor) -> Tensor:
    """Return how probable it is that one of `right` is among the first K when they are shuffled with `wrong`.

    All that lie `above` take a place first; what is left of K misses with probability C(wrong, left) / C(wrong + right,
    left).
    """
    left = (ranks[None] - above[:, None]).clamp(min=0)
    wrong, both = wrong[:, None], (wrong + right)[:, None]
    cut = torch.minimum(left, wrong).double()
    missed = torch.exp(_log_choices(wrong.double(), cut) - _log_choices(both.double(), cut))
    found = 1 - torch.where(left > wrong, 0.0, missed)
    return found.float().masked_fill((right == 0)[:, None], torch.nan)


def _log_choices(n: Tensor, k: Tensor) -> Tensor:
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
