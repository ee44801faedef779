"""An hour under load: does memory grow, is a process, a thread, a file handle or a temporary file left behind?

Three parts of equal length on a synthetic PadChest-GR: the loader alone; training, half of it one long run and half
runs that follow each other in one process; prediction of data sets and reports in turn. Each load has its own tree of
processes, temporary folder and cache, and is sampled from outside every few seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import RESULTS, ROOT, write_result
from benchmarks.soak_loads import BEGAN, LOADS
from benchmarks.soak_samples import COUNTED, Sample, append, kept_in, leaked, look, settled, slope, thinned
from benchmarks.training import call, films, logged
from medvl.io.atomic import write_text
from medvl.viz.chart import Line
from medvl.viz.figure import line_figure

SHARES = {"loader": 1.0, "fit": 0.5, "restarts": 0.5, "predict": 1.0}  # of `minutes`
STUDIES, SIDE = 60, 160
FLAT = 10.0  # MiB per hour that are let pass: 1.6 GiB in a week
LATER = 0.5  # of the time: what fills up grows less after it, what leaks does not
RESTS = 6  # samples between rounds that are enough to judge by; with fewer, those taken at any time are
POINTS = 30  # of a line in the figure
DONE = "done.json"  # of a finished load: what it left behind
GRACE = 1200.0  # seconds for imports before, and for the last round after


def run(minutes: float = 20.0, seed: int = 0, every: float = 3.0, parts: str = "", keep: str = "") -> dict[str, Any]:
    """Soak, write `soak.json` and `soak.png`, and return what was written.

    Args:
        minutes: Length of each of the three parts.
        seed: Of the twin.
        every: Seconds between two samples.
        parts: Loads to run, with commas; all if empty.
        keep: Folder that keeps the samples and the logs; a load that is done there is only judged again.
    """
    names = parts.split(",") if parts else list(LOADS)
    taken: dict[str, tuple[list[Sample], dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(keep).resolve() if keep else Path(folder)
        for name in names:
            print(f"  {name}: {minutes * SHARES[name]:.3g} minutes", flush=True)
            taken[name] = soak(name, root / name, 60 * minutes * SHARES[name], every, seed)
    figures = {name: judged for name, (_, judged) in taken.items()}
    _draw({name: samples for name, (samples, _) in taken.items()})
    lasting = [one["flat"] and not one["leaks"] for one in figures.values()]
    return write_result(
        "soak",
        "MiB per hour",
        {name: one["mib_per_hour"] for name, one in figures.items()},
        {},
        n=sum(one["samples"] for one in figures.values()),
        seed=seed,
        ratio=sum(lasting) / len(lasting),
        minutes=sum(one["minutes"] for one in figures.values()),
        flat={name: one["flat"] for name, one in figures.items()},
        leaked={name: one["leaked"] for name, one in figures.items()},
        left_behind={name: one["left_behind"] for name, one in figures.items()},
        parts=figures,
    )


def soak(name: str, place: Path, seconds: float, every: float, seed: int) -> tuple[list[Sample], dict[str, Any]]:
    """Run one load in its own tree of processes.

    Returns:
        The samples taken from outside, and what they say.

    Raises:
        RuntimeError: The load failed, or did not end.
    """
    if not (place / DONE).exists():
        if (place / BEGAN).exists():  # it is ours, and was cut off
            shutil.rmtree(place)
        behind = _work(name, place, seconds, every, seed)
        write_text(place / DONE, [json.dumps(behind)])
    behind = json.loads((place / DONE).read_text(encoding="utf-8"))
    samples, rests = kept_in(place / "samples.jsonl"), kept_in(place / f"rests-{name}.jsonl")
    return samples, judge(samples, rests, behind) | {"steps_of_longest_run": _steps(place)}


def _work(name: str, place: Path, seconds: float, every: float, seed: int) -> dict[str, int]:
    """Run one load and sample it; return what it left behind."""
    for folder in ("tmp", "cache"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    call("data", "twin", "padchest-gr", str(place / "twin"), *films(STUDIES, seed, SIDE))
    variables = os.environ | {"TMPDIR": str(place / "tmp"), "MEDVL_CACHE": str(place / "cache")}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    words = [sys.executable, str(ROOT / "benchmarks" / "soak_loads.py"), name, str(place), str(seconds)]
    with (place / "log.txt").open("w", encoding="utf-8") as log:
        worker = subprocess.Popen(words, cwd=place, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            _sample(worker, place, seconds, every)
        finally:
            worker.kill()
            worker.wait()
            behind = _left_behind(worker.pid)
    if worker.returncode:
        tail = (place / "log.txt").read_text(encoding="utf-8").splitlines()[-8:]
        raise RuntimeError("\n".join([f"the load {name!r} failed", *tail]))
    return {"processes": behind, "temp_files": look(psutil.Process(), place, 0.0).temp_files}


def _sample(worker: subprocess.Popen[bytes], place: Path, seconds: float, every: float) -> None:
    """Sample while the load is at work: not the imports before, nor the end of its last round."""
    start, process = time.monotonic(), psutil.Process(worker.pid)
    while worker.poll() is None:
        now, began = time.monotonic(), _began(place)
        if began and now - began < seconds:
            sample = look(process, place, now - began)
            if sample.memory:  # else it ended while we looked
                append(place / "samples.jsonl", sample)
        if now - start > seconds + GRACE:
            raise RuntimeError(f"the load did not end in {seconds + GRACE:.0f} s")
        time.sleep(every)


def _began(place: Path) -> float:
    """Return when the worker had loaded what it needs; 0 before."""
    text = (place / BEGAN).read_text(encoding="ascii") if (place / BEGAN).exists() else ""
    return float(text) if text else 0.0


def _steps(place: Path) -> int:
    """Return how many steps the longest run below a folder took."""
    files = (place / "runs").glob("*/*/*-*/metrics.jsonl")
    return int(max((step for file in files for step in logged(file, "step")), default=0))


def _left_behind(session: int) -> int:
    """End what is still running of a session that should be over; return how many processes that were."""
    found = 0
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                found += 1
                process.kill()
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
    return found


def judge(samples: Sequence[Sample], rests: Sequence[Sample], left_behind: dict[str, int]) -> dict[str, Any]:
    """Say of one load how its memory grows and what it leaves.

    Args:
        samples: Taken at any time.
        rests: Taken between rounds. If there are enough, growth and leaks are judged by these, else by `samples`.
        left_behind: Processes and temporary files after its end.
    """
    judged = rests if len(rests) >= RESTS else samples
    (growth, low, high), still, calm = slope(judged), leaked(judged), settled(judged)
    return {
        "mib_per_hour": growth,
        "interval": [low, high],
        "flat": growth <= FLAT or low <= 0,
        "leaked": still,
        "leaks": sum(still.values()) + sum(left_behind.values()),
        "left_behind": left_behind,
        "later": slope(judged, LATER),
        "rss_mib_per_hour": slope(judged, of="rss"),
        "mib_per_hour_in_work": slope(samples)[0],
        "memory_mib": calm[len(calm) // 2].memory,
        "rss_mib": calm[len(calm) // 2].rss,
        "most_memory_mib": max(sample.memory for sample in samples),
        "cache_mib": [calm[0].cache, calm[-1].cache],
        "most": {name: max(getattr(sample, name) for sample in samples) for name in COUNTED},
        "rounds": len(rests),
        "samples": len(samples),
        "minutes": max(sample.time for sample in samples) / 60,
    }


def _draw(taken: dict[str, list[Sample]]) -> None:
    lines = []
    for name, samples in taken.items():
        minutes, memory = zip(*thinned(samples, POINTS), strict=True)
        lines.append(Line(name, minutes, memory))
    line_figure(RESULTS / "soak.png", "Memory under load", lines, "minutes", "anonymous and shared memory, MiB")
