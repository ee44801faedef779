"""Records: the one form that every dataset is converted to, once, at load."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from datamodules.volume_records import Interval as Interval
from datamodules.volume_records import Snippet as Snippet
from datamodules.volume_records import VolumeRecord as VolumeRecord
from datamodules.volume_records import interval_fault, merged, section_text
from medvl.errors import nearest

Box = tuple[float, float, float, float]
SPLITS = ("train", "val", "test")
BOX_TOLERANCE = 1e-3  # how far a box may stick out of the image (fraction of a side) and still be clipped, not refused
_OR_DEAL = " (`split: deal` of the source deals patients anew)"


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
        extra_boxes: Boxes of a second reader whom `boxes` owe nothing to; None where there was none, empty where one
            looked and drew nothing.
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
    extra_boxes: tuple[Box, ...] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    row: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The image's file, if it is named."""
        return (self.path,) if self.path else ()

    @property
    def anonymous(self) -> bool:
        """Whether the image or the study stands for a patient nobody named."""
        return self.patient_id in (self.image, self.study_id)

    @property
    def teaches(self) -> bool:
        """Whether it can be trained on."""
        return bool(self.boxes)

    def without(self, paths: Collection[str]) -> PhraseRecord | None:
        """Return the record if it can do without the images at `paths`."""
        return None if self.path in paths else self


Sections = Literal["both", "findings", "impression"]


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """One study: its images and what was written about them.

    Attributes:
        images: The image files, relative to the source's root, the best view first; may be empty (a text alone).
        patient_id: Patient, as the source names them.
        study_id: Study, as the source names it; no two records share it.
        split: `train`, `val` or `test`.
        source: The source's name, for example `mimic-cxr`.
        findings: Text of that section, '' where there is none.
        impression: The same.
        other: What describes the images where neither section does: the last paragraph, or a text without headings.
        labels: What the source says of findings: 1 present, 0 absent, -1 uncertain; those it does not speak of are not
            there.
        attributes: What else may group an evaluation: `sex`, `age`, `view`.
        row: Where it was read, for errors: `file.csv:12`.
    """

    images: tuple[str, ...]
    patient_id: str
    study_id: str
    split: str
    source: str
    findings: str = ""
    impression: str = ""
    other: str = ""
    labels: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    row: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The image files."""
        return self.images

    @property
    def anonymous(self) -> bool:
        """Whether the study stands for a patient nobody named."""
        return self.patient_id == self.study_id

    @property
    def teaches(self) -> bool:
        """Whether it can be trained on."""
        return True

    @property
    def text(self) -> str:
        """Findings and impression, a newline between them, or what stands in their place; '' where nothing does."""
        return self.text_of("both")

    def text_of(self, sections: Sections) -> str:
        """Return a section; where it is empty the other one, and where both are what stands in their place."""
        return section_text(self.findings, self.impression, self.other, sections)

    def without(self, paths: Collection[str]) -> ReportRecord | None:
        """Return the record with the images that are left without those at `paths`; None where that is none."""
        left = tuple(path for path in self.images if path not in paths)
        return self if left == self.images else replace(self, images=left) if left else None


AnyRecord = TypeVar("AnyRecord", PhraseRecord, ReportRecord, VolumeRecord)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one row or file.

    Attributes:
        code: Kind of problem, for counting: `box-inverted`, `image-missing`, `split-unknown`, ...
        where: File and row, for example `table.csv:12`.
        message: What was found and what was expected; holds no report text and no patient identifier.
        fatal: Whether the row cannot be used.
        path: The image concerned, relative to the source's root, where the fault lies in the image itself.
    """

    code: str
    where: str
    message: str
    fatal: bool = True
    path: str = ""


def box_fault(box: Box, tolerance: float = BOX_TOLERANCE) -> tuple[str, str] | None:
    """Return the code and the message of what is wrong with a box (xyxy in [0, 1]), or None."""
    if not all(math.isfinite(v) for v in box):
        return "box-nan", "a box holds a value that is not a number; expected four finite numbers"
    x1, y1, x2, y2 = box
    shown = ", ".join(f"{v:.4g}" for v in box)
    if x2 < x1 or y2 < y1:
        return "box-inverted", f"box ({shown}) ends before it begins; expected x1 < x2 and y1 < y2 (xyxy, 0 to 1)"
    if min(box) < -tolerance or max(box) > 1 + tolerance:
        return "box-outside", f"box ({shown}) reaches out of the image; expected 0 to 1 (check the box convention)"
    if min(x2, 1.0) <= max(x1, 0.0) or min(y2, 1.0) <= max(y1, 0.0):
        return "box-empty", f"box ({shown}) has no area inside the image"
    return None


