"""A user's own table of images and reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path, PurePosixPath

from datamodules.records import Problem, ReportRecord
from datamodules.sources.cells import cell
from datamodules.sources.reporting import ReportSource, Views
from datamodules.sources.rows import Row, Table, read_table
from datamodules.sources.splits import SplitRule
from datamodules.sources.temporal import Temporal
from medvl.errors import ConfigError, DataError, nearest
from medvl.text.sections import ReportText, one_line, sectioned
from medvl.text.untrusted import parse_json

_ATTRIBUTES = ("sex", "age")
_COLUMNS = (
    "image", "text", "findings", "impression", "patient_id", "study_id", "labels", "split", "view", *_ATTRIBUTES
)  # fmt: skip


class ReportTable(ReportSource):
    """A table of your own, with `image, text, patient_id?, labels?, split?`: CSV of any dialect, Parquet, JSON lines.

    Rows with one `study_id` are the images of one study, whose text is the first one given; without that column every
    row is a study. In place of `text`, which may have headings, there may be `findings` and `impression`. `labels` are
    names parted by `|` or `;`, or JSON: a list of names, or an object of 1, 0 and -1. Where no `patient_id` is given,
    the study counts as the patient.

    Args:
        root: The table file.
        columns: Names that differ, ours first: `{image: filename, text: report}`. Other columns are ignored.
        images: The folder that image paths are relative to; the table's own by default.
        views: `all` takes every image; `frontal` those whose `view` says PA, AP or frontal.
        temporal: What is done with wording that compares with an earlier study: `keep`, `cut` or `drop`.
        unpaired: Whether rows without an image or without a text count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "reports"

    def __init__(
        self,
        root: str | Path,
        columns: dict[str, str] | None = None,
        images: str | Path | None = None,
        views: Views = "all",
        temporal: Temporal = "keep",
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(
            views=views,
            temporal=temporal,
            unpaired=unpaired,
            split=split,
            quarantine=quarantine,
            follow_links=follow_links,
        )
        self.given, self.columns = Path(root).expanduser(), columns or {}
        self._images = self.given.parent if images is None else Path(images).expanduser()
        for name in self.columns:
            if name not in _COLUMNS:
                raise ConfigError(f"unknown column {name!r} in columns", hint=nearest(name, _COLUMNS))

    @property
    def root(self) -> Path:
        """The folder that image paths are relative to."""
        return self._images

    def tables(self) -> list[Path]:
        """Return the one table that is read."""
        return [self.given]

    def candidates(self) -> Iterator[ReportRecord | Problem]:
        """Yield every study of the table, or the problems of its rows."""
        if self.given.is_dir():
            raise DataError("this is a folder, not a table", where=str(self.given), hint="name the table file")
        table = read_table(self.given)
        names = self._names(table)
        studies: dict[str, list[tuple[Row, dict[str, str]]]] = {}
        for row in table.rows:
            if row.fault:
                yield Problem("row-unreadable", row.where, row.fault)
                continue
            cells = {ours: cell(row.cells.get(theirs)) for ours, theirs in names.items() if ours != "labels"}
            cells["labels"] = as_text(row.cells.get(names.get("labels", "")))
            studies.setdefault(cells.get("study_id") or row.where, []).append((row, cells))
        for name, rows in studies.items():
            yield from self._study(name, rows)

    def _names(self, table: Table) -> dict[str, str]:
        """Return the table's name of each of our columns that it has."""
        table.require(*self.columns.values())
        lower = {name.lower(): name for name in reversed(table.columns)}
        names = {ours: self.columns.get(ours) or lower.get(ours) for ours in _COLUMNS}
        missing = [name for name in ("image",) if not names[name]]
        missing += [] if any(names[name] for name in ("text", "findings", "impression")) else ["text"]
        if missing and not self.unpaired:
            there = ", ".join(map(repr, table.columns[:8]))
            hint = f"map one with `columns: {{{missing[0]}: NAME}}`; it has {there}"
            raise DataError(f"the table has no column {missing[0]!r}", where=str(table.path), hint=hint)
        return {ours: theirs for ours, theirs in names.items() if theirs}

    def _study(self, name: str, rows: list[tuple[Row, dict[str, str]]]) -> Iterator[ReportRecord | Problem]:
        first, where = rows[0][1], rows[0][0].where
        found = [(posix(cells.get("image", "")), cells.get("view", "")) for _, cells in rows]
        images, view, notes = self.seen(list(dict.fromkeys(image for image in found if image[0])), where)
        study = first.get("study_id") or (found[0][0] if found[0][0] else name)
        if any(cells.get(key, "") != first.get(key, "") for _, cells in rows for key in ("patient_id", "split")):
            yield Problem("row-conflict", where, "the rows of this study differ in patient or split")
            return
        labels = labels_of(next((cells["labels"] for _, cells in rows if cells["labels"]), ""))
        if labels is None:
            message = "labels cannot be read; expected names parted by | or ;, or JSON with 1, 0 and -1"
            yield Problem("labels-unreadable", where, message)
            return
        yield from notes
        text = next(filter(any, (text_of(cells) for _, cells in rows)), ReportText())
        yield ReportRecord(
            images=images,
            patient_id=first.get("patient_id") or study,
            study_id=study,
            split=self.own_split(first.get("split", "")),
            source=self.name,
            labels=labels,
            attributes={key: value for key in _ATTRIBUTES if (value := first.get(key, ""))}
            | ({"view": view} if view else {}),
            row=where,
            **text._asdict(),
        )


def text_of(cells: dict[str, str]) -> ReportText:
    """Return the sections of a row: its `findings` and `impression`, else what headings part its `text` into."""
    findings, impression = one_line(cells.get("findings", "")), one_line(cells.get("impression", ""))
    return ReportText(findings, impression) if findings or impression else sectioned(cells.get("text", ""))


def posix(path: str) -> str:
    """Return a path of either system with forward slashes."""
    return str(PurePosixPath(path.replace("\\", "/"))) if path else ""


def as_text(value: object) -> str:
    """Return a cell as text, lists and objects as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else cell(value)


def labels_of(text: str) -> dict[str, int] | None:
    """Return the labels of a cell; None where they cannot be read."""
    if not text.startswith(("[", "{")):
        return {name.strip(): 1 for name in re.split(r"[|;]", text) if name.strip()}
    try:
        read = parse_json(text)
    except JSONDecodeError:
        return None
    found = read if isinstance(read, dict) else dict.fromkeys(map(str, read), 1)
    known = all(isinstance(value, int | float) and value in (-1, 0, 1) for value in found.values())
    return {str(name): int(value) for name, value in found.items()} if known else None
