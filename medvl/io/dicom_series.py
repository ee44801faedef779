"""CT volumes from folders of DICOM slices: grouped by series, ordered by place, never by number or file name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from medvl.errors import DataError
from medvl.io.dicom import decoded, frame_shape, parsed
from medvl.io.hounsfield import Rescale
from medvl.io.intensity import Units, in_units
from medvl.io.sidecar import Sidecar
from medvl.io.stack import SAME_PLACE, TILTED, Grid, SliceHeader, affine_of, ordered, tilt_of
from medvl.io.volume import Volume, VolumeError, canonical, guard_affine, guard_voxels

_SCOUTS = {"LOCALIZER", "SCOUT"}


@dataclass(frozen=True)
class DicomSeries:
    """The slices of one series, in no order, from headers alone.

    Attributes:
        folder: Where its files are.
        uid: SeriesInstanceUID.
        number: SeriesNumber; None where the files have none.
        frame: FrameOfReferenceUID.
        headers: One per slice.
        notes: What was left out, as in `Volume.notes`.
    """

    folder: Path
    uid: str
    number: int | None
    frame: str
    headers: tuple[SliceHeader, ...]
    notes: tuple[str, ...] = ()

    def load(self, units: Units = "hounsfield") -> Volume:
        """Decode the slices and lay them on an even grid.

        Args:
            units: What values are to be, as in `read_nifti`.

        Raises:
            VolumeError: `one-slice`, `too-large`, `mixed-series`, `duplicates`, `gap`, `not-axial`, `affine`,
                `rescale`, `flat` or `unreadable`; names the folder or the file.
        """
        where = str(self.folder)
        stack, twice = self._stack()
        grid = Grid.over([one.distance for one in stack], where)
        places = len(grid.below)
        guard_voxels((places, *stack[0].shape), where)
        affine = guard_affine(affine_of(stack, places), where)
        hu, rescaled = in_units(units, np.stack([_pixels(one.file) for one in stack]), _declared(stack), where)
        hu, affine = canonical(grid.apply(hu), affine)
        return Volume(hu, affine, self._sidecar(stack), (*self.notes, *rescaled, *_notes(stack, grid, twice)))

    def sidecar(self) -> Sidecar:
        """Return which image lies at which depth, as of the loaded volume; of pixels only those of copies are read.

        Raises:
            VolumeError: `mixed-series`, `duplicates`, `not-axial` or `unreadable`; names the folder or the file.
        """
        return self._sidecar(self._stack()[0])

    def _stack(self) -> tuple[list[SliceHeader], int]:
        """Return the slices from the feet up, without copies, and how many these were."""
        where = str(self.folder)
        return _without_twins(ordered(self.headers, where), where)

    def _sidecar(self, stack: Sequence[SliceHeader]) -> Sidecar:
        return Sidecar(tuple(one.as_slice() for one in stack), self.number, self.uid, self.frame)


def read_series(folder: Path, number: int | None = None) -> Volume:
    """Read the series in a folder.

    Args:
        folder: DICOM files of one series, and whatever else: localisers and files without pixels are left out.
        number: SeriesNumber of the one to read where there are several.

    Raises:
        VolumeError: As `DicomSeries.load`, and `missing`, `localizer` or `mixed-series`: there are several series, or
            none of that number.
    """
    found = list_series(folder)
    chosen = [one for one in found if number in (None, one.number)]
    if len(chosen) != 1:
        numbers = ", ".join("none" if one.number is None else str(one.number) for one in found)
        what = f"mixed series: {len(found)} in this folder" if len(chosen) > 1 else f"no series {number} in this folder"
        raise VolumeError("mixed-series", what, where=str(folder), hint=f"name one by its number: {numbers}")
    return chosen[0].load()


def list_series(folder: Path) -> list[DicomSeries]:
    """Return the series in a folder from their headers, by number; localisers are left out.

    Raises:
        VolumeError: `missing`, `unreadable` or `localizer`: nothing but localisers.
    """
    groups: dict[tuple[str, int | None], list[tuple[pydicom.Dataset, Path]]] = {}
    scouts: dict[tuple[str, int | None], int] = {}
    bare = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's quote the header
        for path in dicom_files(Path(folder)):
            dataset = _header(path)
            key = str(dataset.get("SeriesInstanceUID") or ""), _whole(dataset.get("SeriesNumber"))
            if _SCOUTS & {str(part).upper() for part in dataset.get("ImageType") or ()}:
                scouts[key] = scouts.get(key, 0) + 1
            elif not dataset.get("ImagePositionPatient") or not dataset.get("ImageOrientationPatient"):
                bare += 1
            else:
                groups.setdefault(key, []).append((dataset, path))
        if not groups:
            code, what = ("localizer", "nothing but localisers") if scouts else ("missing", "no DICOM slice")
            raise VolumeError(code, f"{what} in this folder", where=str(folder))
        return [
            DicomSeries(
                Path(folder),
                *key,
                str(files[0][0].get("FrameOfReferenceUID") or ""),
                tuple(_slice_header(dataset, path) for dataset, path in files),
                ((f"localizer: {scouts[key]} left out",) if key in scouts else ())
                + ((f"placeless: {bare} files without a place left out",) if bare else ()),
            )
            for key, files in sorted(groups.items(), key=lambda group: (group[0][1] is None, group[0][1] or 0))
        ]


def dicom_files(folder: Path) -> Iterator[Path]:
    """Yield the DICOM files directly in a folder by name, told by their content; a `.dcm` is taken at its word."""
    if not folder.is_dir():
        raise VolumeError("missing", "no such folder", where=str(folder))
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name != "DICOMDIR":
            with path.open("rb") as file:
                if path.suffix.lower() == ".dcm" or file.read(132)[128:] == b"DICM":
                    yield path


def _header(path: Path) -> pydicom.Dataset:
    try:
        with path.open("rb") as file:
            return parsed(file, path, header_only=True)
    except (DataError, OSError) as error:
        what = error.what if isinstance(error, DataError) else f"cannot be read: {error.strerror}"
        raise VolumeError("unreadable", what, where=str(path)) from None


def _slice_header(dataset: pydicom.Dataset, path: Path) -> SliceHeader:
    """Read what places a slice."""
    frames = _whole(dataset.get("NumberOfFrames")) or 1
    if frames > 1:
        raise VolumeError("unreadable", f"a DICOM of {frames} frames; expected one slice per file", where=str(path))
    try:
        place = _numbers(dataset.ImagePositionPatient, 3)
        turn = _numbers(dataset.ImageOrientationPatient, 6)
        rows_apart, columns_apart = _numbers(dataset.PixelSpacing, 2)
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        header = SliceHeader(
            file=path,
            position=(place[0], place[1], place[2]),
            row=(turn[0], turn[1], turn[2]),
            column=(turn[3], turn[4], turn[5]),
            spacing=(rows_apart, columns_apart),
            shape=frame_shape(dataset, path),
            image=_whole(dataset.get("InstanceNumber")),
            uid=str(dataset.get("SOPInstanceUID") or dataset.file_meta.get("MediaStorageSOPInstanceUID") or ""),
            thickness=max(0.0, float(dataset.get("SliceThickness") or 0)),
            rescale=None if intercept is None else (1.0 if slope is None else float(slope), float(intercept)),
        )
    except DataError as error:
        raise VolumeError("unreadable", error.what, where=str(path), hint=error.hint) from None
    except (AttributeError, TypeError, ValueError):
        hint = "expected numbers for position, orientation, spacing and rescale"
        raise VolumeError("affine", "this slice's place or spacing is damaged", where=str(path), hint=hint) from None
    if not np.linalg.norm(np.cross(header.row, header.column)) > 0.9:
        raise VolumeError("affine", "wrong affine: this slice's axes are not at right angles", where=str(path))
    return header


def _numbers(values: Any, count: int) -> list[float]:
    found = [float(value) for value in values]
    if len(found) != count or not np.isfinite(found).all():
        raise ValueError(f"expected {count} numbers")
    return found


def _whole(value: Any) -> int | None:
    try:
        return None if value in (None, "") else int(value)
    except (TypeError, ValueError):
        return None


def _pixels(path: Path) -> NDArray[Any]:
    """Return the stored values of one slice, `(rows, columns)`."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            values = decoded(parsed(file, path, header_only=False), path)
    except DataError as error:
        raise VolumeError("unreadable", error.what, where=str(path), hint=error.hint) from None
    if values.ndim != 2:
        raise VolumeError("unreadable", "expected grey pixels, not colour", where=str(path))
    return values


