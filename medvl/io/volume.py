"""A CT volume in one frame, whatever it was stored in: Hounsfield units, axes along the patient's, depths in mm.

Arrays are `(D, H, W)` and grow towards the patient's head, front and right ("RAS" in NIfTI's words, last axis first).
The affine maps `(w, h, d, 1)`, voxel centres at whole numbers, to `(x, y, z)` in mm of the RAS frame, as nibabel's
does. Only axes are exchanged and mirrored, nothing is resampled: a volume that was stored oblique or tilted keeps an
affine that is so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from medvl.errors import DataError
from medvl.io.sidecar import Sidecar, Slice

MAX_VOXELS = 1_200_000_000  # 1,024 x 1,024 x 1,100 and more; refused from the header, before anything is unpacked
SPACINGS = (0.05, 30.0)  # mm between voxels, beyond which the header is wrong
Affine = NDArray[np.float64]


class VolumeError(DataError):
    """A volume that cannot be used.

    Args:
        code: The kind of mistake, to count by: `missing`, `unreadable`, `truncated`, `too-large`, `not-3d`,
            `one-slice`, `affine`, `nan`, `rescale`, `flat`, `mixed-series`,
            `duplicates`, `gap`, `not-axial`, `localizer`.
        what: As in `MedvlError`.
        where: As in `MedvlError`.
        hint: As in `MedvlError`.
    """

    def __init__(self, code: str, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.code, self.args = code, (code, what)  # what a data worker's error is made from again


@dataclass(frozen=True, slots=True)
class DepthAxis:
    """Slices by depth: slice `k` of `count` has its middle at `first + k * step` mm, towards the head."""

    first: float
    step: float
    count: int

    def z(self, index: float) -> float:
        """Return the depth in mm at an index, which may lie between slices."""
        return self.first + index * self.step

    def index(self, z: float) -> float:
        """Return the index, between slices if need be, at a depth in mm."""
        return (z - self.first) / self.step

    def nearest(self, z: float) -> int:
        """Return the slice nearest to a depth in mm; the outermost one for a depth beyond."""
        return min(max(round(self.index(z)), 0), self.count - 1)

    def cropped(self, start: int, stop: int) -> DepthAxis:
        """Return the axis of the slices `start` to `stop`; beyond the ends it goes on, as padding does."""
        return DepthAxis(self.z(start), self.step, stop - start)


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume.

    Attributes:
        hu: int16 `(D, H, W)`, C-contiguous, at least -1024.
        affine: `(4, 4)` from `(w, h, d, 1)` to RAS mm.
        sidecar: The slices as they were stored.
        notes: What was odd and mended, as `code: text`: `rescale`, `gap`, `uneven`, `tilt`, `duplicates`, `localizer`,
            `placeless`.
    """

    hu: NDArray[np.int16]
    affine: Affine
    sidecar: Sidecar
    notes: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along `(D, H, W)`."""
        return spacing_of(self.affine)

    @property
    def depth(self) -> DepthAxis:
        """The depths of its slices."""
        return depth_of(self.affine, self.hu.shape)


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Return mm between voxels along `(D, H, W)`."""
    x, y, z = np.sqrt((affine[:3, :3] ** 2).sum(0))
    return float(z), float(y), float(x)


def depth_of(affine: Affine, shape: tuple[int, ...]) -> DepthAxis:
    """Return the depths of the slices' middles of a RAS volume of `shape` `(D, H, W)`."""
    count, height, width = shape
    first = affine @ [(width - 1) / 2, (height - 1) / 2, 0, 1]
    return DepthAxis(float(first[2]), float(affine[2, 2]), count)


def unnumbered(depth: DepthAxis) -> Sidecar:
    """Return the sidecar of a volume whose file knows no series and no image numbers."""
    return Sidecar(tuple(Slice(depth.z(index), thickness=depth.step) for index in range(depth.count)))


def canonical(stored: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """Turn `(k, j, i)` with an affine from `(i, j, k, 1)` to RAS mm into `(D, H, W)` with its affine."""
    turns: Any = orientations  # nibabel's functions carry no types
    turn = turns.io_orientation(affine)
    turned = turns.apply_orientation(stored.T, turn)
    fitted: Affine = affine @ turns.inv_ornt_aff(turn, stored.T.shape)
    return np.ascontiguousarray(turned.T), fitted


def guard_voxels(shape: tuple[int, ...], where: str) -> None:
    """Refuse a shape in three axes that is empty, a single slice, or too large to hold.

    Raises:
        VolumeError: `not-3d`, `one-slice` or `too-large`.
    """
    text = " x ".join(map(str, shape))
    if len(shape) != 3 or min(shape, default=0) < 1:
        raise VolumeError("not-3d", f"expected a volume in three axes, not {text or 'none'}", where=where)
    if min(shape) < 2:
        raise VolumeError("one-slice", f"this is one slice, not a volume: {text}", where=where)
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        hint = f"at most {MAX_VOXELS:,} voxels are read"
        raise VolumeError("too-large", f"this volume is too large: {text} voxels", where=where, hint=hint)


def guard_affine(affine: Affine, where: str) -> Affine:
    """Return an affine that places voxels in a patient.

    Raises:
        VolumeError: `affine`: not finite, flat, with a spacing that no scanner has, or with skewed axes.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError("affine", "wrong affine: not 4 x 4 finite numbers", where=where)
    spacing = spacing_of(affine)
    low, high = SPACINGS
    if not all(low <= step <= high for step in spacing):
        text = " x ".join(f"{step:.4g}" for step in spacing)
        hint = f"expected {low:g} to {high:g} mm along each axis"
        raise VolumeError("affine", f"wrong affine: voxels of {text} mm", where=where, hint=hint)
    volume = abs(float(np.linalg.det(affine[:3, :3]))) / float(np.prod(spacing))
    if volume < 0.5:  # a gantry tilted by 30 degrees leaves 0.87
        raise VolumeError("affine", "wrong affine: its axes are not at right angles", where=where)
    return affine
