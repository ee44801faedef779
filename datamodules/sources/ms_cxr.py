"""MS-CXR: sentences of MIMIC-CXR reports with boxes, in its releases 0.1 and 1.1.0."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.cells import box_tuple, cell, number
from datamodules.sources.grouping import Part, grouped, to_norm
from datamodules.sources.rows import Row, Table, read_json, read_table
from datamodules.sources.shapes import Shapes
from datamodules.sources.splits import SplitRule
from medvl.errors import ConfigError, DataError

_FILES = {"0.1": "MS_CXR_Local_Alignment_v1.0.0", "1.1.0": "MS_CXR_Local_Alignment_v1.1.0"}
_COLUMNS = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
_SUBJECT_STUDY = re.compile(r"(?:^|/)p(\d+)/s(\d+)/")


class MSCXR(PhraseSource):
    """MS-CXR as it is distributed, over the images of MIMIC-CXR-JPG.

    The table has one row per box: rows of one image, category and sentence are one phrase. Boxes are xywh in pixels
    of `image_width` and `image_height`, whatever size the image on disk has now. Release 1.1.0 has a split; 0.1 has
    none, so its patients are dealt by the hash of their id.

    Args:
        root: The dataset's folder (or the one that holds the release's folder).
        version: Which release to read; `auto` takes the newest one that is there.
        images: The folder that holds `files/p10/...`; `root` by default.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `PhraseSource`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "ms-cxr"
    cohort = "mimic-cxr"

    def __init__(
        self,
        root: str | Path,
        version: Literal["auto", "0.1", "1.1.0"] = "auto",
        images: str | Path | None = None,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        if version not in ("auto", *_FILES):
            raise ConfigError(f"unknown release {version!r} of MS-CXR", hint="expected one of: auto, 0.1, 1.1.0")
        self.given, self.version = Path(root).expanduser(), version
        self._images = None if images is None else Path(images).expanduser()

    @property
    def root(self) -> Path:
        """The folder that holds `files/p10/...`."""
        if self._images is not None:
            return self._images
        beside = self.tables()[0].parent
        return beside if (beside / "files").is_dir() and not (self.given / "files").is_dir() else self.given

    def tables(self) -> list[Path]:
        """Return the one table that is read."""
        return [self._table]

    @cached_property
    def _table(self) -> Path:
        versions = ["1.1.0", "0.1"] if self.version == "auto" else [self.version]
        names = [f"{_FILES[version]}{suffix}" for version in versions for suffix in (".csv", ".json")]
        for name in names:
            for place in (self.given / name, *sorted(self.given.glob(f"ms-cxr*/{name}"))):
                if place.is_file():
                    return place
        raise DataError(
            "the table of MS-CXR is not here",
            where=str(self.given),
            hint=f"looked for {' or '.join(names)}",
            command="medvl data twin ms-cxr FOLDER, for a synthetic dataset in this layout",
        )

    @cached_property
    def _shapes(self) -> Shapes:
        return Shapes(self.images)

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield every phrase of the table, or its problem."""
        table = _coco(self._table) if self._table.suffix == ".json" else read_table(self._table)
        table.require(*_COLUMNS)
        return grouped(self._part(row) for row in table.rows)

    def _part(self, row: Row) -> Part | Problem:
        cells = row.cells
        if row.fault:
            return Problem("row-unreadable", row.where, row.fault)
        path = cell(cells["path"])
        ids = _SUBJECT_STUDY.search(path)
        if ids is None:
            return Problem("path-unreadable", row.where, "expected a path such as files/p10/p10000032/s50414267/x.jpg")
        xywh = [number(cells[side]) for side in "xywh"]
        empty = not any(cell(cells[side]) for side in "xywh")  # a sentence without a place
        size = number(cells["image_height"]), number(cells["image_width"])
        sized = empty or all(side > 0 for side in size)
        label = cell(cells["category_name"])
        record = PhraseRecord(
            image=cell(cells["dicom_id"]),
            path=path,
            phrase=cell(cells["label_text"]),
            boxes=() if empty or not sized else (to_norm(xywh, "xywh_px", size),),
            patient_id=f"p{ids[1]}",
            study_id=f"s{ids[2]}",
            split=self.own_split(cells.get("split")),
            source=self.name,
            abnormal=None if empty else True,
            labels=(label,) if label else (),
            row=row.where,
        )
        fault = None if sized else ("size-unknown", "expected image_width and image_height above zero")
        if fault is None and not empty:
            fault = self._shapes.fault(path, size)
        return Part((record.image, label, record.phrase), record, fault)


def _coco(path: Path) -> Table:
    """Read the COCO form of the table as rows like those of its CSV form."""
    content = read_json(path)
    try:
        images = {image["id"]: image for image in content["images"]}
        categories = {category["id"]: category["name"] for category in content["categories"]}
        annotations: Iterable[dict[str, Any]] = content["annotations"]
        rows = [
            _coco_row(f"{path.name}:annotations[{i}]", annotation, images, categories)
            for i, annotation in enumerate(annotations)
        ]
    except (KeyError, TypeError) as error:
        raise DataError(
            "the JSON of MS-CXR lacks a part", where=str(path), hint=f"expected COCO with {error}"
        ) from None
    splits = ("split",) if any("split" in row.cells for row in rows) else ()
    return Table(path, [*_COLUMNS, *splits], rows)


def _coco_row(where: str, annotation: dict[str, Any], images: dict[Any, Any], categories: dict[Any, str]) -> Row:
    image = images.get(annotation["image_id"])
    if image is None or annotation["category_id"] not in categories:
        return Row(where, {}, "the annotation names an image or a category that is not listed")
    given = annotation.get("bbox", [])
    box = box_tuple(given) if given != [] else ("", "", "", "")  # a sentence without a place
    if box is None or any(side != side for side in box):
        return Row(where, {}, "expected bbox as [x, y, w, h]")
    path = str(image.get("path") or image["file_name"])
    cells = {
        "dicom_id": Path(image.get("file_name") or path).stem,
        "category_name": categories[annotation["category_id"]],
        "label_text": annotation["label_text"],
        "path": path,
        "image_width": image["width"],
        "image_height": image["height"],
        **dict(zip("xywh", box, strict=True)),
    }
    split = annotation.get("split") or image.get("split")
    return Row(where, cells | ({"split": split} if split else {}))
