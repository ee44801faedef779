"""References to depths: images by their numbers to weighted intervals in mm of the patient's z."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datamodules.snippets.references import Reference
from medvl.errors import DataError
from medvl.io.sidecar import Sidecar
from medvl.text.untrusted import parse_json


class Depths(Protocol):
    """The series of one study, by their numbers."""

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of its series."""

    def fault(self, series: int) -> str:
        """Return why a series has no depths, in two or three words; empty where it has."""

    def interval_of(self, series: int, first: int, last: int) -> tuple[float, float] | None:
        """Return the depths in mm that images cover, lower first; None if the series has not both ends."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Depths from `low` to `high` in mm, and their share of the target."""

    low: float
    high: float
    weight: float


class StudyDepths:
    """The depths of a study's sidecars; a study's only series is number 0 if it has none.

    Args:
        sidecars: Of its series.
        faults: Of series without depths, why; a number that several series have is such a fault, too, for nothing says
            which of them a report means.
    """

    def __init__(self, sidecars: Iterable[Sidecar], faults: Iterable[tuple[int | None, str]] = ()) -> None:
        known, faulty = list(sidecars), list(faults)
        if len(known) == 1 and not faulty and known[0].series is None:
            self._of: dict[int, Sidecar] = {0: known[0]}
        else:
            self._of = {one.series: one for one in known if one.series is not None}
        times = Counter([*(one.series for one in known), *(number for number, _ in faulty)])
        self._faults = {number: why for number, why in faulty if number is not None}
        self._faults |= {number: "series ambiguous" for number, n in times.items() if n > 1 and number is not None}

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of the study's series."""
        return sorted({*self._of, *self._faults})

    def fault(self, series: int) -> str:
        """Return why a series has no depths, in two or three words; empty where it has."""
        return self._faults.get(series, "")

    def interval_of(self, series: int, first: int, last: int) -> tuple[float, float] | None:
        """Return the depths in mm that images cover, lower first; None without such a series or image."""
        try:
            return self._of[series].interval_of(first, last)
        except (KeyError, DataError):
            return None


def link(references: Iterable[Reference], depths: Depths) -> tuple[list[Interval], Counter[str], list[str]]:
    """Return the intervals of a snippet, counts of what was linked and what not, and the latter by name.

    References weigh alike, and share their weight among their ranges by the number of images; the weights sum to 1. A
    reference without a series is that of a study's only series. Planes other than the axial have no depth, whether the
    sentence names them or the series is such: they are told apart as `no depth`.
    """
    parts: list[tuple[float, float, float]] = []
    counts: Counter[str] = Counter()
    problems: list[str] = []
    for reference in references:
        series = reference.series
        if series is None and len(depths.numbers) == 1:
            series = depths.numbers[0]
        case = _case(series, reference, depths)
        found = [] if case or series is None else _parts(series, reference, depths)
        case = case or ("" if found else "image not in the series")
        counts[case or "linked"] += 1
        if case:
            problems.append(f"{case}: series {series if series is not None else '?'} images {_told(reference)}")
        parts += found
    total = sum(weight for _, _, weight in parts)
    return [Interval(low, high, weight / total) for low, high, weight in parts], counts, problems


def read_depths(path: Path, name: str | int) -> StudyDepths | None:
    """Return the series of a study.

    Args:
        path: A JSON file with one sidecar or a list of them; a folder of DICOM files; or a folder that holds, for each
            report, `<id>.json` or a folder `<id>`.
        name: The report's id.

    Returns:
        None if a folder of studies has none of this name.

    Raises:
        DataError: There is no such path, or what stands there is no sidecar and no DICOM series.
    """
    if path.is_file():
        return StudyDepths(_sidecars(path))
    if not path.is_dir():
        raise DataError("no such sidecar or folder", where=str(path), hint="expected JSON, or a folder")
    own = Path(str(name)).name  # an id is no path
    if os.path.isfile(file := path / f"{own}.json"):
        return StudyDepths(_sidecars(file))
    if own and os.path.isdir(folder := path / own):
        return _of_dicom(folder)
    if any(child.is_dir() or child.suffix == ".json" for child in path.iterdir()):
        return None
    return _of_dicom(path)


def _sidecars(path: Path) -> list[Sidecar]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        return [Sidecar.from_dict(one) for one in (found if isinstance(found, list) else [found])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("not a sidecar", where=str(path), hint="expected slices, series, uid, frame") from error


def _of_dicom(folder: Path) -> StudyDepths:
    """Read a folder of DICOM files as its volumes are read: what is no stack of axial slices has no depths."""
    from medvl.io.dicom_series import list_series
    from medvl.io.volume import VolumeError

    sidecars, faults = [], []
    for one in list_series(folder):
        try:
            sidecars.append(one.sidecar())
        except VolumeError as error:
            faults.append((one.number, "no depth" if error.code == "not-axial" else error.code))
    return StudyDepths(sidecars, faults)


def _case(series: int | None, reference: Reference, depths: Depths) -> str:
    if reference.plane in ("coronal", "sagittal"):
        return "no depth"
    if series is None:
        return "series unknown"
    return depths.fault(series) if series in depths.numbers else "no such series"


def _parts(series: int, reference: Reference, depths: Depths) -> list[tuple[float, float, float]]:
    """Return low, high and weight of each range; none if any image is not there."""
    images = sum(last - first + 1 for first, last in reference.images)
    found = []
    for first, last in reference.images:
        interval = depths.interval_of(series, first, last)
        if interval is None:
            return []
        found.append((*interval, (last - first + 1) / images))
    return found


def _told(reference: Reference) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in reference.images)
