"""The tables of VinDr-CXR: who read an image, what they named, and what they boxed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from datamodules.records import Box, Problem, box_fault
from datamodules.sources.cells import cell, number
from datamodules.sources.grouping import to_norm
from datamodules.sources.rows import Row, read_table
from datamodules.sources.wording import NORMAL

SIDES = ("x_min", "y_min", "x_max", "y_max")


class Mark(NamedTuple):
    """One box: the row it stands in, and xyxy in pixels."""

    where: str
    box: Box


@dataclass
class Film:
    """What the tables say of one image.

    Attributes:
        image: Its id.
        path: Its file.
        where: Its first row in the table of image labels.
        readers: Who read it, and the labels that each gave to the image or a box; in test one reader without a name.
        marks: The boxes, by label and reader.
        size: `(H, W)`, which no table holds; None until it has been read from the file.
    """

    image: str
    path: str
    where: str
    readers: dict[str, set[str]] = field(default_factory=dict)
    marks: dict[str, dict[str, list[Mark]]] = field(default_factory=dict)
    size: tuple[int, int] | None = None

    def named(self, readers: Iterable[str]) -> set[str]:
        """Return the labels that any of these readers gave."""
        return set().union(*(self.readers[reader] for reader in readers))

    def boxes(self, label: str, reader: str) -> tuple[Box, ...]:
        """Return the boxes of one reader for one label, in [0, 1], unchecked; none while the size is not known."""
        marks = self.marks.get(label, {}).get(reader, ()) if self.size else ()
        return tuple(to_norm(mark.box, "xyxy_px", self.size or (1, 1)) for mark in marks)

    def order(self, label: str, readers: Iterable[str]) -> list[str]:
        """Return readers in the order in which they boxed a label, on which fusion depends a little; others last."""
        marked = list(self.marks[label])
        return sorted(readers, key=lambda reader: marked.index(reader) if reader in marked else len(marked))

    def rows(self, label: str, readers: Iterable[str]) -> list[str]:
        """Return the rows in which these readers boxed a label."""
        return [mark.where for reader in readers for mark in self.marks[label].get(reader, ())]

    def faults(self, label: str, readers: Iterable[str]) -> list[Problem]:
        """Return what is wrong with the boxes of these readers for a label, row by row; empty if nothing is.

        One unusable box makes the whole finding so: the others would be a false target.
        """
        names = list(readers)
        found = [box_fault(box) for reader in names for box in self.boxes(label, reader)]
        if not any(found):
            return []
        sibling = "box-sibling", "another box of this finding is unusable"
        return [Problem(*_of(row, fault or sibling)) for row, fault in zip(self.rows(label, names), found, strict=True)]


def _of(row: str, fault: tuple[str, str]) -> tuple[str, str, str]:
    return fault[0], row, fault[1]


def unified(label: str) -> str:
    """Return a label's one name: the tables of test say `Other disease` where those of train say `Other diseases`."""
    return "Other diseases" if label == "Other disease" else label


def read_films(boxes: Path, labels: Path, part: str) -> tuple[dict[str, Film], list[Problem]]:
    """Read both tables of `train` or `test`: what they say by image, and the rows that cannot be used.

    Raises:
        DataError: A table is missing or damaged, or lacks a column.
    """
    films: dict[str, Film] = {}
    problems = []
    table = read_table(labels)
    table.require("image_id", NORMAL)
    given = [column for column in table.columns if column not in ("image_id", "rad_id")]
    for row in table.rows:
        image, reader = cell(row.cells.get("image_id")), cell(row.cells.get("rad_id"))
        if row.fault or not image:
            problems.append(_unreadable(row, "image_id"))
            continue
        film = films.setdefault(image, Film(image, f"{part}/{image}.dicom", row.where))
        named = {unified(label) for label in given if number(row.cells.get(label)) > 0}
        film.readers.setdefault(reader, set()).update(named)
    table = read_table(boxes)
    table.require("image_id", "class_name", *SIDES)
    for row in table.rows:
        image, label = cell(row.cells.get("image_id")), unified(cell(row.cells.get("class_name")))
        if row.fault or not image or not label:
            problems.append(_unreadable(row, "image_id and class_name"))
        elif image not in films:
            problems.append(Problem("labels-missing", row.where, f"{labels.name} lacks this row's image"))
        else:
            problems += _mark(films[image], row, label)
    return films, problems


def _mark(film: Film, row: Row, label: str) -> list[Problem]:
    """Add the box of a row; return the remark that it was there, if it was."""
    reader = cell(row.cells.get("rad_id"))
    film.readers.setdefault(reader, set()).add(label)
    if label != NORMAL:  # such a row has no box
        x1, y1, x2, y2 = (number(row.cells.get(side)) for side in SIDES)
        marks = film.marks.setdefault(label, {}).setdefault(reader, [])
        if same := next((mark for mark in marks if mark.box == (x1, y1, x2, y2)), None):
            return [Problem("duplicate", row.where, f"the same box as at {same.where}; once counts", fatal=False)]
        marks.append(Mark(row.where, (x1, y1, x2, y2)))
    return []


def _unreadable(row: Row, columns: str) -> Problem:
    return Problem("row-unreadable", row.where, row.fault or f"expected {columns}")
