"""What every benchmark shares: interleaved timing, the machine's name, and the result file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def interleaved(jobs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each job's median time in seconds; each round runs every job once, so that all share the machine's moods.

    Every other round goes backwards, so that no job always follows the same neighbour. The first round only warms up.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name in list(jobs)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            jobs[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def machine() -> str:
    """Name the processor, its cores that this process may use, and the accelerator if there is one; no host name."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    import torch

    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return f"{model}, {cores} cores{gpu}"


def commit() -> str:
    """Return the short hash of the commit measured, with `+` when measured code differs from it; empty without git."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return ""
    paths = ["medvl", "tasks", "datamodules", "ontology", "benchmarks/*.py"]
    changed = subprocess.run([*git, "status", "--porcelain", "--", *paths], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def write_result(
    name: str,
    unit: str,
    ours: float | Mapping[str, float],
    peers: Mapping[str, float | Mapping[str, float]],
    n: int,
    seed: int,
    higher_is_better: bool = True,
    **extra: Any,
) -> dict[str, Any]:
    """Write `benchmarks/results/<name>.json` and return what was written.

    Args:
        name: The benchmark, with hyphens.
        unit: Of `ours` and `peers`.
        ours: Our figure, or several by name.
        peers: Figures of what we are compared with, the strictest peer first, in the form of ours.
        n: Number of measurements, images or phrases behind each figure.
        seed: Of the data.
        higher_is_better: Whether a larger figure is better; `ratio` is how many times better than the first peer, null
            where there are several figures.
        **extra: Further keys; a key `ratio` replaces the computed one.
    """
    peer = next(iter(peers.values()), float("nan"))
    ratio = float("nan")
    if not isinstance(ours, Mapping) and not isinstance(peer, Mapping):
        above, below = (ours, peer) if higher_is_better else (peer, ours)
        ratio = above / below if below else float("inf")
    result: dict[str, Any] = {"name": name, "unit": unit, "ours": ours, "peers": dict(peers), "ratio": ratio, "n": n}
    result |= {"machine": machine(), "commit": commit(), "seed": seed} | extra
    rounded: dict[str, Any] = _rounded(result)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rounded, indent=2) + "\n")
    return rounded


def _rounded(value: Any) -> Any:
    """Keep four significant digits of every float; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) < float("inf") else None
    return value
