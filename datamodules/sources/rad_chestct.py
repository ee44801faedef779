"""Rad-ChestCT: chest CTs as NumPy archives; its 84 abnormalities as the 16 classes shared with CT-RATE."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.records import Problem, VolumeRecord
from datamodules.sources.cells import cell, number
from datamodules.sources.rows import stream_columns
from datamodules.sources.splits import SplitRule
from datamodules.sources.volumes import VolumeSource
from medvl.errors import DataError

if TYPE_CHECKING:
    from medvl.io.convert import VolumeItem

ARRAY, SPACING = "ct", 0.8  # mm, along every axis
_SPLITS = {"imgtrain": "train", "imgvalid": "val", "imgtest": "test"}
_SUFFIX = "_Abnormality_and_Location_Labels.csv"
_NAME = "NoteAcc_DEID"
CLASSES = {
    "Medical material": (
        "catheter_or_port", "tracheal_tube", "chest_tube", "breast_implant", "pacemaker_or_defib", "stent", "clip",
        "staple", "gi_tube", "hardware", "suture",
    ),
    "Calcification": ("calcification",),
    "Cardiomegaly": ("cardiomegaly",),
    "Pericardial effusion": ("pericardial_effusion",),
    "Hiatal hernia": ("hernia",),
    "Lymphadenopathy": ("lymphadenopathy",),
    "Emphysema": ("emphysema",),
    "Atelectasis": ("atelectasis",),
    "Lung nodule": ("nodule", "nodulegr1cm"),
    "Lung opacity": ("opacity",),
    "Pulmonary fibrotic sequela": ("scarring",),
    "Pleural effusion": ("pleural_effusion",),
    "Peribronchial thickening": ("bronchial_wall_thickening",),
    "Consolidation": ("consolidation",),
    "Bronchiectasis": ("bronchiectasis",),
    "Interlobular septal thickening": ("septal_thickening",),
}  # fmt: skip
"""RadFinder's map of abnormalities to CT-RATE's classes; its two calcifications are one here."""


class RadChestCT(VolumeSource):
    """Rad-ChestCT as Zenodo gives it: `imgtrain_Abnormality_and_Location_Labels.csv` and so on, over `NAME.npz`.

    Archives lie in the folder or in `npz` below it. Values are Hounsfield units clipped to ±1,000, stored from the head
    down, from the front back and from the right to the left, every 0.8 mm; where the patient lay is not known, so
    depths count from the first slice. There are no reports: a study has the 16 classes of `CLASSES`, present where any
    of a class's abnormalities is at any place. Scans name no patient, so each counts as one.

    Args:
        root: The folder with the tables.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.
    """

    name = "rad-chestct"
    cohort = "rad-chestct"

    def __init__(
        self,
        root: str | Path,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(unpaired=True, split=split, quarantine=quarantine, follow_links=follow_links)
        self.given = Path(root).expanduser()

    @property
    def root(self) -> Path:
        """The folder with the tables."""
        return self.given

    def tables(self) -> list[Path]:
        """Return the tables of labels that are there."""
        found = [path for name in _SPLITS if (path := self.given / f"{name}{_SUFFIX}").is_file()]
        if not found:
            hint = f"expected the folder with imgtrain{_SUFFIX}"
            raise DataError("no table of Rad-ChestCT is here", where=str(self.given), hint=hint)
        return found

    def patient_of(self, record: VolumeRecord) -> tuple[str, str]:
        """Return cohort and scan: `trn00001` and `val00001` are two."""
        return self.cohort, record.patient_id

    def items(self, paths: Sequence[str]) -> list[VolumeItem]:
        """Return what to convert, with the axes that the archives do not tell."""
        from medvl.io.convert import VolumeItem

        step = -SPACING
        affine = ((step, 0.0, 0.0, 0.0), (0.0, step, 0.0, 0.0), (0.0, 0.0, step, 0.0), (0.0, 0.0, 0.0, 1.0))
        return [VolumeItem(path, affine=affine, array=ARRAY) for path in paths]

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every scan that the tables name."""
        inner = "npz/" if (self.given / "npz").is_dir() else ""
        for table in self.tables():
            columns = _columns(table)
            wanted = [column for group in columns.values() for column in group]
            split = _SPLITS[table.name.removesuffix(_SUFFIX)]
            for row, name, *values in stream_columns(table, _NAME, *wanted):
                positive = {column for column, value in zip(wanted, values, strict=True) if number(value) > 0}
                yield VolumeRecord(
                    volumes=(f"{inner}{cell(name)}.npz",),
                    patient_id=cell(name),
                    study_id=cell(name),
                    split=self.own_split(split),
                    source=self.name,
                    labels={label: int(bool(positive & set(group))) for label, group in columns.items()},
                    row=row,
                )


def _columns(table: Path) -> dict[str, list[str]]:
    """Return the columns, `abnormality*location`, of each class.

    Raises:
        DataError: A class has none.
    """
    with table.open(encoding="utf-8-sig", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file), [])]
    found = {}
    for label, abnormalities in CLASSES.items():
        found[label] = [name for name in header if name.partition("*")[0] in abnormalities]
        if not found[label]:
            raise DataError(f"no column is of {abnormalities[0]!r}", where=str(table), hint=f"for {label}")
    return found
