"""PadChest: chest X-rays with reports as Spanish word stems, and labels that a physician or a network gave."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datamodules.records import Problem, ReportRecord
from datamodules.sources.cells import cell
from datamodules.sources.reporting import ReportSource, Views
from datamodules.sources.rows import stream_columns
from datamodules.sources.splits import SplitRule
from datamodules.sources.temporal import Temporal
from medvl.errors import DataError
from medvl.text.sections import one_line

TABLE = "PADCHEST_chest_x_ray_images_labels_160K*.csv"
NO_FINDING = ("exclude", "suboptimal study", "unchanged", "")
"""Labels that name nothing to be seen."""
_COLUMNS = ("ImageID", "ImageDir", "StudyID", "PatientID", "PatientSex_DICOM", "Projection", "MethodLabel", "Report")


@dataclass
class _Study:
    """A study: what its rows say of it, in their order."""

    patient: str
    row: str
    text: str
    attributes: dict[str, str]
    images: list[tuple[str, str]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    fault: str = ""
    passed: set[str] = field(default_factory=set)


class PadChest(ReportSource):
    """PadChest as BIMCV gives it: one table with a row per image, 16-bit PNG images, flat or in folders `0` to `54`.

    A study has the labels of all its rows, each as present: what is not named may be there. Of these `exclude`,
    `suboptimal study` and `unchanged` name nothing to be seen; they are left out and counted (`label-left-out`). There
    is no split, so patients are dealt. Reports are lower-case stems of Spanish words; `texts: false` reads labels only,
    as for a model that knows no Spanish.

    Args:
        root: The folder of the table; images lie in it, or where `images` says.
        images: The folder of the images.
        texts: Whether reports are read; studies without one count then, as if `unpaired`.
        physician: Whether only studies that a physician labelled count; the others are left out and counted.
        views: `frontal` (PA, AP, AP_horizontal) or `all`; images left out are counted (see `ReportSource`).
        temporal: What is done with wording that compares with an earlier study; of Spanish nothing can be `cut`.
        unpaired: Whether studies without an image (in these views) or without a text count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "padchest"
    cohort = "padchest"

    def __init__(
        self,
        root: str | Path,
        images: str | Path | None = None,
        texts: bool = True,
        physician: bool = False,
        views: Views = "frontal",
        temporal: Temporal = "keep",
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(
            views=views,
            temporal=temporal,
            unpaired=unpaired or not texts,
            split=split,
            quarantine=quarantine,
            follow_links=follow_links,
        )
        self.given, self.texts, self.physician = Path(root).expanduser(), texts, physician
        self._images = Path(images).expanduser() if images else self.given

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return self._images

    def tables(self) -> list[Path]:
        """Return the table."""
        found = sorted(path for pattern in (TABLE, f"{TABLE}.gz") for path in self.given.glob(pattern))
        if not found:
            hint = f"expected {TABLE} (or .gz) in this folder"
            raise DataError("the table of PadChest is not here", where=str(self.given), hint=hint)
        return found[:1]

    def candidates(self) -> Iterator[ReportRecord | Problem]:
        """Yield every study, or its problem, and remarks on what was left out."""
        for name, study in self._studies().items():
            if study.fault:
                yield Problem("row-conflict", study.row, study.fault)
                continue
            if self.physician and study.attributes["labelled"] != "Physician":
                message = "no physician labelled this study; left out (`physician: false` keeps it)"
                yield Problem("labelled-by-network", study.row, message, fatal=False)
                continue
            if study.passed:
                message = f"labels that name nothing to be seen are left out: {', '.join(sorted(study.passed))}"
                yield Problem("label-left-out", study.row, message, fatal=False)
            images, view, notes = self.seen(study.images, study.row)
            yield from notes
            yield ReportRecord(
                images=images,
                patient_id=study.patient,
                study_id=name,
                split="",
                source=self.name,
                other=study.text if self.texts else "",
                labels=study.labels,
                attributes={key: value for key, value in (study.attributes | {"view": view}).items() if value},
                row=study.row,
            )

    def _studies(self) -> dict[str, _Study]:
        """Return the studies by name, in the order of the table."""
        studies: dict[str, _Study] = {}
        for row, image, folder, name, patient, sex, view, method, report, labels in stream_columns(
            self.tables()[0], *_COLUMNS, "Labels"
        ):
            told = {"sex": cell(sex), "labelled": cell(method)}
            study = studies.setdefault(name or row, _Study(cell(patient), row, one_line(cell(report)), told))
            if study.patient != cell(patient):
                study.fault = f"the rows of this study differ in patient, first at {study.row}"
            study.images.append((self._path(cell(folder), cell(image)), cell(view)))
            found = _labels(labels)
            if found is None:
                study.fault = study.fault or "labels cannot be read; expected a list such as ['pneumonia']"
            study.labels |= {label: 1 for label in found or () if label not in NO_FINDING}
            study.passed |= {label for label in found or () if label in NO_FINDING[:-1]}
        return studies

    def _path(self, folder: str, image: str) -> str:
        return f"{folder.removesuffix('.0')}/{image}" if self._in_folders else image

    @cached_property
    def _in_folders(self) -> bool:
        return any((self._images / str(number)).is_dir() for number in range(55))


def _labels(text: str) -> list[str] | None:
    """Return the names in `['pneumonia', ' normal']`, which are typed with odd blanks; None for what is no list."""
    if not cell(text):
        return []
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(names, list):
        return None
    return [" ".join(str(name).lower().split()) for name in names]
