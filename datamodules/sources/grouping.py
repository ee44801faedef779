"""Box conventions, and tables with one box per row."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from datamodules.records import Box, PhraseRecord, Problem, box_fault, clip_box

BoxFormat = Literal["xyxy_px", "xywh_px", "xyxy_norm", "xywh_norm", "cxcywh_norm"]
BOX_FORMATS: tuple[str, ...] = get_args(BoxFormat)


def to_norm(values: Sequence[float], box_format: str, size: tuple[float, float]) -> Box:
    """Convert one box to xyxy in [0, 1].

    Args:
        values: Four numbers in the convention `box_format`.
        box_format: One of `BOX_FORMATS`; `px` counts pixels from the outer edge of the first one.
        size: Height and width of the image in pixels; used by the pixel conventions only.

    Returns:
        The box. One that sticks out by no more than a pixel, as rounding makes them, is clipped.
    """
    a, b, c, d = values
    shape, _, unit = box_format.partition("_")
    if shape == "xywh":
        c, d = a + c, b + d
    elif shape == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    if unit == "norm":
        return a, b, c, d
    height, width = size
    box = a / width, b / height, c / width, d / height
    return clip_box(box) if box_fault(box, tolerance=1 / min(size)) is None else box


@dataclass(frozen=True)
class Part:
    """One row of a table with a row per box: rows that share `key` are one phrase.

    Attributes:
        key: What the rows of one phrase have in common.
        record: The row, with its one box or none.
        fault: Code and message of why its box cannot be used.
    """

    key: Hashable
    record: PhraseRecord
    fault: tuple[str, str] | None = None


def grouped(parts: Iterable[Part | Problem]) -> Iterator[PhraseRecord | Problem]:
    """Join the boxes of rows that are one phrase; the record keeps the first row's place.

    A row that contradicts the first one of its group on the split, the patient or the file makes the whole group
    unusable, and so does a row with an unusable box: the boxes that are left would be a false target.
    """
    groups: dict[Hashable, list[Part]] = {}
    problems = []
    for part in parts:
        if isinstance(part, Problem):
            problems.append(part)
        else:
            groups.setdefault(part.key, []).append(part)
    yield from problems
    for rows in groups.values():
        yield from _joined(rows)


def _joined(parts: list[Part]) -> Iterator[PhraseRecord | Problem]:
    first = parts[0].record
    faults = [_fault(part, first) for part in parts]
    if not any(faults):
        yield replace(first, boxes=tuple(dict.fromkeys(box for part in parts for box in part.record.boxes)))
        return
    for part, fault in zip(parts, faults, strict=True):
        code, message = fault or ("box-sibling", "another box of this phrase is unusable")
        yield Problem(code, part.record.row, message)


def _fault(part: Part, first: PhraseRecord) -> tuple[str, str] | None:
    """Return why a row cannot be joined to the first one of its group, or None."""
    row = part.record
    if (row.split, row.patient_id, row.path) != (first.split, first.patient_id, first.path):
        return "row-conflict", f"split, patient or file differ from those of {first.row}"
    return part.fault or next(filter(None, map(box_fault, row.boxes)), None)
