"""Files that a run leaves for others to read: predictions as JSON lines, COCO results, and how they are written.

A predictions file holds one JSON object per phrase. Its first five keys are `image`, `phrase`, `boxes_xyxy_px`,
`scores` and `threshold`; others may follow.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvl.errors import DataError
from medvl.io.atomic import write_text
from medvl.text.untrusted import parse_json

PixelBox = tuple[float, float, float, float]
COCO_RESULTS, COCO_IMAGES = "coco_results.json", "coco_images.json"


@dataclass(frozen=True, slots=True)
class PhrasePrediction:
    """What a model says of one phrase about one image.

    Attributes:
        image: The image as its source names it.
        phrase: The sentence.
        boxes_xyxy_px: The boxes kept, in pixels of the original image.
        scores: Their scores.
        threshold: A box is kept when its score is greater.
        kind: What the phrase is, for grouping: `boxed`; without boxes `absent` (affirms a finding), `negated` (denies
            one, or calls something normal) or `zero` (not said which); empty where nobody knows of boxes.
        patient: A salted id, equal for phrases of one patient; never the patient's own.
        image_path: The image's file, absolute or relative to `root`.
        root: Folder that `image_path` is relative to.
        width: Of the original image, in pixels.
        height: Of the original image, in pixels.
        gold_xyxy_px: Gold boxes; empty when the phrase has no place in the image, None when nobody knows.
        all_boxes_xyxy_px: The box of every query, kept or not, before any fusion.
        all_scores: Their scores.
        second_boxes_xyxy_px: Boxes of a second reader; empty when they drew none, None where there was none.
        groups: What else phrases may be grouped by: `sex`, `age`, `view`, `scanner`, ... to their values.
    """

    image: str
    phrase: str
    boxes_xyxy_px: tuple[PixelBox, ...]
    scores: tuple[float, ...]
    threshold: float
    kind: str = ""
    patient: str = ""
    image_path: str = ""
    root: str = ""
    width: int = 0
    height: int = 0
    gold_xyxy_px: tuple[PixelBox, ...] | None = None
    all_boxes_xyxy_px: tuple[PixelBox, ...] = ()
    all_scores: tuple[float, ...] = ()
    second_boxes_xyxy_px: tuple[PixelBox, ...] | None = None
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where the image lies."""
        return Path(self.root) / (self.image_path or self.image)

    def by_second_reader(self) -> PhrasePrediction | None:
        """Return what a second reader said of the phrase, as if they were a model; None where there was none."""
        if self.second_boxes_xyxy_px is None:
            return None
        boxes, sure = self.second_boxes_xyxy_px, (1.0,) * len(self.second_boxes_xyxy_px)
        return dataclasses.replace(
            self, boxes_xyxy_px=boxes, scores=sure, all_boxes_xyxy_px=boxes, all_scores=sure, threshold=0.5
        )

    def to_json(self, full: bool = True) -> str:
        """Return one line of JSON; without the boxes that were not kept unless `full`.

        Boxes are rounded to 1/1000 pixel, scores to 8 decimals (finer than float32 between 0.1 and 1).
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, value in values.items():
            if "boxes" in name or name == "gold_xyxy_px":
                values[name] = None if value is None else [[round(float(edge), 3) for edge in box] for box in value]
            elif "scores" in name:
                values[name] = [round(float(score), 8) for score in value]
        if not full:
            values = {name: value for name, value in values.items() if not name.startswith("all_")}
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str, where: str = "") -> PhrasePrediction:
        """Read one line; unknown keys are ignored.

        Args:
            line: A JSON object.
            where: File and line number, for the error.

        Raises:
            DataError: The line is no JSON object, lacks a key, or holds boxes and scores that do not fit together.
        """
        try:
            values = parse_json(line)
            known = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
            for name, value in known.items():
                if value is not None and ("boxes" in name or name == "gold_xyxy_px"):
                    known[name] = tuple(_box(box) for box in value)
                elif "scores" in name:
                    known[name] = tuple(float(score) for score in value)
                elif name == "groups":
                    known[name] = {str(key): str(group) for key, group in value.items()}
            return cls(**known)._checked()
        except (AttributeError, TypeError, ValueError) as error:
            reason = "missing key" if "missing" in str(error) else "not a prediction"
            raise DataError(
                f"{reason}: {str(error).splitlines()[0]}",
                where=where or None,
                hint="each line has image, phrase, boxes_xyxy_px, scores, threshold",
            ) from error

    def _checked(self) -> PhrasePrediction:
        pairs = ((self.boxes_xyxy_px, self.scores), (self.all_boxes_xyxy_px, self.all_scores))
        if any(len(boxes) != len(scores) for boxes, scores in pairs):
            raise ValueError("as many scores as boxes are needed")
        return self


def write_predictions(path: Path, predictions: Iterable[PhrasePrediction], full: bool = True) -> Path:
    """Write a predictions file, whole or not at all; `full` as in `PhrasePrediction.to_json`."""
    return write_text(path, (prediction.to_json(full) + "\n" for prediction in predictions))


def read_predictions(path: Path) -> list[PhrasePrediction]:
    """Read a predictions file.

    Raises:
        DataError: The file is missing, or a line is damaged; names the line.
    """
    return list(iter_predictions(path))


def iter_predictions(path: Path) -> Iterator[PhrasePrediction]:
    """Yield the predictions of a file one by one; errors as in `read_predictions`."""
    if not path.is_file():
        raise DataError("no such predictions file", where=str(path), command="medvl predict --config ...")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield PhrasePrediction.from_json(line, f"{path}:{number}")


def facts_of(path: Path) -> dict[str, str]:
    """Return what is known of the data that a predictions file tells of; nothing where nobody noted it."""
    note = path.with_suffix(".data.json")
    known: dict[str, Any] = parse_json(note.read_text(encoding="utf-8")) if note.is_file() else {}
    return {str(name): str(value) for name, value in known.items()}


def make_room(path: Path, facts: Mapping[str, str], others: Sequence[str] = ()) -> Path | None:
    """Note beside a predictions file of what data it will tell, and put what tells of other data aside.

    What is there of the same data stays, to be overwritten.

    Args:
        path: The predictions file that will be written.
        facts: What identifies the data, `source` and `fingerprint` among it.
        others: Names of the files and folders that belong to it.

    Returns:
        The folder beside `path` that holds the earlier files now; None when nothing had to move.
    """
    note, earlier = path.with_suffix(".data.json"), facts_of(path)
    old = [name for name in (path.name, note.name, *others) if (path.parent / name).exists()]
    aside = None
    if old and earlier != dict(facts):
        stem = f"{earlier.get('source', 'earlier')}-{earlier.get('fingerprint', '')[:8]}".rstrip("-")
        folders = _numbered(path.parent / stem)
        aside = next(folder for folder in folders if not any((folder / name).exists() for name in old))
        aside.mkdir(exist_ok=True)
        for name in old:
            (path.parent / name).rename(aside / name)
    write_text(note, [json.dumps(facts, indent=2, ensure_ascii=False), "\n"])
    return aside


def write_coco(folder: Path, predictions: Iterable[PhrasePrediction]) -> tuple[Path, Path]:
    """Write `coco_results.json` and the `coco_images.json` it refers to, as `pycocotools` reads them.

    COCO knows no phrases, and a box that is right for one is wrong for the next: so each phrase is an "image" of its
    own there, with the phrase as `caption` and its place in `predictions` (from 1) as id.

    Returns:
        The paths of results and of images (with gold boxes as `annotations`, where they are known).
    """
    images: list[dict[str, Any]] = []
    gold: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, one in enumerate(predictions, start=1):
        images.append(
            {"id": number, "file_name": one.image, "width": one.width, "height": one.height, "caption": one.phrase}
        )
        for box in one.gold_xyxy_px or ():
            bbox = _xywh(box)
            shape = {"bbox": list(bbox), "area": round(bbox[2] * bbox[3], 3), "iscrowd": 0}
            gold.append({"id": len(gold) + 1, "image_id": number, "category_id": 1, **shape})
        for box, score in zip(one.boxes_xyxy_px, one.scores, strict=True):
            found = {"bbox": list(_xywh(box)), "score": round(float(score), 8)}
            results.append({"image_id": number, "category_id": 1, **found})
    categories = [{"id": 1, "name": "phrase"}]
    truth = {"info": {}, "licenses": [], "images": images, "annotations": gold, "categories": categories}
    return (
        write_text(folder / COCO_RESULTS, [json.dumps(results)]),
        write_text(folder / COCO_IMAGES, [json.dumps(truth, ensure_ascii=False)]),
    )


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))


def _box(values: Iterable[Any]) -> PixelBox:
    x0, y0, x1, y1 = (float(value) for value in values)
    return x0, y0, x1, y1


def _xywh(box: PixelBox) -> PixelBox:
    x0, y0, x1, y1 = box
    return round(x0, 3), round(y0, 3), round(x1 - x0, 3), round(y1 - y0, 3)
