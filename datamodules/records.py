"""Records: the one form that every dataset is converted to, once, at load."""

from __future__ import annotations

from dataclasses import dataclass, field

Box = tuple[float, float, float, float]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class PhraseRecord:
    """One sentence about one image, with zero, one or many boxes.

    Attributes:
        image: The image as its source names it (what predictions are keyed by).
        path: Its file, relative to the source's root.
        phrase: The sentence.
        boxes: xyxy in [0, 1] of the original image; empty when the sentence has no place in this image.
        patient_id: Patient, as the source names them.
        study_id: Study, as the source names it.
        split: `train`, `val` or `test`.
        source: The source's name, for example `padchest-gr`.
        abnormal: Whether the sentence affirms a finding, where the source says so. A record with `abnormal=True`
            and no boxes names a finding that is not in this image (or was not boxed).
        labels: Finding labels, where the source has them.
        extra_boxes: Boxes of a second reader, where the source has one.
        attributes: What else may group an evaluation: `sex`, `age`, `view`, `scanner`.
        row: Where it was read, for errors: `file.csv:12`.
    """

    image: str
    path: str
    phrase: str
    boxes: tuple[Box, ...]
    patient_id: str
    study_id: str
    split: str
    source: str
    abnormal: bool | None = None
    labels: tuple[str, ...] = ()
    extra_boxes: tuple[Box, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    row: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one row or file.

    Attributes:
        code: Kind of problem, for counting: `box-inverted`, `image-missing`, `split-unknown`, ...
        where: File and row, for example `table.csv:12`.
        message: What was found and what was expected; holds no report text and no patient identifier.
        fatal: Whether the row cannot be used.
    """

    code: str
    where: str
    message: str
    fatal: bool = True