def _without_twins(stack: list[SliceHeader], where: str) -> tuple[list[SliceHeader], int]:
    """Leave out copies of a slice; return the rest and how many were copies."""
    kept = stack[:1]
    for one in stack[1:]:
        last = kept[-1]
        if one.distance - last.distance > SAME_PLACE:
            kept.append(one)
        elif not ((one.uid and one.uid == last.uid) or np.array_equal(_pixels(one.file), _pixels(last.file))):
            what = f"mixed series: {last.file.name} and {one.file.name} lie at one place and differ"
            hint = "phases or reconstructions in one series; give each a folder of its own"
            raise VolumeError("duplicates", what, where=where, hint=hint)
    return kept, len(stack) - len(kept)


def _declared(stack: Sequence[SliceHeader]) -> list[Rescale]:
    """Return what the files declare: numbers where all agree, else one per slice; nothing where a file is silent."""
    found = [one.rescale for one in stack if one.rescale is not None]
    if len(found) < len(stack):
        return []
    values = np.asarray(found, np.float64)
    if (values == values[0]).all():
        return [Rescale(*found[0])]
    return [Rescale(values[:, 0, None, None], values[:, 1, None, None])]


def _notes(stack: Sequence[SliceHeader], grid: Grid, twice: int) -> Iterator[str]:
    if twice:
        yield f"duplicates: {twice} copies of slices left out"
    if grid.uneven:
        yield f"uneven: {len(stack)} slices at uneven steps were resampled to {len(grid.below)}"
    elif grid.missing:
        yield f"gap: {grid.missing} of {len(grid.below)} slices are missing and drawn from their neighbours"
    if (angle := tilt_of(stack)) > TILTED:
        yield f"tilt: the slices lie {angle:.1f} degrees off the table's axis"
