"""RSNA Pneumonia Detection Challenge (stage 2): boxes of lung opacities in images of NIH ChestX-ray14."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.cells import cell, number
from datamodules.sources.grouping import Part, grouped, to_norm
from datamodules.sources.rows import Row, read_json, read_table
from datamodules.sources.shapes import Shapes
from datamodules.sources.splits import SplitRule
from datamodules.sources.wording import NORMAL, SLOT, Wording
from medvl.errors import DataError

LABELS, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
IMAGES = "stage_2_train_images"
SIDE = 1024  # every image of the challenge is a square of so many pixels
OPACITY = "Lung Opacity"
_SIDES = ("x", "y", "width", "height")


class RSNAPneumonia(PhraseSource):
    """The RSNA challenge as it is distributed: DICOM images, a table of boxes, a table of classes.

    The table has one row per box (xywh in pixels of the 1,024 px square, whatever size the image on disk has now), and
    one row without a box for an image without opacity. Every image becomes one phrase, the name of the opacity; where
    its class is `Normal` another one says that nothing was found.

    The images of stage 2's test have no labels and are not read. There are no splits, so patients are dealt. The
    challenge's `patientId` is a name of the image: the patient is known from NIH's file names only, through RSNA's own
    table `pneumonia-challenge-dataset-mappings_2018.json`. Where it lies in the folder, its patients are dealt whole;
    without it an image stands for a patient, and one patient's images come to lie in several splits.

    Args:
        root: The challenge's folder.
        absent: Whether images without opacity have the opacity's phrase too, without a box: otherwise the phrase alone
            would tell that there is a box.
        template: What stands around the finding's name; several are parted by `|`.
        names: Names to put in place of ours, by label (`Lung Opacity`, `No finding`); several are parted by `|`.
        seed: Of the draws of words.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `PhraseSource`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "rsna"
    cohort = "nih-chestx-ray14"

    def __init__(
        self,
        root: str | Path,
        absent: bool = True,
        template: str = SLOT,
        names: dict[str, str] | None = None,
        seed: int = 0,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        self.given, self.absent = Path(root).expanduser(), absent
        self.wording = Wording({OPACITY: "lung opacity", NORMAL: "no abnormal finding"}, names, template, seed)

    @property
    def root(self) -> Path:
        """The challenge's folder."""
        return self.given

    def tables(self) -> list[Path]:
        """Return the table of boxes, that of classes, and the one that names patients, if it is there."""
        for name in (LABELS, CLASSES):
            if not (self.given / name).is_file():
                raise DataError(
                    f"the table {name} of the RSNA challenge is not here",
                    where=str(self.given),
                    hint="expected the unpacked archive of stage 2",
                    command="medvl data twin rsna FOLDER, for a synthetic dataset in this layout",
                )
        mapping = self.given / MAPPING
        return [*([mapping] if mapping.is_file() else []), self.given / CLASSES, self.given / LABELS]

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield the phrases of every image, or the problems of its rows."""
        table = read_table(self.tables()[-1])
        table.require("patientId", "Target", *_SIDES)
        for item in grouped(self._part(row) for row in table.rows):
            if isinstance(item, Problem):
                yield item
                continue
            if "class" not in item.attributes:
                yield Problem("class-missing", item.row, f"{CLASSES} lacks this image", fatal=False)
            if item.boxes or self.absent:
                yield item
            if item.attributes.get("class") == "Normal":
                phrase = self.wording.phrase(NORMAL, item.image)
                yield replace(item, phrase=phrase, abnormal=False, labels=(NORMAL,))

    @cached_property
    def _shapes(self) -> Shapes:
        return Shapes(self.images)

    @cached_property
    def _classes(self) -> dict[str, str]:
        """The class of every image; its rows are as many as its boxes, and alike."""
        table = read_table(self.given / CLASSES)
        table.require("patientId", "class")
        return {cell(row.cells.get("patientId")): cell(row.cells.get("class")) for row in table.rows}

    @cached_property
    def _patients(self) -> dict[str, str]:
        """The NIH patient of every image, as far as it is known."""
        path = self.given / MAPPING
        if not path.is_file():
            return {}
        try:
            return {entry["subset_img_id"]: entry["img_id"].partition("_")[0] for entry in read_json(path)}
        except (KeyError, TypeError, AttributeError):
            hint = "expected a list with subset_img_id and img_id (00000001_000.png)"
            raise DataError("this table of patients is in another form", where=str(path), hint=hint) from None

    def _part(self, row: Row) -> Part | Problem:
        image, target = cell(row.cells.get("patientId")), number(row.cells.get("Target"))
        if row.fault or not image or target not in (0, 1):
            return Problem("row-unreadable", row.where, row.fault or "expected a patientId, and 0 or 1 as Target")
        xywh = [number(row.cells.get(side)) for side in _SIDES]
        empty = not any(cell(row.cells.get(side)) for side in _SIDES)
        kind = self._classes.get(image, "")
        record = PhraseRecord(
            image=image,
            path=f"{IMAGES}/{image}.dcm",
            phrase=self.wording.phrase(OPACITY, image),
            boxes=() if empty else (to_norm(xywh, "xywh_px", (SIDE, SIDE)),),
            patient_id=self._patients.get(image, image),
            study_id=image,
            split="",
            source=self.name,
            abnormal=True,
            labels=(OPACITY,),
            attributes={"class": kind} if kind else {},
            row=row.where,
        )
        fault = None
        if empty == bool(target):
            fault = "target-conflict", f"Target is {target:.0f}, and the row has {'no' if empty else 'a'} box"
        elif kind and (kind == OPACITY) != bool(target):
            fault = "target-conflict", f"Target is {target:.0f}, and {CLASSES} gives the image another class"
        if fault is None:
            fault = self._shapes.fault(record.path, (SIDE, SIDE))
        return Part(image, record, fault)
