"""Merlin: 25,494 abdominal CTs of 18,317 patients with reports, and findings for zero-shot evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datamodules.records import Problem, VolumeRecord
from datamodules.sources.cells import cell, number
from datamodules.sources.rows import read_table
from datamodules.sources.splits import SplitRule
from datamodules.sources.volumes import VolumeSource
from medvl.errors import DataError
from medvl.text.sections import one_line

_REPORTS = ("reports_final.xlsx", "reports_final.csv")
_LABELS = "zero_shot_findings_disease_cls.csv"
_STUDY = "study id"


class Merlin(VolumeSource):
    """Merlin as it is distributed: `reports_final.xlsx` (or the same as CSV) over `merlin_data/<study id>.nii.gz`.

    Reports have no snippets, for they point to no slices: volumes and words alone, and the findings of
    `zero_shot_findings_disease_cls.csv`, 1 present and 0 absent; its -1 says nothing of a finding here.

    Assumed, for lack of the files: a volume is named by its `study id`, in the table of findings too; the patients
    behind the studies are not read, so each study counts as one, and the splits are the authors'.

    Args:
        root: The folder with the table of reports.
        unpaired: Whether studies without a report count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.
    """

    name = "merlin"
    cohort = "merlin"

    def __init__(
        self,
        root: str | Path,
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(unpaired=unpaired, split=split, quarantine=quarantine, follow_links=follow_links)
        self.given = Path(root).expanduser()

    @property
    def root(self) -> Path:
        """The folder with the tables."""
        return self.given

    def tables(self) -> list[Path]:
        """Return the findings, if they are there, and the reports."""
        reports = next((path for name in _REPORTS if (path := self.given / name).is_file()), None)
        if reports is None:
            hint = f"expected the folder with {_REPORTS[0]} and merlin_data/"
            raise DataError("no table of Merlin is here", where=str(self.given), hint=hint)
        labels = self.given / _LABELS
        return [*([labels] if labels.is_file() else []), reports]

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every study of the table of reports, or the problem of its row."""
        *labels, reports = self.tables()
        known = _labels(labels[0]) if labels else {}
        table = read_table(reports)
        table.require(_STUDY, "Findings", "Split")
        for row in table.rows:
            study = cell(row.cells.get(_STUDY)).removesuffix(".0")
            if row.fault:
                yield Problem("row-unreadable", row.where, row.fault)
            elif not study:
                yield Problem("study-unnamed", row.where, f"no {_STUDY!r} is named")
            else:
                yield VolumeRecord(
                    volumes=(f"merlin_data/{study}.nii.gz",),
                    patient_id=study,
                    study_id=study,
                    split=self.own_split(row.cells.get("Split")),
                    source=self.name,
                    findings=one_line(cell(row.cells.get("Findings"))),
                    labels=known.get(study, {}),
                    row=row.where,
                )


def _labels(path: Path) -> dict[str, dict[str, int]]:
    """Return the findings of each study that are said to be present or absent."""
    table = read_table(path)
    table.require(_STUDY)
    return {
        cell(row.cells.get(_STUDY)).removesuffix(".0"): {
            name: int(value)
            for name in table.columns
            if name not in ("", _STUDY) and (value := number(row.cells.get(name))) in (0, 1)
        }
        for row in table.rows
        if not row.fault
    }
