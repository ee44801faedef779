"""The loads of the soak, each in a process of its own: `python soak_loads.py LOAD PLACE SECONDS`.

After each round, when nothing of it should be left, a load samples itself into `rests-LOAD.jsonl`.
"""

from __future__ import annotations

import gc
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks.soak_samples import append, look
from benchmarks.training import QUICKSTART, call
from datamodules.augment import GroundingAugment
from datamodules.grounding import GroundingData
from datamodules.sources.padchest_gr import PadChestGR

IMAGE_SIZE, BATCH, EPOCHS = 96, 16, 10
REPORT = "Heart size is normal. Small left pleural effusion. No pneumothorax."
BEGAN = "began.txt"  # holds the time when the load began
LONG = 10_000_000  # steps: the clock ends the run


def small(place: Path) -> list[str]:
    """Return the options of the quickstart on the soak's twin."""
    size = ["--data.image_size", str(IMAGE_SIZE), "--data.batch_size", str(BATCH), "--data.num_workers", "2"]
    return [*QUICKSTART, "--data.source.root", str(place / "twin"), *size, "--runs", str(place / "runs")]


def train(place: Path, steps: int, *also: str) -> Path:
    """Train in as many steps; return the run folder."""
    call("fit", *small(place), "--trainer.max_steps", str(steps), *also)
    return (place / "runs" / "grounding" / "grounding" / "latest").resolve()


def loader(place: Path, seconds: float) -> Iterator[None]:
    """Load epochs of augmented batches with two workers; after every ten, a new loader."""
    epoch = 0
    while True:
        data = GroundingData(
            PadChestGR(str(place / "twin")),
            image_size=IMAGE_SIZE,
            batch_size=BATCH,
            num_workers=2,
            augment=GroundingAugment(lent=1),
        )
        data.setup("fit")
        batches = data.train_dataloader()
        for _ in range(EPOCHS):
            batches.sampler.set_epoch(epoch)
            for _ in batches:
                pass
            epoch += 1
        del batches, data
        yield


def fit(place: Path, seconds: float) -> Iterator[None]:
    """Train in one run until the time is over, with a look at val and a checkpoint every 40 steps."""
    hours, rest = divmod(int(seconds), 3600)
    clock = f"00:{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
    train(place, LONG, "--trainer.max_time", clock, "--trainer.val_check_interval", "40")
    yield


def restarts(place: Path, seconds: float) -> Iterator[None]:
    """Train in short runs, one after the other in one process: each opens and closes all that a run has."""
    while True:
        shutil.rmtree(train(place, 8, "--trainer.val_check_interval", "4"))
        yield


def predict(place: Path, seconds: float) -> Iterator[None]:
    """Predict the test split of a trained run, then a report, and so on."""
    run = train(place, 8, "--trainer.val_check_interval", "8")
    report = place / "report.txt"
    report.write_text(REPORT, encoding="utf-8")
    image = min((place / "twin").rglob("*.png"))
    while True:
        call("predict", "--run", str(run))
        call("predict", "--run", str(run), "--report", str(report), "--image", str(image))
        yield


LOADS: dict[str, Callable[[Path, float], Iterator[None]]] = {
    "loader": loader,
    "fit": fit,
    "restarts": restarts,
    "predict": predict,
}


def work(name: str, place: Path, seconds: float) -> None:
    """Do rounds of a load until the time is over."""
    start, own = time.monotonic(), psutil.Process()
    (place / BEGAN).write_text(str(start), encoding="ascii")
    for _ in LOADS[name](place, seconds):
        gc.collect()
        append(place / f"rests-{name}.jsonl", look(own, place, time.monotonic() - start))
        if time.monotonic() - start >= seconds:
            break


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
