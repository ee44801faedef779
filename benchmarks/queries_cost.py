"""What queries and sentences cost: latency and peak memory of a pass, beside a model that gives one box a sentence.

ResNet-50 at 640 px, a text encoder as large as BERT base, the task's default sizes, one radiograph, one thread. The
image is encoded once whatever is asked, so its share is measured once; each cell is that plus encoding the sentences
plus grounding them. Peak memory is the most that the process held at once beyond what it held before (weights), from
the kernel's own mark; null where there is none (`/proc/self/clear_refs`, Linux).
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.grounders import InMemory, realistic, records
from benchmarks.harness import interleaved, write_result
from datamodules.packing import Draw
from datamodules.phrases import PhraseDataset
from medvl.encoders.base import Features
from tasks.grounding.model import GroundingModel

QUERIES, SENTENCES, SIDE, ROUNDS = (1, 5, 25, 100), (1, 10, 40), 640, 2
OURS, ONE_BOX = (5, 10), (1, 10)  # queries and sentences of the headline


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `queries-cost.json` and return it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            rows, image = _measure(seed)
    finally:
        torch.set_num_threads(threads)
    named = {f"{queries} queries, {sentences} sentences": row for (queries, sentences), row in rows.items()}
    return write_result(
        "queries-cost",
        f"ms per image with {OURS[1]} sentences, {OURS[0]} queries each, ResNet-50, {SIDE} px, CPU",
        rows[OURS]["ms"],
        {"one-box-model": rows[ONE_BOX]["ms"]},
        n=ROUNDS,
        seed=seed,
        higher_is_better=False,
        image_encoder=image,
        rows=named,
    )


class Watched:
    """A job whose first call, which only warms up, notes the peak of memory."""

    def __init__(self, job: Callable[[], object]) -> None:
        self.job, self.called = job, False
        self.peak: float | None = None

    def __call__(self) -> None:
        """Do the job."""
        if self.called:
            self.job()
        else:
            self.called, self.peak = True, _peak(self.job)


def _measure(seed: int) -> tuple[dict[tuple[int, int], dict[str, Any]], dict[str, Any]]:
    model = realistic(seed).model
    dataset = PhraseDataset(records(1), InMemory(SIDE, seed), SIDE)
    batch = dataset[Draw(0, dataset.pairs_of_image)]
    image = model.image_encoder(batch.images, batch.valid)
    jobs = {"image": Watched(lambda: model.image_encoder(batch.images, batch.valid))}
    for count in SENTENCES:
        phrases = [record.phrase for record in records(count)]
        text = model.text_encoder(phrases)
        jobs[f"text {count}"] = Watched(partial(model.text_encoder, phrases))
        for queries in QUERIES:
            jobs[f"{queries} {count}"] = Watched(_grounding(model, queries, image, text))
    times = {name: 1000 * seconds for name, seconds in interleaved(jobs, ROUNDS).items()}
    rows = {(queries, count): _row(times, jobs, queries, count) for queries in QUERIES for count in SENTENCES}
    return rows, {"ms": times["image"], "peak_mb": jobs["image"].peak}


def _grounding(model: GroundingModel, queries: int, image: Features, text: Features) -> Callable[[], object]:
    index = torch.zeros(len(text.tokens), dtype=torch.long)

    def job() -> object:
        model.queries = queries  # no weight depends on it
        return model.ground(image, text, index)

    return job


def _row(times: dict[str, float], jobs: dict[str, Watched], queries: int, count: int) -> dict[str, Any]:
    parts = ("image", f"text {count}", f"{queries} {count}")
    peaks = [peak for part in parts if (peak := jobs[part].peak) is not None]
    return {
        "ms": sum(times[part] for part in parts),
        "grounding_ms": times[parts[2]],
        "peak_mb": max(peaks, default=None),
        "grounding_peak_mb": jobs[parts[2]].peak,
    }


def _peak(job: Callable[[], object]) -> float | None:
    """Do a job; return by how many MB its peak exceeds what was held before."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        job()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is asked for now
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    job()
    return max(0.0, _status("VmHWM") - before)


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1000 if found else float("nan")
