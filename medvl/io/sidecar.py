"""Which image of which series lies at a depth of the patient, and back: millimetres as "series 4, image 38".

Depth is the patient's z in mm, the same in DICOM's frame (LPS) and in NIfTI's (RAS): it grows towards the head. A
slice's depth is that of its middle, so a tilted slice has one depth too. Reports cite the InstanceNumber, which may run
against z, start anywhere and leave numbers out; nothing here counts slices to find it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medvl.errors import DataError


@dataclass(frozen=True, slots=True)
class Slice:
    """One image of a series.

    Attributes:
        z: Depth of its middle in mm.
        image: InstanceNumber, which is what a report cites; None where the file has none (NIfTI).
        uid: SOPInstanceUID; empty where unknown.
        thickness: How much of the depth it covers, in mm.
    """

    z: float
    image: int | None = None
    uid: str = ""
    thickness: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """An image of a series, and how far its middle lies from the depth that was asked for, in mm."""

    series: int | None
    image: int | None
    z: float
    distance: float
    uid: str


@dataclass(frozen=True)
class Sidecar:
    """The slices of one series as they were stored, from the feet up; slices that are missing are missing here too.

    Attributes:
        slices: By growing depth.
        series: SeriesNumber; None where the file has none.
        uid: SeriesInstanceUID.
        frame: FrameOfReferenceUID: series that share it share their depths.
    """

    slices: tuple[Slice, ...]
    series: int | None = None
    uid: str = ""
    frame: str = ""

    @property
    def extent(self) -> tuple[float, float]:
        """Lowest and highest depth that a slice covers, in mm."""
        low, high = self.slices[0], self.slices[-1]
        return low.z - self._half(low), high.z + self._half(high)

    def at(self, z: float) -> Place:
        """Return the image nearest to a depth in mm.

        Raises:
            DataError: The series does not reach there.
        """
        low, high = self.extent
        if not low <= z <= high:
            raise DataError(f"no image at {z:.1f} mm", where=self._name(), hint=f"it covers {low:.1f} to {high:.1f} mm")
        found = min(self.slices, key=lambda one: abs(one.z - z))
        return Place(self.series, found.image, found.z, abs(found.z - z), found.uid)

    def depth_of(self, image: int) -> float:
        """Return the depth in mm of the image with that InstanceNumber; errors as in `interval_of`."""
        return self._image(image).z

    def interval_of(self, first: int, last: int | None = None) -> tuple[float, float]:
        """Return the depths in mm, lower first, that the images from `first` to `last` cover.

        Raises:
            DataError: The series has no such image, or several; names those that it has.
        """
        ends = [self._image(first), self._image(first if last is None else last)]
        return min(one.z - self._half(one) for one in ends), max(one.z + self._half(one) for one in ends)

    def as_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Sidecar:
        """Return the sidecar that `as_dict` described."""
        slices = tuple(Slice(**one) for one in values["slices"])
        return cls(slices, values["series"], values["uid"], values["frame"])

    def _image(self, image: int) -> Slice:
        found = [one for one in self.slices if one.image == image]
        if len(found) == 1:
            return found[0]
        numbers = [one.image for one in self.slices if one.image is not None]
        if not numbers:
            raise DataError(f"image {image} cannot be found", where=self._name(), hint="its images are not numbered")
        has = f"it has images {min(numbers)} to {max(numbers)}"
        what = f"{len(found)} images are numbered {image}" if found else f"no image {image}"
        raise DataError(what, where=self._name(), hint=has)

    def _half(self, one: Slice) -> float:
        """Return half of what a slice covers; half the step to the next where the file names no thickness."""
        if one.thickness > 0 or len(self.slices) < 2:
            return one.thickness / 2
        return min(abs(one.z - other.z) for other in self.slices if other is not one) / 2

    def _name(self) -> str:
        return "a series without number" if self.series is None else f"series {self.series}"
