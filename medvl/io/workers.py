"""The same job over many inputs, on several processes, behind a progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medvl.io.ray_engine import on_ray

Engine = Literal["local", "ray"]
_FEW = 100  # items for which starting processes takes longer than the work
_Result = TypeVar("_Result")


def run_all(
    job: Callable[..., _Result],
    inputs: Sequence[tuple[Any, ...]],
    workers: int | None,
    title: str,
    sizes: Sequence[int] | None = None,
    engine: Engine = "local",
) -> list[_Result]:
    """Return `[job(*each) for each in inputs]`.

    Args:
        job: A function of a module, so that another process can import it.
        inputs: The arguments of each call.
        workers: Processes; by default one for each core that this process may use, and none where there are few items.
            With 0 or 1 no process starts.
        title: What the progress bar (standard error, terminals only) says.
        sizes: How many items each input stands for, which is what the bar counts; one by default.
        engine: `ray` leaves the number of processes to a Ray cluster.

    Raises:
        ConfigError: `ray` is not installed.
    """
    sizes = [1] * len(inputs) if sizes is None else sizes
    if workers is None:
        workers = 0 if sum(sizes) < _FEW else cores()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=sum(sizes))
        results = []
        found = on_ray(job, inputs) if engine == "ray" else _results(job, inputs, min(workers, len(inputs)))
        for size, result in zip(sizes, found, strict=True):
            results.append(result)
            progress.advance(task, size)
    return results


def _results(job: Callable[..., _Result], inputs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[_Result]:
    if workers < 2:
        yield from (job(*each) for each in inputs)
        return
    chunk = max(1, min(4, len(inputs) // (4 * workers)))
    # spawn, not fork: the parent may hold threads of torch, and a forked lock would never open
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(job, *zip(*inputs, strict=True), chunksize=chunk)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
