"""P@R for R in 1, 5, 10, 20, 50, 100, images to texts, beside torchmetrics' RetrievalPrecision, on the CPU, one thread.

torchmetrics takes a flat list of scores, targets and query numbers; all six metrics share it in one collection. Cosines
go to it as (1 + cosine) / 2: given as they are, it drops what is relevant at a score <= 0 (since 1.7.4). Making the
flat list is part of its time, the embeddings are part of neither. A second row has P@10 alone, on both sides. That all
values agree to 1e-6 is asserted. `scale` is ours alone, at `large` studies, where all cosines would take 3.8 GiB.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics import MetricCollection
from torchmetrics.retrieval import RetrievalPrecision

from benchmarks.harness import interleaved, write_result
from medvl.metrics.neighbours import RANKS, class_precision
from medvl.relevance import share_any

WIDTH, CLASSES, ROUNDS = 512, 14, 2


def run(seed: int = 0, n: int = 3000, large: int = 31600) -> dict[str, Any]:
    """Measure, write `retrieval-metrics.json` and return it; about three minutes.

    Args:
        seed: Of embeddings and labels.
        n: Images, and texts.
        large: Studies of the measurement of memory, without a peer; 0 leaves it out.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scale = at_scale(seed, large) if large else {}  # first: a peak of memory is of the whole process
        rows = {"six": compare(seed, n, RANKS), "one": compare(seed, n, (10,))}
    finally:
        torch.set_num_threads(threads)
    first = rows["six"]
    return write_result(
        "retrieval-metrics",
        f"s for P@R at six R, {n} x {n}, CPU",
        first["ours"],
        {"torchmetrics": first["torchmetrics"]},
        n=ROUNDS,
        seed=seed,
        higher_is_better=False,
        ratio_one_rank=rows["one"]["ratio"],
        rows=rows,
        scale=scale,
    )


def compare(seed: int, n: int, ranks: Sequence[int]) -> dict[str, float]:
    """Time both sides on the same embeddings."""
    image, text, labels = studies(seed, n)
    jobs = {"ours": ours(image, text, labels, ranks), "torchmetrics": theirs(image, text, labels, ranks)}
    torch.testing.assert_close(jobs["ours"](), jobs["torchmetrics"](), rtol=0, atol=1e-6)
    times = interleaved(jobs, ROUNDS)
    return times | {"ratio": times["torchmetrics"] / times["ours"]}


def ours(image: Tensor, text: Tensor, labels: Tensor, ranks: Sequence[int]) -> Callable[[], Tensor]:
    """Return the job of ours: values `(len(ranks),)`."""
    return lambda: class_precision(image, text, lambda rows: share_any(labels[rows], labels), ranks).values.mean(dim=0)


def theirs(image: Tensor, text: Tensor, labels: Tensor, ranks: Sequence[int]) -> Callable[[], Tensor]:
    """Return the job of torchmetrics."""

    def job() -> Tensor:
        metrics = MetricCollection({str(rank): RetrievalPrecision(top_k=rank) for rank in ranks})
        scores = (1 + normalize(image, dim=1) @ normalize(text, dim=1).T) / 2
        queries = torch.arange(len(image))[:, None].expand_as(scores)
        metrics.update(scores.flatten(), share_any(labels, labels).flatten(), indexes=queries.flatten())
        values = metrics.compute()
        return torch.stack([values[str(rank)] for rank in ranks])

    return job


def studies(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return image and text embeddings with a common part, and labels, of which some rows have none."""
    draw = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, CLASSES, generator=draw) < 0.1).float()
    about = labels @ torch.randn(CLASSES, WIDTH, generator=draw)
    image, text = (about + torch.randn(n, WIDTH, generator=draw) for _ in range(2))
    return image, text, labels


def at_scale(seed: int, n: int) -> dict[str, float]:
    """Return seconds, and by how much the process's peak of memory grew, for `n` studies."""
    job = ours(*studies(seed, n), RANKS)
    before, start = peak_mib(), time.perf_counter()
    job()
    return {"n": n, "seconds": time.perf_counter() - start, "peak_above_start_mib": peak_mib() - before}


def peak_mib() -> float:
    """Return the process's peak of resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
