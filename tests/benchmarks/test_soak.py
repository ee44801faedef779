"""What the soak sees: growth and leaks that are there, and none where there are none."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import exp
from pathlib import Path

import psutil
import pytest

from benchmarks import soak
from benchmarks.soak_samples import Sample, leaked, look, slope

HOLDS = """
import multiprocessing as mp, sys, threading, time
held = [open(f"{sys.argv[1]}/tmp/{i}.txt", "w") for i in range(9)]
mp.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
[threading.Thread(target=time.sleep, args=(60,), daemon=True).start() for _ in range(5)]
ballast = bytearray(b"1" * 2**26)
print("ready", flush=True)
time.sleep(60)
"""


def samples(grows: float = 0.0, handles: int = 0) -> list[Sample]:
    """An hour, a sample a minute, memory that saws between 500 and 510 MiB, and one process more now and then."""
    return [
        Sample(60.0 * i, 500 + i % 11 + grows * i / 60, 900.0, 3 + i % 2, 9 + i % 2, 80 + handles * i // 59, 4, 1.0)
        for i in range(60)
    ]


def test_growth_and_leaks_are_told_from_a_busy_calm() -> None:
    calm = soak.judge(samples(), [], {"processes": 0, "temp_files": 0})
    assert calm["flat"]
    assert calm["leaks"] == 0
    growth, low, high = slope(samples(grows=120))
    assert low <= growth <= high
    assert growth == pytest.approx(120, rel=0.1)
    grown = soak.judge(samples(grows=120), [], {})
    assert not grown["flat"]
    assert grown["rss_mib_per_hour"] == (0, 0, 0)  # it was shared before
    assert leaked(samples(handles=59))["handles"] > 20
    fills = soak.judge([replace(one, memory=one.memory - 300 * exp(-one.time / 500)) for one in samples()], [], {})
    assert fills["later"][0] < 0.5 * fills["mib_per_hour"]  # which tells it from a leak
    assert soak.judge(samples(), [], {"processes": 1, "temp_files": 2})["leaks"] == 3


def test_a_tree_is_seen_whole(tmp_path: Path) -> None:
    for name in ("tmp", "cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "cache" / "file").write_bytes(bytes(2**20))
    words = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            seen = look(psutil.Process(child.pid), tmp_path, 1.0)
        finally:
            child.kill()
            child.wait()
            left = soak._left_behind(child.pid)
    assert (seen.processes, seen.threads, seen.temp_files, seen.cache) == (2, 7, 9, 1.0)
    assert seen.handles >= 2 * 9 + 2
    assert 64 < seen.memory < 200
    assert left == 1  # its child, which the kill had orphaned


def test_a_load_is_soaked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "STUDIES", 12)
    taken, found = soak.soak("loader", tmp_path / "loader", seconds=3.0, every=0.2, seed=0)
    assert len(taken) >= 3
    assert found["rounds"] >= 1
    assert found["left_behind"] == {"processes": 0, "temp_files": 0}
    assert found["most"]["processes"] == 3  # with two workers
    assert found["memory_mib"] > 50
    assert soak.soak("loader", tmp_path / "loader", seconds=3.0, every=0.2, seed=0) == (taken, found)  # only judged
