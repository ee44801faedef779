"""CT slabs from numbered 16-bit PNG slices: what lies in one folder without a gap, named by its first slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medvl.errors import DataError
from medvl.io.hounsfield import Rescale, hounsfield
from medvl.io.pixels import guard
from medvl.io.sidecar import Sidecar, Slice
from medvl.io.volume import Affine, Volume, VolumeError, canonical, depth_of, guard_affine, guard_voxels

SUFFIX = ".png"


def slab_files(first: Path) -> list[Path]:
    """Return the slices from `first` on, up to the next number that is not there; `103.png`, `104.png`, ..."""
    names = {int(path.stem): path for path in first.parent.glob(f"*{SUFFIX}") if path.stem.isdigit()}
    number, found = int(first.stem) if first.stem.isdigit() else -1, []
    while number in names:
        found.append(names[number])
        number += 1
    return found


def read_slab(first: Path, affine: Affine, rescale: Rescale) -> Volume:
    """Read the slab that begins with a slice.

    Args:
        first: Its first slice, `<number>.png`.
        affine: From `(column, row, slice from the first, 1)` to RAS mm, which the pictures do not tell.
        rescale: From grey values to Hounsfield units.

    Raises:
        VolumeError: `missing`, `unreadable`, `one-slice`, `too-large`, `mixed-series`, `affine` or `rescale`; names the
            slice.
    """
    affine = guard_affine(np.asarray(affine, np.float64), str(first))
    files = slab_files(first)
    if not files:
        raise VolumeError("missing", "no such slice, or its name is no number", where=str(first))
    slices = [_pixels(path) for path in files]
    odd = next((path for path, one in zip(files, slices, strict=True) if one.shape != slices[0].shape), None)
    if odd is not None:
        raise VolumeError("mixed-series", "this slice has another size than the slab's first", where=str(odd))
    guard_voxels((*slices[0].shape, len(files)), str(first))
    hu, notes = hounsfield(np.stack(slices), [rescale], str(first))
    upward = affine[2, 2] > 0
    hu, affine = canonical(hu, affine)
    depth = depth_of(affine, hu.shape)
    numbers = [int(path.stem) for path in (files if upward else files[::-1])]
    sidecar = Sidecar(tuple(Slice(depth.z(k), number, thickness=depth.step) for k, number in enumerate(numbers)))
    return Volume(hu, affine, sidecar, notes)


def _pixels(path: Path) -> NDArray[Any]:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            guard(path, picture.size[::-1])
            pixels = np.asarray(picture)
    except DataError as error:
        raise VolumeError("too-large", error.what, where=str(path), hint=error.hint) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise VolumeError("unreadable", "this slice cannot be read", where=str(path)) from None
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu":
        raise VolumeError("unreadable", "expected grey values in 16 bits", where=str(path))
    return pixels