def clip_box(box: Box) -> Box:
    """Clip a box to the image."""
    x1, y1, x2, y2 = (min(max(v, 0.0), 1.0) for v in box)
    return x1, y1, x2, y2


def _row_faults(record: PhraseRecord) -> Iterable[tuple[str, str]]:
    """Yield code and message of what makes one record unusable."""
    if not record.phrase.strip():
        yield "phrase-empty", "the phrase is empty"
    if not record.image or not record.path:
        yield "image-unnamed", "no image is named"
    yield from _split_faults(record.split)
    yield from filter(None, map(box_fault, record.boxes))


def _split_faults(split: str) -> Iterable[tuple[str, str]]:
    if not split:
        yield "split-missing", f"no split is given; expected one of: {', '.join(SPLITS)}{_OR_DEAL}"
    elif split not in SPLITS:
        yield "split-unknown", f"unknown split; {nearest(split, SPLITS)}{_OR_DEAL}"  # a cell may hold anything


def _mended(record: PhraseRecord) -> tuple[PhraseRecord, list[Problem]]:
    """Clip what sticks out a little and leave out a second reader with an unusable box; tell both."""
    notes = []
    boxes = tuple(map(clip_box, record.boxes))
    extra = record.extra_boxes
    if extra is not None:  # the rest of such a reader's boxes would be a false answer
        extra = None if any(map(box_fault, extra)) else tuple(map(clip_box, extra))
    if boxes != record.boxes:
        notes.append(Problem("box-clipped", record.row, "a box sticks out of the image a little; clipped", fatal=False))
    if extra is None and record.extra_boxes is not None:
        message = "a second reader's box is unusable; this sentence has no second reader"
        notes.append(Problem("extra-box", record.row, message, fatal=False))
    unchanged = boxes == record.boxes and extra == record.extra_boxes
    return (record if unchanged else replace(record, boxes=boxes, extra_boxes=extra)), notes


def sift_records(candidates: Iterable[PhraseRecord]) -> tuple[list[PhraseRecord], list[Problem]]:
    """Part usable records from unusable ones: each candidate comes back as a record or as a fatal problem.

    A sentence with one unusable box is refused whole, because the rest of its boxes would be a false target. Two
    records are duplicates when image, phrase and labels agree: one that says the same again is left out with a remark,
    one with other boxes is a fatal problem.
    """
    records: list[PhraseRecord] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, str, tuple[str, ...]], PhraseRecord] = {}
    for candidate in candidates:
        faults = [Problem(code, candidate.row, message) for code, message in _row_faults(candidate)]
        key = (candidate.image, candidate.phrase, candidate.labels)
        if not faults and key in seen:
            faults = [_duplicate(candidate, seen[key])]
        if faults:
            problems += faults
            continue
        seen[key], notes = _mended(candidate)
        records.append(seen[key])
        problems += notes
    return records, problems


def _duplicate(record: PhraseRecord, first: PhraseRecord) -> Problem:
    same = set(map(clip_box, record.boxes)) == set(first.boxes)
    message = f"this image and phrase were already read at {first.row}, with {'the same' if same else 'other'} boxes"
    return Problem("duplicate", record.row, message, fatal=not same)


def sift_reports(
    candidates: Iterable[ReportRecord], unpaired: bool = False
) -> tuple[list[ReportRecord], list[Problem]]:
    """Part usable studies from others: each candidate comes back as a record, or as a problem.

    A study that lacks images or text is left out with a remark, for there are such in every collection, unless
    `unpaired` and the other half, or a label, is there. Two records of one study are a fatal problem.
    """
    records: list[ReportRecord] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for candidate in candidates:
        found = [Problem(code, candidate.row, message) for code, message in _report_faults(candidate, seen)]
        halves = bool(candidate.images), bool(candidate.text.strip())
        if not found and not (any(halves) if unpaired else all(halves)):
            code, what = ("image-none", "image") if halves[1] else ("text-empty", "text")
            message = f"this study has no usable {what}; left out (`unpaired: true` of the source keeps halves)"
            found = [Problem(code, candidate.row, message, fatal=False)]
        problems += found
        if not found:
            seen[candidate.study_id] = candidate.row
            records.append(candidate)
    return records, problems


