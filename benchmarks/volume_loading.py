"""Crops and whole CT volumes from the chunked store, beside the same volume as nii.gz read by nibabel.

The volume is drawn: a body with fat, muscle, lungs with vessels, heart, liver, spine, ribs and a table, and noise as
strong and as correlated within the slice as behind a soft-tissue kernel, weaker towards the skin. Files lie in the page
cache; both sides use one thread. The peer of a crop is the faster of two ways: nibabel's own slicing of the open file,
and reading all and slicing then. `disk_ratio` compares with gzip at level 6, `disk_ratio_fast` with nibabel's default,
level 1.
"""

from __future__ import annotations

import gzip
import itertools
import tempfile
from pathlib import Path
from typing import Any

import blosc2
import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.harness import interleaved, write_result
from medvl.io.convert import VolumeItem, convert_volumes
from medvl.io.volume_store import VolumeStore

SHAPE = (300, 512, 512)  # D, H, W
CROP = (96, 256, 256)
SPACING = (1.25, 0.75, 0.75)
ROUNDS = 3
CROPS = 8  # of ours in one round, each elsewhere: a single one is too quick to time
NOISE = 18.0  # HU in the middle of the body, over 1.25 mm slices
FIELD = 16  # slices of noise that are drawn; more come from shifting them


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `volume-loading.json` and return it."""
    threads = blosc2.set_nthreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(Path(folder), seed)
    finally:
        blosc2.set_nthreads(threads)


def _measure(folder: Path, seed: int) -> dict[str, Any]:
    hu, affine = ct(SHAPE, seed), np.diag([*SPACING[::-1], 1.0])
    path = folder / "data" / "ct.nii.gz"
    path.parent.mkdir()
    image = nibabel.Nifti1Image(hu.T, affine)
    image.set_qform(affine, 1)
    nibabel.save(image, path)
    tight = len(gzip.compress(hu.tobytes(), 6))
    convert_volumes(path.parent, [VolumeItem(path.name)], folder / "cache", workers=0)
    stored = VolumeStore(path.parent, folder / "cache")[path.name]
    if not np.array_equal(stored.whole(), hu):
        raise AssertionError("the store holds other voxels")
    corners = itertools.cycle(np.random.default_rng(seed).integers(0, np.subtract(SHAPE, CROP) + 1, (64, 3)).tolist())

    def window() -> tuple[slice, ...]:
        return tuple(slice(a, a + n) for a, n in zip(next(corners), CROP, strict=True))

    def ours() -> None:
        for _ in range(CROPS):
            at = window()
            stored.crop([one.start for one in at], [one.stop for one in at])

    jobs = {
        "ours": ours,
        "sliced": lambda: np.asarray(nibabel.load(path).dataobj[window()[::-1]]),
        "whole-then-sliced": lambda: np.asarray(nibabel.load(path).dataobj)[window()[::-1]].copy(),
        "ours-full": lambda: stored.whole(),
        "nibabel-full": lambda: np.asarray(nibabel.load(path).dataobj),
    }
    ms = {name: 1000 * seconds for name, seconds in interleaved(jobs, ROUNDS).items()}
    crop, peers = ms["ours"] / CROPS, {f"nibabel-{name}": ms[name] for name in ("sliced", "whole-then-sliced")}
    size = stored.file.stat().st_size
    return write_result(
        "volume-loading",
        "ms per crop of 256 x 256 x 96 from a CT of 512 x 512 x 300",
        crop,
        dict(sorted(peers.items(), key=lambda peer: peer[1])),
        n=ROUNDS,
        seed=seed,
        higher_is_better=False,
        full_ratio=ms["nibabel-full"] / ms["ours-full"],
        full_ms={"ours": ms["ours-full"], "nibabel": ms["nibabel-full"]},
        disk_ratio=size / tight,
        disk_ratio_fast=size / path.stat().st_size,
        disk_mb={"ours": size / 1e6, "gzip-6": tight / 1e6, "nibabel": path.stat().st_size / 1e6},
    )


def ct(shape: tuple[int, int, int], seed: int) -> NDArray[np.int16]:
    """Draw a CT in HU, `(D, H, W)`, at least -1024."""
    rng = np.random.default_rng(seed)
    depth, height, width = shape
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
    x, y = x[None], y[:, None]
    noise = ndimage.gaussian_filter(
        rng.standard_normal((FIELD, height, width), dtype=np.float32), (0, 0.8, 0.8), mode="wrap"
    )
    noise /= noise.std()
    vessels = ndimage.gaussian_filter(
        rng.standard_normal((FIELD, height, width), dtype=np.float32), (0, 3, 3), mode="wrap"
    )
    vessels = np.clip(vessels / vessels.std() - 1.6, 0, 0.8) * 700
    spread = 0.35 + 0.65 * np.exp(-2 * (x**2 + y**2))  # less noise towards the skin
    out = np.empty(shape, np.int16)
    for index in range(depth):
        plane = _anatomy(x, y, index / depth, vessels[index % FIELD])
        shift = rng.integers(0, (height, width))
        grain = np.roll(noise[int(rng.integers(FIELD))], tuple(shift), (0, 1))
        out[index] = np.rint(np.maximum(plane + NOISE * spread * grain, -1024))
    return out


def _anatomy(x: Any, y: Any, z: float, vessels: Any) -> Any:
    """Return one noiseless plane at a height `z` in [0, 1] above the lowest."""

    def inside(centre: tuple[float, float], half: tuple[float, float]) -> Any:
        away = np.sqrt(((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2)
        return np.clip((1 - away) * min(half) * 90, 0, 1)

    def fill(hu: Any, mask: Any, value: Any) -> Any:
        return hu + mask * (value - hu)

    wide = 0.86 - 0.12 * z
    hu = fill(np.float32(-1000) + 0 * (x + y), inside((0, 0), (wide, 0.62)), -100)
    hu = fill(hu, inside((0, 0), (wide - 0.07, 0.55)), 55)
    grown = float(np.clip((z - 0.25) * 4, 0, 1))
    for side in (-1, 1):
        lung = inside((side * 0.37, -0.02), (0.02 + 0.28 * grown, 0.02 + 0.4 * grown))
        hu = fill(hu, lung, -850 + vessels)
    hu = fill(hu, inside((0.12, -0.12), (0.24, 0.22)) * grown, 45)
    hu = fill(hu, inside((-0.38, -0.05), (0.34, 0.33)) * (1 - grown), 105)
    hu = fill(hu, inside((0, 0.33), (0.11, 0.1)), 220 + 160 * np.cos(90 * z))
    for angle in np.linspace(0.2, 6.1, 10) + 2 * z:
        hu = fill(hu, inside((0.7 * np.cos(angle), 0.5 * np.sin(angle)), (0.035, 0.05)), 500)
    return fill(hu, inside((0, 0.9), (0.8, 0.03)), -200)
