"""The tables of PadChest-GR: patient and split of each image; view and scanner stand in PadChest's own table."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from datamodules.records import Problem
from datamodules.sources.cells import cell
from datamodules.sources.rows import Table, stream_columns

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff")
ATTRIBUTES = {
    "sex": ("PatientSex_DICOM", "PatientSex"),
    "age": ("PatientAge", "PatientAge_DICOM"),
    "view": ("ViewPosition_DICOM", "ViewPosition", "Projection"),
    "scanner": ("Manufacturer_DICOM", "Manufacturer"),
}
IMAGES_TABLE = "PADCHEST_chest_x_ray_images_labels_160K*.csv"
_OF_IMAGES = {"view": "Projection", "scanner": "Manufacturer_DICOM"}


class MasterTable:
    """The master table, with its rows per study and label folded to one entry per image and per study.

    Args:
        table: Its rows.
        own_split: What makes a cell of `split` one of our words; a table without that column has none.
    """

    def __init__(self, table: Table, own_split: Callable[[object], str]) -> None:
        self.problems: list[Problem] = []
        self._wheres: dict[str, str] = {}
        self._images: dict[str, dict[str, str]] = {}
        self._studies: dict[str, dict[str, str]] = {}
        for row in table.rows:
            image, study = with_suffix(cell(row.cells.get("ImageID"))), cell(row.cells.get("StudyID"))
            if row.fault or not (image or study):
                message = row.fault or "the row names no ImageID and no StudyID"
                self.problems.append(Problem("row-unreadable", row.where, message))
                continue
            entry = _entry(row.cells, own_split(row.cells.get("split")))
            self._wheres.setdefault(image, row.where)
            for key, known in ((image, self._images), (study, self._studies)):
                if key and _fold(known.setdefault(key, {}), entry):
                    self.problems.append(
                        Problem("split-conflict", row.where, "this row contradicts an earlier one of the same image")
                    )
                    break

    @property
    def images(self) -> set[str]:
        """All images that it names."""
        return set(self._images)

    def add(self, known: dict[str, dict[str, str]]) -> None:
        """Add what another table tells of images; what this one says itself stands."""
        for image, entry in known.items():
            self._images[image] = entry | self._images[image]

    def where(self, image: str) -> str:
        """Return the first row of an image."""
        return self._wheres[image]

    def about(self, image: str, study: str) -> dict[str, str] | None:
        """Return what is known of an image, by its name, else by its study."""
        return self._images.get(image, self._studies.get(study))


def details(table: Path, images: Container[str]) -> dict[str, dict[str, str]]:
    """Return view and scanner of images, by file name, from PadChest's table of all its 160,000.

    Raises:
        DataError: The table is damaged, or lacks a column.
    """
    found = {}
    for _, image, *cells in stream_columns(table, "ImageID", *_OF_IMAGES.values()):
        if (name := with_suffix(image)) in images:
            told = zip(_OF_IMAGES, map(cell, cells), strict=True)
            found[name] = {key: text for key, text in told if text}
    return found


def _entry(cells: dict[str, Any], split: str) -> dict[str, str]:
    entry = {"split": split, "patient": cell(cells.get("PatientID"))}
    for key, columns in ATTRIBUTES.items():
        entry[key] = next((text for column in columns if (text := cell(cells.get(column)))), "")
    entry["age"] = entry["age"].removesuffix(".0")
    return {key: text for key, text in entry.items() if text}


def _fold(known: dict[str, str], entry: dict[str, str]) -> bool:
    """Add an entry to what is known; return whether it contradicts the split or the patient."""
    for key in ("split", "patient"):
        if key in known and key in entry and known[key] != entry[key]:
            known["conflict"] = key
            return True
    for key, text in entry.items():
        known.setdefault(key, text)
    return False


def with_suffix(image: str) -> str:
    """Return an image's file name: some tables leave out `.png`."""
    return image if not image or Path(image).suffix.lower() in _IMAGE_SUFFIXES else f"{image}.png"
