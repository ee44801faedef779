"""Images a second out of a DataLoader at 640 px: from the image cache, beside plain Pillow without one.

Both run in the main process (`num_workers=0`) with one thread, on files that the page cache holds, and only read:
no augmentation, so the ratio is that of reading alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import interleaved, write_result
from benchmarks.radiographs import plain_pillow, radiographs
from medvl.io.cache import ImageCache
from medvl.io.image import read_image

SIZE = 640
IMAGES = 24
REPEATS = 20  # passes of the cached loader in one round, so that its time is long enough to measure
ROUNDS = 5
Reader = Callable[[str], NDArray[np.uint8]]


class _Images(Dataset[torch.Tensor]):
    """Pictures by one way of reading."""

    def __init__(self, names: list[str], read: Reader) -> None:
        self.names, self.read = names, read

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.read(self.names[index]))


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `loader-cache.json` and return it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(Path(folder), seed)
    finally:
        torch.set_num_threads(threads)


def _measure(folder: Path, seed: int) -> dict[str, Any]:
    root = folder / "images"
    root.mkdir()
    names = [f"{number}.jpg" for number in range(IMAGES)]
    for name, picture in zip(names, radiographs(IMAGES, seed), strict=True):
        Image.fromarray(picture).save(root / name, quality=90)
    start = time.perf_counter()
    cache, _ = ImageCache.open_or_build(root, names, f"benchmark-{seed}", SIZE, workers=1, folder=folder / "cache")
    build = time.perf_counter() - start
    jobs = {
        "ours": _passes(_Images(names * REPEATS, lambda name: cache[name].pixels)),
        "pillow": _passes(_Images(names, lambda name: plain_pillow(root / name, SIZE))),
        "uncached": _passes(_Images(names, lambda name: read_image(root / name, SIZE).pixels)),
    }
    times = interleaved(jobs, ROUNDS)
    return write_result(
        "loader-cache",
        "images/s, 640 px",
        IMAGES * REPEATS / times["ours"],
        {"pillow": IMAGES / times["pillow"], "read_image-uncached": IMAGES / times["uncached"]},
        n=IMAGES * ROUNDS,
        seed=seed,
        build_images_per_s=IMAGES / build,
        build_in_plain_epochs=build / times["pillow"],
        cache_mb_per_1000_images=sum(f.stat().st_size for f in cache.folder.iterdir()) / IMAGES / 1e3,
    )


def _passes(images: _Images) -> Callable[[], None]:
    """Return a job that reads all `images` once through a loader."""
    loader = DataLoader(images, batch_size=8, num_workers=0)

    def job() -> None:
        for _ in loader:
            pass

    return job
