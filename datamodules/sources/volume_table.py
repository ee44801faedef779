"""A table of one's own: a CT or MRI volume per row, with its report, labels and snippets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.records import Problem, Snippet, VolumeRecord
from datamodules.sources.cells import cell
from datamodules.sources.report_table import as_text, labels_of, posix, text_of
from datamodules.sources.rows import Row, Table, read_table
from datamodules.sources.snippets import snippets_of
from datamodules.sources.splits import SplitRule
from datamodules.sources.volumes import VolumeSource
from medvl.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from medvl.io.convert import VolumeItem

_TEXTS = frozenset({"text", "findings", "impression"})
_ATTRIBUTES = ("sex", "age", "scanner", "kernel")
_COLUMNS = (
    "volume", "text", "findings", "impression", "labels", "snippets", "patient_id", "study_id", "split", *_ATTRIBUTES,
)  # fmt: skip


class VolumeTable(VolumeSource):
    """CSV, Parquet or JSON lines with a row per volume.

    Columns are `volume` and what is there of `text` or `findings` and `impression`, `labels`, `snippets`, `patient_id`,
    `study_id`, `split`, `sex`, `age`, `scanner`, `kernel`. A volume is a NIfTI file or a folder with the slices of one
    DICOM series; rows of one `study_id` are its volumes. `labels` are names parted by `|` or `;`, or JSON: a list of
    names, or an object of 1, 0 and -1. `snippets` are a list (in CSV its JSON) of `{"text": ..., "intervals": [[low,
    high], ...], "organ": ..., "finding": ...}`, in mm of the patient's depth; without intervals it is not in this scan.
    Where no `patient_id` is given, the study counts as the patient.

    Args:
        root: The table file.
        columns: Names that differ, ours first: `{volume: filename, text: report}`. Other columns are ignored.
        volumes: The folder that volume paths are relative to; the table's own by default.
        unpaired: Whether rows without a report and without snippets count; by default where the table has no column of
            either.
        relative: Whether values have no unit, as those of an MRI: the percentiles .5 and 99.5 of each volume become
            -1000 and 1000, the default window of `VolumeData`. Else they are Hounsfield units.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.

    Raises:
        ConfigError: `columns` names none of ours.
    """

    name = "volume-table"

    def __init__(
        self,
        root: str | Path,
        columns: dict[str, str] | None = None,
        volumes: str | Path | None = None,
        unpaired: bool | None = None,
        relative: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(unpaired=bool(unpaired), split=split, quarantine=quarantine, follow_links=follow_links)
        self.given, self.columns, self._asked = Path(root).expanduser(), columns or {}, unpaired
        self._volumes = self.given.parent if volumes is None else Path(volumes).expanduser()
        self.relative = relative
        for name in self.columns:
            if name not in _COLUMNS:
                raise ConfigError(f"unknown column {name!r} in columns", hint=nearest(name, _COLUMNS))

    @property
    def root(self) -> Path:
        """The folder that volume paths are relative to."""
        return self._volumes

    def tables(self) -> list[Path]:
        """Return the one table that is read."""
        return [self.given]

    def items(self, paths: Sequence[str]) -> list[VolumeItem]:
        """Return what to convert for some volumes."""
        return [replace(item, units="relative" if self.relative else "hounsfield") for item in super().items(paths)]

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every study of the table, or the problems of its rows."""
        if self.given.is_dir():
            raise DataError("this is a folder, not a table", where=str(self.given), hint="name the table file")
        table = read_table(self.given)
        names = self._names(table)
        if self._asked is None:
            self.unpaired = not set(names) & {"text", "findings", "impression", "snippets"}
        studies: dict[str, list[tuple[Row, dict[str, str]]]] = {}
        for row in table.rows:
            if row.fault:
                yield Problem("row-unreadable", row.where, row.fault)
                continue
            cells = {ours: as_text(row.cells.get(theirs)) for ours, theirs in names.items()}
            cells["volume"] = posix(cells["volume"])
            if not cells["volume"]:
                yield Problem("volume-unnamed", row.where, "no volume is named")
                continue
            studies.setdefault(cells.get("study_id") or cells["volume"], []).append((row, cells))
        for study, rows in studies.items():
            yield from self._study(study, rows)

    def _names(self, table: Table) -> dict[str, str]:
        """Return the table's name of each of our columns that it has."""
        table.require(*self.columns.values())
        lower = {name.lower(): name for name in reversed(table.columns)}
        names = {ours: self.columns.get(ours) or lower.get(ours) for ours in _COLUMNS}
        if not names["volume"]:
            there = ", ".join(map(repr, table.columns[:8]))
            hint = f"map one with `columns: {{volume: NAME}}`; it has {there}"
            raise DataError("the table has no column 'volume'", where=str(table.path), hint=hint)
        return {ours: theirs for ours, theirs in names.items() if theirs}

    def _study(self, study: str, rows: list[tuple[Row, dict[str, str]]]) -> Iterator[VolumeRecord | Problem]:
        first, where = rows[0][1], rows[0][0].where
        if any(cells.get(key, "") != first.get(key, "") for _, cells in rows for key in ("patient_id", "split")):
            yield Problem("row-conflict", where, "the rows of this study differ in patient or split")
            return
        labels = labels_of(next((cells["labels"] for _, cells in rows if cells.get("labels")), ""))
        if labels is None:
            message = "labels cannot be read; expected names parted by | or ;, or JSON with 1, 0 and -1"
            yield Problem("labels-unreadable", where, message)
            return
        found = [item for row, cells in rows for item in snippets_of(cells.get("snippets"), row.where)]
        yield from (item for item in found if isinstance(item, Problem))
        text = next((text for _, cells in rows if any(text := text_of(cells))), text_of(first))
        snippets = tuple(item for item in found if isinstance(item, Snippet))
        if snippets and not any(text) and not _TEXTS.isdisjoint(first):
            yield Problem("text-blank", where, "the study has snippets and no text", fatal=False)
        yield VolumeRecord(
            volumes=tuple(dict.fromkeys(cells["volume"] for _, cells in rows)),
            patient_id=first.get("patient_id") or study,
            study_id=study,
            split=self.own_split(first.get("split", "")),
            source=self.name,
            labels=labels,
            snippets=snippets,
            attributes={key: cell(first[key]) for key in _ATTRIBUTES if cell(first.get(key))},
            row=where,
            **text._asdict(),
        )
