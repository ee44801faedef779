"""Time to read a 3000 x 2500 JPEG at 640 px: `read_image` beside plain Pillow and torchvision, one thread each."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.functional import resize

from benchmarks.harness import interleaved, write_result
from benchmarks.radiographs import plain_pillow, radiographs
from medvl.io.image import read_image

SIZE = 640
QUALITIES = (75, 90, 95)
ROUNDS = 9
PICTURES = 4


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `image-decode.json` and return it; `ratio` is the median over the JPEG qualities."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(Path(folder), seed)
    finally:
        torch.set_num_threads(threads)


def _measure(folder: Path, seed: int) -> dict[str, Any]:
    pictures = radiographs(PICTURES, seed)
    rows = {f"grey-q{quality}": _row(folder, pictures, "L", quality) for quality in QUALITIES}
    ours, pillow, torchvision = (_median(rows, name) for name in ("ours", "pillow", "torchvision"))
    return write_result(
        "image-decode",
        "ms per image, 640 px",
        ours,
        {"pillow": pillow, "torchvision": torchvision},
        n=PICTURES * len(QUALITIES) * ROUNDS,
        seed=seed,
        higher_is_better=False,
        ratio=statistics.median(row["ratio"] for row in rows.values()),
        rows=rows | {"colour-q90": _row(folder, pictures, "RGB", 90)},
    )


def _median(rows: dict[str, dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rows.values())


def _row(folder: Path, pictures: list[NDArray[np.uint8]], mode: str, quality: int) -> dict[str, float]:
    """Time one kind of file; times are means over the pictures of medians over rounds, in ms."""
    totals: dict[str, float] = {"ours": 0.0, "pillow": 0.0, "torchvision": 0.0}
    difference, megabytes = 0.0, 0.0
    for number, picture in enumerate(pictures):
        path = folder / f"{mode}-{quality}-{number}.jpg"
        Image.fromarray(picture).convert(mode).save(path, quality=quality)
        jobs = {
            "ours": lambda path=path: read_image(path, SIZE).pixels,
            "pillow": lambda path=path: plain_pillow(path, SIZE),
            "torchvision": lambda path=path: _torchvision(path),
        }
        for name, seconds in interleaved(jobs, ROUNDS).items():
            totals[name] += 1000 * seconds / len(pictures)
        plain = plain_pillow(path, SIZE).astype(int)
        difference += float(np.abs(read_image(path, SIZE).pixels - plain).mean()) / len(pictures)
        megabytes += path.stat().st_size / 1e6 / len(pictures)
    ratio = totals["pillow"] / totals["ours"]
    return totals | {"ratio": ratio, "mean_grey_difference": difference, "file_mb": megabytes}


def _torchvision(path: Path) -> torch.Tensor:
    """Decode to grey by torchvision and resize, antialiased."""
    image = decode_image(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8), mode=ImageReadMode.GRAY)
    scale = SIZE / max(image.shape)
    return resize(image, [round(image.shape[1] * scale), round(image.shape[2] * scale)], antialias=True)
