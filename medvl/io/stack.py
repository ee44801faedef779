"""Where the slices of a series lie: their order along the normal, what is missing, and the even grid under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medvl.io.sidecar import Slice
from medvl.io.volume import Affine, VolumeError

SAME_PLACE = 0.01  # mm, below which two slices lie at one place
JITTER = 0.05  # of a step, that a slice may lie beside its place in an even series
MAX_GAP = 25.0  # mm between two slices; what is missing in a wider gap cannot be guessed
MAX_BEND = 1.0  # mm that a slice's corner may lie beside the line through the others'
MAX_ANGLE = 45.0  # degrees between the slices' normal and the patient's long axis
TILTED = 0.5  # degrees between normal and table, from which a series is called tilted


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What one file says of its slice; lengths in mm, places in DICOM's frame (LPS).

    Attributes:
        file: Where its pixels are.
        position: ImagePositionPatient, the middle of the first pixel.
        row: Direction in which columns are counted.
        column: Direction in which rows are counted.
        spacing: Between rows, between columns.
        shape: Rows, columns.
        image: InstanceNumber.
        uid: SOPInstanceUID.
        thickness: SliceThickness; 0 where the file has none.
        rescale: RescaleSlope and RescaleIntercept; None where the file has none.
    """

    file: Path
    position: tuple[float, float, float]
    row: tuple[float, float, float]
    column: tuple[float, float, float]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    image: int | None
    uid: str
    thickness: float
    rescale: tuple[float, float] | None

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal of the slice, towards the head."""
        normal = np.cross(self.row, self.column)
        normal = normal / np.linalg.norm(normal)
        return np.asarray(-normal if normal[2] < 0 else normal)

    @property
    def distance(self) -> float:
        """How far along the normal it lies, in mm."""
        return float(np.dot(self.position, self.normal))

    def as_slice(self) -> Slice:
        """Return its entry in the sidecar: its depth is that of its middle."""
        rows, columns = self.shape
        z = self.position[2] + self.column[2] * self.spacing[0] * (rows - 1) / 2
        z += self.row[2] * self.spacing[1] * (columns - 1) / 2
        return Slice(z, self.image, self.uid, self.thickness)


@dataclass(frozen=True, eq=False)
class Grid:
    """Even places along a series: place `k` shows `(1 - weight[k])` of slice `below[k]` and the rest of the next one.

    Attributes:
        below: Index of the slice under each place.
        weight: Share of the slice above it, in [0, 1].
        missing: Places that no slice lies at.
        uneven: Whether a slice lies at no place, so that the grid resamples the series.
    """

    below: NDArray[np.int64]
    weight: NDArray[np.float64]
    missing: int
    uneven: bool

    @classmethod
    def over(cls, distances: Sequence[float], where: str) -> Grid:
        """Lay a grid over slices at these growing distances in mm, a median step apart.

        Raises:
            VolumeError: `one-slice`, or `gap`: two slices are too far apart.
        """
        at = np.asarray(distances, np.float64)
        if len(at) < 2:
            raise VolumeError("one-slice", "this series is one slice, not a volume", where=where)
        steps = np.diff(at)
        usual, widest = float(np.median(steps)), float(steps.max())
        if widest > max(MAX_GAP, 1.5 * usual):
            what = f"slices are missing: a gap of {widest:.1f} mm where steps are {usual:.2f} mm"
            raise VolumeError("gap", what, where=where, hint=f"up to {MAX_GAP:g} mm are drawn from the neighbours")
        count = round((at[-1] - at[0]) / usual) + 1
        places = np.linspace(at[0], at[-1], count)
        below = np.clip(np.searchsorted(at, places, side="right") - 1, 0, len(at) - 2)
        weight = np.clip((places - at[below]) / steps[below], 0, 1)
        slack = JITTER * usual
        on_place = np.abs(at[:, None] - places[None]).min(1) <= slack if count * len(at) < 1e7 else np.zeros(1, bool)
        near = np.minimum(weight, 1 - weight) * steps[below] <= slack
        return cls(below, np.where(near, np.rint(weight), weight), int((~near).sum()), not bool(on_place.all()))

    def apply(self, hu: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the slices `(n, H, W)` laid on the places, `(places, H, W)`; the same array where nothing changes."""
        shown = self.below + (self.weight == 1)
        if (self.weight % 1 == 0).all() and np.array_equal(shown, np.arange(len(hu))):
            return hu
        out = np.empty((len(self.below), *hu.shape[1:]), np.int16)
        for place, (below, weight) in enumerate(zip(self.below, self.weight, strict=True)):
            if weight in (0, 1):
                out[place] = hu[below + int(weight)]
            else:
                out[place] = np.rint(hu[below] * (1 - weight) + hu[below + 1] * weight)
        return out


def ordered(headers: Sequence[SliceHeader], where: str) -> list[SliceHeader]:
    """Return the slices from the feet up, whatever their numbers; refuse what is no stack of axial slices.

    Raises:
        VolumeError: `mixed-series` or `not-axial`.
    """
    first = headers[0]
    for one in headers:
        turned = not np.allclose([*one.row, *one.column], [*first.row, *first.column], atol=1e-3)
        if turned or one.shape != first.shape or not np.allclose(one.spacing, first.spacing, rtol=1e-3):
            kind = "orientation" if turned else "size" if one.shape != first.shape else "pixel spacing"
            raise VolumeError("mixed-series", f"mixed series: {one.file.name} has another {kind}", where=where)
    angle = float(np.degrees(np.arccos(min(1.0, abs(first.normal[2])))))
    if angle > MAX_ANGLE:
        what = f"this series is not axial: its slices lie {angle:.0f} degrees off"
        raise VolumeError("not-axial", what, where=where, hint="expected slices across the patient's long axis")
    stack = sorted(headers, key=lambda one: one.distance)
    corners = np.asarray([one.position for one in stack])
    along = np.asarray([one.distance for one in stack]) - stack[0].distance
    share = along / along[-1] if along[-1] > 0 else along
    bend = np.linalg.norm(corners - (corners[0] + share[:, None] * (corners[-1] - corners[0])), axis=1)
    if bend.max() > MAX_BEND and along[-1] > SAME_PLACE:
        name = stack[int(bend.argmax())].file.name
        what = f"mixed series: {name} lies {bend.max():.1f} mm beside the others' line"
        raise VolumeError("mixed-series", what, where=where)
    return stack


def affine_of(stack: Sequence[SliceHeader], places: int) -> Affine:
    """Return the affine from `(column, row, place, 1)` to RAS mm of an ordered stack on a grid of `places`."""
    first, last = stack[0], stack[-1]
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.row, first.spacing[1])
    affine[:3, 1] = np.multiply(first.column, first.spacing[0])
    affine[:3, 2] = np.subtract(last.position, first.position) / (places - 1)
    affine[:3, 3] = first.position
    affine[:2] *= -1  # LPS to RAS
    return affine


def tilt_of(stack: Sequence[SliceHeader]) -> float:
    """Return the angle in degrees between the slices' normal and the line that they are stacked along."""
    line = np.subtract(stack[-1].position, stack[0].position)
    cosine = float(np.dot(line, stack[0].normal) / np.linalg.norm(line))
    return float(np.degrees(np.arccos(min(1.0, abs(cosine)))))
