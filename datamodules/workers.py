"""The same job over many inputs, on several processes, behind a progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

_FEW = 48  # inputs for which starting processes takes longer than the work
_Result = TypeVar("_Result")


def run_all(
    job: Callable[..., _Result], inputs: Sequence[tuple[Any, ...]], workers: int | None, title: str
) -> list[_Result]:
    """Return `[job(*each) for each in inputs]`.

    Args:
        job: A function of a module, so that another process can import it.
        inputs: The arguments of each call.
        workers: Processes; one per core by default, and none where there are 0, 1 or few inputs.
        title: What the progress bar (standard error, terminals only) says.
    """
    console = Console(stderr=True)
    results = _results(job, inputs, (os.cpu_count() or 1) if workers is None else workers)
    bar = track(results, title, total=len(inputs), transient=True, console=console, disable=not console.is_terminal)
    return list(bar)


def _results(job: Callable[..., _Result], inputs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[_Result]:
    if workers < 2 or len(inputs) < _FEW:
        yield from (job(*each) for each in inputs)
        return
    # spawn, not fork: the parent may hold threads of torch, and a forked lock would never open
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(job, *zip(*inputs, strict=True), chunksize=4)
