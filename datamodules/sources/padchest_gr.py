"""PadChest-GR: grounded reports, sentence by sentence, in English and Spanish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from datamodules.records import Box, PhraseRecord, Problem
from datamodules.sources.base import PhraseSource, box_tuple, cell, split_word
from datamodules.sources.rows import Table, read_json, read_table
from medvl.errors import DataError

T = TypeVar("T")

_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_FILES_FOLDERS = ("", "Padchest_GR_files", "PadChest_GR_files")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff")
_ATTRIBUTES = {
    "sex": ("PatientSex_DICOM", "PatientSex"),
    "age": ("PatientAge", "PatientAge_DICOM"),
    "view": ("ViewPosition_DICOM", "ViewPosition", "Projection"),
    "scanner": ("Manufacturer_DICOM", "Manufacturer"),
}


class PadChestGR(PhraseSource):
    """PadChest-GR as it is distributed: one JSON of grounded reports, a master table, 16-bit PNG images.

    Boxes are xyxy in [0, 1]. The split and the patient are in the master table only, which has a row per study and
    label; they are joined by image, else by study. Findings with `abnormal: false` may lack their boxes.

    Args:
        root: The dataset's folder.
        language: Which sentences to read.
        images: The folder of images inside `root` (or inside `Padchest_GR_files`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "padchest-gr"

    def __init__(
        self,
        root: str | Path,
        language: Literal["en", "es"] = "en",
        images: str = "PadChest_GR",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(quarantine=quarantine, follow_links=follow_links)
        self.folder, self.language, self.images_folder = Path(root).expanduser(), language, images

    @property
    def root(self) -> Path:
        """The folder of images."""
        return self._root

    @cached_property
    def _root(self) -> Path:
        names = [_image_name(study) for study in self._studies if isinstance(study, dict)]
        candidates = [self.folder / files / self.images_folder for files in _FILES_FOLDERS] + [self.folder]
        nested = [
            found for files in _FILES_FOLDERS for found in sorted((self.folder / files).glob("*/")) if found.is_dir()
        ]
        for folder in [*candidates, *nested]:
            if any((folder / name).is_file() for name in names if name and "/" not in name):
                return folder
        parts = sorted(p for files in _FILES_FOLDERS for p in (self.folder / files).glob("PadChest_GR.zip*"))
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
            where=str(self.folder),
            hint=f"looked in {self.images_folder} and the folders beside it; --data.source.images names another",
        )

    def tables(self) -> list[Path]:
        """Return the JSON of reports and the master table."""
        return [
            self._find("grounded reports", "grounded_reports*.json"),
            self._find("master table", "master_table*.csv", "master_table*.csv.zip"),
        ]

    def _find(self, what: str, *patterns: str) -> Path:
        for pattern in patterns:
            for files in _FILES_FOLDERS:
                found = sorted((self.folder / files).glob(pattern))
                if found:
                    return found[-1]  # names end in a date: the newest
        looked = f"looked for {' or '.join(patterns)}"
        raise DataError(
            f"PadChest-GR: {what} not found",
            where=str(self.folder),
            hint=looked if self.folder.is_dir() else "the folder does not exist",
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
        reports, table = self.tables()
        master = _Master(read_table(table))
        yield from master.problems
        told = set()
        for number, study in enumerate(self._studies):
            where = f"{reports.name}[{number}]"
            image = cell(study.get("ImageID")) if isinstance(study, dict) else ""
            findings = study.get("findings") if image else None
            told.add(_with_suffix(image))
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
        self, study: dict[str, Any], image: str, finding: object, master: _Master, row: str
    ) -> PhraseRecord | Problem:
        study_id = cell(study.get("StudyID"))
        known = master.about(_with_suffix(image), study_id)
        if not isinstance(finding, dict):
            return Problem("finding-unreadable", row, "expected a JSON object with a sentence and boxes")
        if known is None:
            return Problem("split-missing", row, "the master table lacks this study, so it has no split")
        if "conflict" in known:
            return Problem("split-conflict", row, f"the master table contradicts itself on the {known['conflict']}")
        boxes, extra = _boxes(finding.get("boxes")), _boxes(finding.get("extra_boxes"))
        if boxes is None:
            return Problem("box-unreadable", row, "expected boxes as a list of [x1, y1, x2, y2]")
        places = "; ".join(_strings(finding.get("locations")))
        attributes = {key: known[key] for key in _ATTRIBUTES if known.get(key)}
        return PhraseRecord(
            image=image,
            path=_with_suffix(image),
            phrase=_sentence(finding.get(f"sentence_{self.language}")),
            boxes=boxes,
            patient_id=known.get("patient") or cell(study.get("PatientID")) or study_id or image,
            study_id=study_id or image,
            split=split_word(known.get("split")),
            source=self.name,
            abnormal=_TRUTH.get(str(finding.get("abnormal")).lower()),
            labels=_strings(finding.get("labels")),
            extra_boxes=extra or (),
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
                extra_boxes=_union(known.extra_boxes, item.extra_boxes),
                labels=_union(known.labels, item.labels),
                abnormal=item.abnormal if known.abnormal is None else known.abnormal or bool(item.abnormal),
            )
            yield Problem("duplicate", item.row, f"the same sentence as {known.row}; joined to it", fatal=False)
    yield from first.values()


def _union(a: tuple[T, ...], b: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(a + b))


class _Master:
    """The master table, with its rows per study and label folded to one entry per image and per study."""

    def __init__(self, table: Table) -> None:
        table.require("split")
        self.problems: list[Problem] = []
        self._wheres: dict[str, str] = {}
        self._images: dict[str, dict[str, str]] = {}
        self._studies: dict[str, dict[str, str]] = {}
        for row in table.rows:
            image, study = _with_suffix(cell(row.cells.get("ImageID"))), cell(row.cells.get("StudyID"))
            if row.fault or not (image or study):
                message = row.fault or "the row names no ImageID and no StudyID"
                self.problems.append(Problem("row-unreadable", row.where, message))
                continue
            entry = _entry(row.cells)
            self._wheres.setdefault(image, row.where)
            for key, known in ((image, self._images), (study, self._studies)):
                if key and _fold(known.setdefault(key, {}), entry):
                    self.problems.append(
                        Problem("split-conflict", row.where, "this row contradicts an earlier one of the same image")
                    )
                    break

    @property
    def images(self) -> set[str]:
        return set(self._images)

    def where(self, image: str) -> str:
        return self._wheres[image]

    def about(self, image: str, study: str) -> dict[str, str] | None:
        """Return what is known of an image, by its name, else by its study."""
        return self._images.get(image) or self._studies.get(study)


def _entry(cells: dict[str, Any]) -> dict[str, str]:
    entry = {"split": split_word(cells.get("split")), "patient": cell(cells.get("PatientID"))}
    for key, columns in _ATTRIBUTES.items():
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


def _folders(folder: Path) -> list[Path]:
    return sorted(found for found in folder.glob("*") if found.is_dir())


def _with_suffix(image: str) -> str:
    return image if not image or Path(image).suffix.lower() in _IMAGE_SUFFIXES else f"{image}.png"


def _image_name(study: dict[str, Any]) -> str:
    return _with_suffix(cell(study.get("ImageID")))


def _sentence(value: object) -> str:
    """Return a sentence as it stands, since predictions are matched by it; empty where there is none."""
    return value if isinstance(value, str) and value.strip() else ""


def _strings(value: object) -> tuple[str, ...]:
    """Return a list of names as it is, one name as a list of one, and nothing as none."""
    values = value if isinstance(value, list) else [value]
    return tuple(text for item in values if (text := cell(item)))


def _boxes(value: object) -> tuple[Box, ...] | None:
    """Return a list of boxes; empty where there are none, None where it cannot be read as boxes."""
    if value is None or isinstance(value, float):
        return ()
    single = box_tuple(value) if isinstance(value, list) and not any(isinstance(v, list) for v in value) else None
    if single:
        return (single,)
    boxes = [box_tuple(item) for item in value] if isinstance(value, list) else [None]
    return tuple(box for box in boxes if box) if all(boxes) else None
