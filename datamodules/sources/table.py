"""A user's own table of images and phrases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.records import Box, PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.cells import box_list, cell, number
from datamodules.sources.grouping import BOX_FORMATS, BoxFormat, Part, grouped, to_norm
from datamodules.sources.rows import Row, Table, read_table
from datamodules.sources.splits import SplitRule
from medvl.errors import ConfigError, DataError, nearest

_SIDES = {"xyxy": ("x1", "y1", "x2", "y2"), "xywh": ("x", "y", "w", "h"), "cxcywh": ("cx", "cy", "w", "h")}
_ATTRIBUTES = ("sex", "age", "view", "scanner")
_CANONICAL = (
    "image", "phrase", "boxes", "patient_id", "study_id", "split", *_ATTRIBUTES,
    "x1", "y1", "x2", "y2", "x", "y", "w", "h", "cx", "cy",
)  # fmt: skip


class PhraseTable(PhraseSource):
    """A table of your own, with `image, phrase, boxes?, patient_id?, split?`: CSV of any dialect, Parquet, JSON lines.

    Boxes stand in one cell, as a JSON list of lists, or one per row in columns of their own (`x1, y1, x2, y2`,
    `x, y, w, h` or `cx, cy, w, h`); rows of one image and phrase are then one phrase. An empty cell means no box. Where
    no `patient_id` is given, the study counts as the patient, else the image.

    Args:
        root: The table file.
        columns: Names that differ, ours first: `{image: filename, phrase: notes}`. Other columns are ignored.
        box_format: The convention of the boxes. It is never guessed.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `PhraseSource`).
        images: The folder that image paths are relative to; the table's own by default.
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "table"

    def __init__(
        self,
        root: str | Path,
        columns: dict[str, str] | None = None,
        box_format: BoxFormat | None = None,
        split: SplitRule = "auto",
        images: str | Path | None = None,
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        self.given, self.columns = Path(root).expanduser(), columns or {}
        self.box_format = box_format
        self._images = self.given.parent if images is None else Path(images).expanduser()
        for name in self.columns:
            if name not in _CANONICAL:
                raise ConfigError(f"unknown column {name!r} in columns", hint=nearest(name, _CANONICAL))
        if box_format is not None and box_format not in BOX_FORMATS:
            raise ConfigError(f"unknown box_format {box_format!r}", hint=nearest(box_format, BOX_FORMATS))

    @property
    def root(self) -> Path:
        """The folder that image paths are relative to."""
        return self._images

    def tables(self) -> list[Path]:
        """Return the one table that is read."""
        return [self.given]

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield every phrase of the table, or its problem."""
        if self.given.is_dir():
            raise DataError("this is a folder, not a table", where=str(self.given), hint="name the table file")
        return _Reading(self, read_table(self.given)).items()

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        return {}

    def size(self, path: str) -> tuple[int, int]:
        """Return height and width of an image, from its header, read once."""
        from medvl.io.image import image_size

        if path not in self._sizes:
            self._sizes[path] = image_size(self.root / path)
        return self._sizes[path]


class _Reading:
    """One pass over a table: which of its columns is which, and its rows as records."""

    def __init__(self, source: PhraseTable, table: Table) -> None:
        self.source, self.table = source, table
        self.names = self._names()
        listed, shapes = "boxes" in self.names, [s for s, sides in _SIDES.items() if set(sides) <= set(self.names)]
        if not listed and len(shapes) > 1:
            chosen = (source.box_format or "").partition("_")[0]
            shapes = [shape for shape in shapes if shape == chosen]
        self.sides = () if listed or not shapes else _SIDES[shapes[0]]
        if self.sides and source.box_format and source.box_format.partition("_")[0] != shapes[0]:
            raise ConfigError(
                f"box_format {source.box_format!r} does not fit the columns {', '.join(self.sides)}",
                where=str(table.path),
                hint=f"expected {shapes[0]}_px or {shapes[0]}_norm, or a map in `columns`",
            )

    def _names(self) -> dict[str, str]:
        """Return the table's name of each of our columns that it has."""
        table, columns = self.table, self.source.columns
        for ours, theirs in columns.items():
            if theirs not in table.columns:
                raise DataError(
                    f"columns maps {ours!r} to {theirs!r}, which the table lacks",
                    where=str(table.path),
                    hint=nearest(theirs, table.columns),
                )
        lower = {name.lower(): name for name in reversed(table.columns)}
        names = {ours: columns.get(ours) or lower.get(ours) for ours in _CANONICAL}
        for ours in ("image", "phrase"):
            if not names[ours]:
                raise DataError(
                    f"the table has no column {ours!r}",
                    where=str(table.path),
                    hint=f"map one with `columns: {{{ours}: NAME}}`; it has {', '.join(map(repr, table.columns[:8]))}",
                )
        return {ours: theirs for ours, theirs in names.items() if theirs}

    def items(self) -> Iterator[PhraseRecord | Problem]:
        """Yield the table's phrases."""
        if not self.sides and "boxes" not in self.names:
            message = "the table has no column of boxes, so every sentence counts as one without a place"
            yield Problem("boxes-none", self.table.path.name, message, fatal=False)
        yield from self._phrases()

    def _phrases(self) -> Iterator[PhraseRecord | Problem]:
        parts = map(self._part, self.table.rows)
        if self.sides:
            return grouped(parts)
        return (self._alone(part) if isinstance(part, Part) else part for part in parts)

    @staticmethod
    def _alone(part: Part) -> PhraseRecord | Problem:
        return Problem(part.fault[0], part.record.row, part.fault[1]) if part.fault else part.record

    def _part(self, row: Row) -> Part | Problem:
        if row.fault:
            return Problem("row-unreadable", row.where, row.fault)
        image = self._text(row, "image")
        path = str(PurePosixPath(image.replace("\\", "/"))) if image else ""
        study = self._text(row, "study_id") or image
        boxes, fault = self._boxes(row, path)
        record = PhraseRecord(
            image=image,
            path=path,
            phrase=self._text(row, "phrase"),
            boxes=boxes,
            patient_id=self._text(row, "patient_id") or study,
            study_id=study,
            split=self.source.own_split(self._text(row, "split")),
            source=self.source.name,
            attributes={name: text for name in _ATTRIBUTES if (text := self._text(row, name))},
            row=row.where,
        )
        return Part((image, record.phrase), record, fault)

    def _text(self, row: Row, name: str) -> str:
        return cell(row.cells.get(self.names.get(name, "")))

    def _boxes(self, row: Row, path: str) -> tuple[tuple[Box, ...], tuple[str, str] | None]:
        """Return the boxes of a row in our convention, and code and message of why they cannot be used."""
        raw = self._raw_boxes(row.cells)
        if raw is None:
            return (), ("box-unreadable", "expected a JSON list of [a, b, c, d], or nothing")
        return self._converted(raw, path) if raw and path else ((), None)

    def _converted(self, raw: tuple[Box, ...], path: str) -> tuple[tuple[Box, ...], tuple[str, str] | None]:
        box_format = self.source.box_format
        if box_format is None:
            largest = max((abs(v) for box in raw for v in box if math.isfinite(v)), default=0.0)
            unit = "px" if largest > 2 else "norm"
            raise ConfigError(
                "the table has boxes, but their convention is not named",
                where=str(self.table.path),
                hint=f"set box_format to one of {', '.join(BOX_FORMATS)} (these look like {unit})",
            )
        if box_format.endswith("norm"):
            return tuple(to_norm(box, box_format, (1.0, 1.0)) for box in raw), None
        missing = self.source.images.fault(path)
        if missing:
            return (), missing
        try:
            return tuple(to_norm(box, box_format, self.source.size(path)) for box in raw), None
        except DataError as error:
            return (), ("image-unreadable", f"{error.what}: {path}")

    def _raw_boxes(self, cells: dict[str, Any]) -> tuple[Box, ...] | None:
        """Return the numbers of a row's boxes as they stand, or None where they cannot be read."""
        if not self.sides:
            return box_list(cells.get(self.names.get("boxes", "")))
        values = [cells.get(self.names[side]) for side in self.sides]
        if not any(cell(value) for value in values):
            return ()
        a, b, c, d = map(number, values)
        return ((a, b, c, d),)
