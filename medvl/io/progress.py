"""A progress bar for long steps, on standard error."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def track(steps: Iterable[int], total: int, label: str) -> None:
    """Exhaust `steps`, each of which tells how many of `total` items it has done, and show how far it is."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        for done in steps:
            progress.advance(task, done)
