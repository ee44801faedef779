"""PadChest-GR: grounded reports, sentence by sentence, in English and Spanish."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.cells import box_list, cell
from datamodules.sources.padchest_master import ATTRIBUTES, IMAGES_TABLE, MasterTable, details, with_suffix
from datamodules.sources.rows import read_json, read_table
from datamodules.sources.splits import SplitRule
from medvl.errors import DataError

T = TypeVar("T")

_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_UNREADABLE = ((math.nan,) * 4,)
_FILES_FOLDERS = ("", "Padchest_GR_files", "PadChest_GR_files")


class PadChestGR(PhraseSource):
    """PadChest-GR as it is distributed: one JSON of grounded reports, a master table, 16-bit PNG images.

    Boxes are xyxy in [0, 1]. The split and the patient are in the master table only, which has a row per study and
    label; they are joined by image, else by study. Findings with `abnormal: false` may lack their boxes. View and
    scanner, by which an evaluation is broken down, are read where PadChest's table of images lies beside.

    Args:
        root: The dataset's folder.
        language: Which sentences to read.
        images: The folder of images inside `root` (or inside `Padchest_GR_files`).
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `PhraseSource`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "padchest-gr"
    cohort = "padchest"

    def __init__(
        self,
        root: str | Path,
        language: Literal["en", "es"] = "en",
        images: str = "PadChest_GR",
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        self.given, self.language, self.images_folder = Path(root).expanduser(), language, images

    @property
    def root(self) -> Path:
        """The folder of images."""
        return self._root

    @cached_property
    def _root(self) -> Path:
        names = [_image_name(study) for study in self._studies if isinstance(study, dict)]
        candidates = [self.given / files / self.images_folder for files in _FILES_FOLDERS] + [self.given]
        nested = [
            found for files in _FILES_FOLDERS for found in sorted((self.given / files).glob("*/")) if found.is_dir()
        ]
        for folder in [*candidates, *nested]:
            # os.path says no to a name that no file system takes; Path.is_file raises.
            if any(os.path.isfile(folder / name) for name in names if name and "/" not in name):
                return folder
        parts = sorted(p for files in _FILES_FOLDERS for p in (self.given / files).glob("PadChest_GR.zip*"))
        if parts:
            raise DataError(
                f"the images are still packed in {len(parts)} parts of one zip",
                where=str(parts[0]),
                hint="join and unpack them first, then run this again",
                command=f"cd {parts[0].parent} && cat PadChest_GR.zip.* > all.zip && unzip all.zip",
            )
        present = [folder for folder in candidates[:-1] if folder.is_dir()]
        if present:  # the folder is there, so each missing image is told by its row
            return present[0]
        raise DataError(
            "no image of PadChest-GR is here",
            where=str(self.given),
            hint=f"looked in {self.images_folder} and the folders beside it; --data.source.images names another",
        )

    def tables(self) -> list[Path]:
        """Return the JSON of reports, PadChest's table of images where there is one, and the master table."""
        images = self._newest(IMAGES_TABLE, f"{IMAGES_TABLE}.gz")
        return [
            self._find("grounded reports", "grounded_reports*.json"),
            *([] if images is None else [images]),
            self._find("master table", "master_table*.csv", "master_table*.csv.zip"),
        ]

    def _newest(self, *patterns: str) -> Path | None:
        for pattern in patterns:
            for files in _FILES_FOLDERS:
                found = sorted((self.given / files).glob(pattern))
                if found:
                    return found[-1]  # names end in a date
        return None

    def _find(self, what: str, *patterns: str) -> Path:
        found = self._newest(*patterns)
        if found is not None:
            return found
        looked = f"looked for {' or '.join(patterns)}"
        raise DataError(
            f"PadChest-GR: {what} not found",
            where=str(self.given),
            hint=looked if self.given.is_dir() else "the folder does not exist",
            command="medvl data twin padchest-gr FOLDER, for a synthetic dataset in this layout",
        )

    @cached_property
    def _studies(self) -> list[Any]:
        path = self.tables()[0]
        studies = read_json(path)
        if not isinstance(studies, list):
            raise DataError(
                "the grounded reports are in another form", where=str(path), hint="expected a JSON list of studies"
            )
        return studies

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield every finding of every report, then what the master table has and the reports lack."""
        reports, *images, table = self.tables()
        master = MasterTable(read_table(table), self.own_split)
        for path in images:
            master.add(details(path, master.images))
        yield from master.problems
        told = set()
        for number, study in enumerate(self._studies):
            where = f"{reports.name}[{number}]"
            image = cell(study.get("ImageID")) if isinstance(study, dict) else ""
            findings = study.get("findings") if image else None
            told.add(with_suffix(image))
            if not image:
                yield Problem("image-unnamed", where, "the study names no image (ImageID)")
            elif not isinstance(findings, list) or not findings:
                yield Problem("findings-missing", where, "the study has no findings", fatal=False)
            else:
                yield from _joined(
                    self._record(study, image, finding, master, f"{where}.findings[{i}]")
                    for i, finding in enumerate(findings)
                )
        for image in sorted(master.images - told):
            where = master.where(image)
            yield Problem("report-missing", where, "the reports lack this image of the master table", fatal=False)

    def _record(
        self, study: dict[str, Any], image: str, finding: object, master: MasterTable, row: str
    ) -> PhraseRecord | Problem:
        study_id = cell(study.get("StudyID"))
        known = master.about(with_suffix(image), study_id)
        if not isinstance(finding, dict):
            return Problem("finding-unreadable", row, "expected a JSON object with a sentence and boxes")
        if known is None:
            return Problem("split-missing", row, "the master table lacks this study, and so its patient and split")
        if "conflict" in known:
            return Problem("split-conflict", row, f"the master table contradicts itself on the {known['conflict']}")
        boxes, extra = box_list(finding.get("boxes")), box_list(finding.get("extra_boxes"))
        if boxes is None:
            return Problem("box-unreadable", row, "expected boxes as a list of [x1, y1, x2, y2]")
        if not _named(finding.get("labels")):
            return Problem("labels-unreadable", row, "expected labels as a list of names")
        places = "; ".join(_strings(finding.get("locations")))
        attributes = {key: known[key] for key in ATTRIBUTES if known.get(key)}
        return PhraseRecord(
            image=image,
            path=with_suffix(image),
            phrase=_sentence(finding.get(f"sentence_{self.language}")),
            boxes=boxes,
            patient_id=known.get("patient") or cell(study.get("PatientID")) or study_id or image,
            study_id=study_id or image,
            split=known.get("split", ""),
            source=self.name,
            abnormal=_TRUTH.get(str(finding.get("abnormal")).lower()),
            labels=_strings(finding.get("labels")),
            # An empty list says that no second reader drew boxes: there are up to two. An unreadable one is told later.
            extra_boxes=_UNREADABLE if extra is None else extra or None,
            attributes=attributes | ({"locations": places} if places else {}),
            row=row,
        )


def _joined(findings: Iterable[PhraseRecord | Problem]) -> Iterator[PhraseRecord | Problem]:
    """Join findings of one study that say the same sentence: each box is a place of it."""
    first: dict[str, PhraseRecord] = {}
    for item in findings:
        known = first.get(item.phrase) if isinstance(item, PhraseRecord) and item.phrase else None
        if isinstance(item, Problem) or not item.phrase:
            yield item
        elif known is None:
            first[item.phrase] = item
        else:
            first[item.phrase] = replace(
                known,
                boxes=_union(known.boxes, item.boxes),
                extra_boxes=known.extra_boxes and item.extra_boxes and _union(known.extra_boxes, item.extra_boxes),
                labels=_union(known.labels, item.labels),
                abnormal=item.abnormal if known.abnormal is None else known.abnormal or bool(item.abnormal),
            )
            yield Problem("duplicate", item.row, f"the same sentence as {known.row}; joined to it", fatal=False)
    yield from first.values()


def _union(a: tuple[T, ...], b: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(a + b))


def _image_name(study: dict[str, Any]) -> str:
    return with_suffix(cell(study.get("ImageID")))


def _sentence(value: object) -> str:
    """Return a sentence as it stands, since predictions are matched by it; empty where there is none."""
    return value if isinstance(value, str) and value.strip() else ""


def _named(value: object) -> bool:
    """Whether a value is names: one, a list of them, or none."""
    return value is None or all(isinstance(item, str) for item in (value if isinstance(value, list) else [value]))


def _strings(value: object) -> tuple[str, ...]:
    """Return a list of names as it is, one name as a list of one, and nothing as none."""
    values = value if isinstance(value, list) else [value]
    return tuple(text for item in values if (text := cell(item)))
