"""What a tree of processes holds, sampled from outside, and whether it grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from scipy.stats import theilslopes

MIB = 2**20
COUNTED = ("processes", "threads", "handles", "temp_files")
WARM_UP = 0.25  # share of the time in which caches fill and allocators find their size
WINDOW = 0.25  # of what is left: counts of its first part are compared with those of its last


@dataclass(frozen=True)
class Sample:
    """One look; memory in MiB, time in seconds.

    Attributes:
        memory: Anonymous and shared memory of all processes, each page divided among those that share it (`Pss_Anon`
            and `Pss_Shmem` of Linux). Mapped files are left out: other programs on the machine share libraries with
            us, and as they come and go our part of those pages changes.
        rss: Resident memory, every page counted in each process that has it. Where `memory` grows and this does not,
            processes ask for no more, but write to pages that they shared.
        temp_files: Files and folders below its temporary folder.
        cache: Size of its cache folder.
    """

    time: float
    memory: float
    rss: float
    processes: int
    threads: int
    handles: int
    temp_files: int
    cache: float


def look(process: psutil.Process, place: Path, time: float) -> Sample:
    """Sample a process with all its descendants, and the folders `tmp` and `cache` of `place`."""
    memory = rss = processes = threads = handles = 0
    for one in _tree(process):
        processes += 1  # a zombie is one too, though it has nothing
        try:
            with one.oneshot():
                held, own = one.memory_info().rss, _anonymous(one.pid)
                threads, handles = threads + one.num_threads(), handles + one.num_fds()
            memory, rss = memory + own, rss + held
        except (psutil.Error, ProcessLookupError, FileNotFoundError):  # it ended while we looked
            continue
    temporary, size = _below(place / "tmp")[0], _below(place / "cache")[1]
    return Sample(time, memory / MIB, rss / MIB, processes, threads, handles, temporary, size / MIB)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _anonymous(process: int) -> int:
    """Return the bytes of `Sample.memory` that are of one process."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _below(folder: Path) -> tuple[int, int]:
    """Return how many entries there are below a folder, and the bytes that they hold."""
    sizes = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.lstat().st_size)
        except FileNotFoundError:
            continue
    return len(sizes), sum(sizes)


def settled(samples: Sequence[Sample], warm_up: float = WARM_UP) -> list[Sample]:
    """Return the samples after the first `warm_up` of the time."""
    ordered = sorted(samples, key=lambda sample: sample.time)
    return [sample for sample in ordered if sample.time >= warm_up * ordered[-1].time]


def slope(samples: Sequence[Sample], warm_up: float = WARM_UP, of: str = "memory") -> tuple[float, float, float]:
    """Return the growth of `memory` or `rss` after the warm-up in MiB per hour, with the bounds of its 95 % interval.

    Theil and Sen's median of the slopes of all pairs, which no single peak moves. Its interval takes the samples for
    independent; neighbours are not, so it is rather too narrow.
    """
    kept = settled(samples, warm_up)
    hours = [sample.time / 3600 for sample in kept]
    found = theilslopes([getattr(sample, of) for sample in kept], hours)
    return float(found.slope), float(found.low_slope), float(found.high_slope)


def leaked(samples: Sequence[Sample]) -> dict[str, int]:
    """Return by how much the least of each count in the last part of the settled time exceeds the most in the first.

    Counts breathe with the load: a queue that was closed keeps its handles until it is collected. What leaks in every
    round leaves that behind; half of a steady growth is told, for each part has its own share of it.
    """
    kept = settled(samples)
    width = max(1, round(WINDOW * len(kept)))
    first, last = (
        [{name: getattr(one, name) for name in COUNTED} for one in part] for part in (kept[:width], kept[-width:])
    )
    return {name: max(0, min(one[name] for one in last) - max(one[name] for one in first)) for name in COUNTED}


def thinned(samples: Sequence[Sample], points: int) -> list[tuple[float, float]]:
    """Return minutes and the mean memory (MiB) of at most `points` equal parts of the samples."""
    parts = np.array_split(np.array([(one.time / 60, one.memory) for one in samples]), min(points, len(samples)))
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]


def append(path: Path, sample: Sample) -> None:
    """Write a sample below those that a file holds."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(sample)) + "\n")


def kept_in(path: Path) -> list[Sample]:
    """Return the samples of a file; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Sample(**json.loads(line)) for line in lines]