def _report_faults(record: ReportRecord | VolumeRecord, seen: dict[str, str]) -> Iterable[tuple[str, str]]:
    if not record.study_id or not record.patient_id:
        yield "study-unnamed", "no study or no patient is named"
    elif record.study_id in seen:
        yield "duplicate", f"this study was already read at {seen[record.study_id]}"
    if set(record.labels.values()) - {-1, 0, 1}:
        yield "label-outside", "a label is neither 1 (present), 0 (absent) nor -1 (uncertain)"
    yield from _split_faults(record.split)


def sift_volumes(
    candidates: Iterable[VolumeRecord], unpaired: bool = False
) -> tuple[list[VolumeRecord], list[Problem]]:
    """Part usable studies from others: each candidate comes back as a record, or as a problem.

    A snippet that cannot be used is a fatal problem of its own row, and its study goes on without it. Of snippets with
    the same words about the same volumes, those that repeat the depths are left out with a remark, and others are taken
    together, for nothing in the words tells them apart. A study without text and snippets is left out with a remark,
    unless `unpaired`. Two records of one study are a fatal problem.
    """
    records: list[VolumeRecord] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for candidate in candidates:
        found = [Problem(code, candidate.row, message) for code, message in _report_faults(candidate, seen)]
        snippets, notes = _sift_snippets(candidate)
        if not found and not (unpaired or candidate.text.strip() or snippets):
            message = "this study has no usable text; left out (`unpaired: true` of the source keeps such)"
            found = [Problem("text-empty", candidate.row, message, fatal=False)]
        problems += found + notes
        if not found:
            seen[candidate.study_id] = candidate.row
            records.append(candidate if snippets == candidate.snippets else replace(candidate, snippets=snippets))
    return records, problems


def _sift_snippets(record: VolumeRecord) -> tuple[tuple[Snippet, ...], list[Problem]]:
    """Return the usable snippets of a study, each with its intervals by depth, and what is wrong with the others."""
    kept: dict[tuple[str, str], Snippet] = {}
    problems = []
    for snippet in record.snippets:
        faults = list(_snippet_faults(record, snippet))
        problems += [Problem(code, snippet.row, message) for code, message in faults]
        if faults:
            continue
        key, new = (snippet.text, snippet.volume), merged(snippet.intervals)
        if (first := kept.get(key)) is None:
            kept[key] = replace(snippet, intervals=new)
            continue
        told = f"the same words were already read at {first.row}"
        if first.present != bool(new):
            problems.append(Problem("snippet-contradicts", snippet.row, f"{told}, there with other presence"))
        elif first.intervals == new:
            problems.append(Problem("duplicate", snippet.row, f"{told}, with the same depths", fatal=False))
        else:
            kept[key] = replace(first, intervals=merged(first.intervals + new))
            message = f"{told}; their depths are taken together"
            problems.append(Problem("snippet-merged", snippet.row, message, fatal=False))
    return tuple(kept.values()), problems


def _snippet_faults(record: VolumeRecord, snippet: Snippet) -> Iterable[tuple[str, str]]:
    if not snippet.text.strip():
        yield "snippet-empty", "the snippet is empty"
    if snippet.volume and snippet.volume not in record.volumes:
        yield "snippet-volume", "the snippet is about a volume that its study does not have"
    yield from filter(None, map(interval_fault, snippet.intervals))


def leaks(records: Iterable[AnyRecord]) -> list[Problem]:
    """Return one fatal problem per record of a patient who is in several splits, sparing the rows nearest to `test`.

    The rows spared are those of the patient's last split in the order train, val, test: quarantining the others
    mends the leak and leaves the test set whole.
    """
    rows: dict[str, dict[str, list[AnyRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        rows[record.patient_id][record.split].append(record)
    found = []
    for splits in rows.values():
        *early, last = sorted(splits, key=SPLITS.index)
        for split in early:
            message = f"this row's patient is in {split} and in {last}; expected every patient in one split only"
            found += [Problem("patient-leak", record.row, message) for record in splits[split]]
    return found
