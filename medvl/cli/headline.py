"""The few metrics that a test is read by; all of them are in metrics.jsonl and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from torch import Tensor


def print_headline(metrics: Mapping[str, Tensor], names: Sequence[str]) -> None:
    """Print the metrics whose name after the stage (`test/`) is in `names`, in that order; all where none is."""
    found = {key.partition("/")[2]: (key, float(value)) for key, value in metrics.items() if "/" in key}
    shown = [found[name] for name in names if name in found] or sorted(found.values())
    table = Table("metric", "value")
    for key, value in shown:
        table.add_row(key, f"{value:.3f}")
    if shown:
        Console().print(table)
    if len(found) > len(shown):
        Console().print(f"{len(found) - len(shown)} more in metrics.jsonl")
