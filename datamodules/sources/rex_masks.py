"""Masks with a finding per first axis, as ReXGroundingCT has them: the depths that each finding is seen at."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvl.errors import DataError
from medvl.io.atomic import write_text

Stretches = list[list[tuple[float, float]]]
UNREADABLE = "the mask, or its volume, cannot be read"
_MOST_FINDINGS = 1000  # of a scan
_EXTENSIONS = 4 << 20  # bytes between header and voxels, beyond which the offset is wrong
_AXIAL = 0.9  # cosine between the slices' normal and the patient's z from which a volume is axial


def measured(mask: str, volume: str, cache: str) -> Stretches | str:
    """Return the depths in mm of each finding's stretches, or what is wrong; from the cache if measured before.

    Args:
        mask: The 4-D NIfTI, `(finding, i, j, k)`.
        volume: The CT that it lies on.
        cache: Folder that keeps what was measured, by place, size and time of the mask and of the volume, whose affine
            places it.
    """
    path = Path(mask)
    try:
        states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in (path, Path(volume))]
    except OSError:
        return UNREADABLE
    key = hashlib.sha256(json.dumps(states).encode(errors="surrogateescape")).hexdigest()[:24]
    kept = Path(cache) / f"{key}.json"
    try:
        found: Stretches = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        try:
            found = measure(path, Path(volume))
        except DataError as error:
            return error.what
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, [json.dumps(found)])
    return [[(low, high) for low, high in stretches] for stretches in found]


def measure(mask: Path, volume: Path) -> Stretches:
    """Return for each finding the depths in mm, from the feet up, that its stretches of slices cover.

    The volume's affine counts, not the mask's own, whose first axis is none of the patient's. One slice of all findings
    is held at a time.

    Raises:
        DataError: A file cannot be read, the two differ in shape, or the volume is not axial.
    """
    import nibabel

    from medvl.io.volume import guard_voxels

    load: Any = nibabel.load
    try:
        header, under = load(mask), load(volume)
        shape, affine = header.shape, np.asarray(under.affine, np.float64)
        if len(shape) != 4 or shape[1:] != under.shape[:3]:
            raise DataError(f"the mask has shape {shape}, its volume {under.shape}", where=str(mask))
        step = affine[:3, 2]
        if abs(step[2]) < _AXIAL * np.linalg.norm(step):
            raise DataError("the volume is not axial", where=str(volume))
        guard_voxels(shape[1:], str(mask))
        offset, kind = int(header.dataobj.offset), header.get_data_dtype()
        if not (0 < shape[0] <= _MOST_FINDINGS and offset <= _EXTENSIONS and kind.kind in "iuf"):
            raise DataError("the mask's header is damaged", where=str(mask))
        shown = _shown(mask, offset, kind, shape)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError, nibabel.filebasedimages.ImageFileError):
        raise DataError(UNREADABLE, where=str(mask)) from None
    middle = [(shape[1] - 1) / 2, (shape[2] - 1) / 2]
    first = float((affine @ [*middle, 0, 1])[2])
    return [_stretches(row, first, float(step[2])) for row in shown]


def _shown(path: Path, offset: int, kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return `(finding, slice)`: where a slice shows a finding."""
    size = int(np.prod(shape[:3])) * kind.itemsize
    shown = np.zeros((shape[0], shape[3]), np.bool_)
    opened: Any = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rb") as file:
        file.read(offset)
        for index in range(shape[3]):
            data = file.read(size)
            if len(data) < size:
                raise EOFError
            shown[:, index] = np.frombuffer(data, kind).reshape(-1, shape[0]).any(0)
    return shown


def runs_of(shown: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first slice and the one after the last of each run of slices."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shown, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _stretches(shown: NDArray[np.bool_], first: float, step: float) -> list[tuple[float, float]]:
    """Return the depths of the runs of slices, each with half a slice at either end."""
    ends = [sorted((first + step * (start - 0.5), first + step * (stop - 0.5))) for start, stop in runs_of(shown)]
    return sorted((round(low, 3), round(high, 3)) for low, high in ends)
