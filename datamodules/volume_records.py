"""Records of 3D CT: a study's volumes, what was written of them, and at which depths the findings lie."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datamodules.records import Sections


class Interval(NamedTuple):
    """A stretch of the patient's depth.

    Depths are z in mm of the RAS frame (equal to DICOM's z): they grow towards the head, zero lies where the scanner
    put it, and they are those of `medvl.io.volume.DepthAxis`. An interval reaches over the slices' thickness.
    """

    low: float
    high: float
    weight: float = 1.0

    @property
    def middle(self) -> float:
        """The depth halfway."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a report with the depths that it speaks of: the one target of every source.

    Attributes:
        text: The words.
        intervals: Where it is seen; weights are relative to each other. Empty: what it says is not in this scan.
        organ: The organ that it speaks of, in the source's words; '' where nobody knows.
        finding: Its kind, likewise.
        volume: The only volume that the depths hold for; '' where all volumes of the study share a frame.
        row: Where it was read, for errors: `file.jsonl:12`.
    """

    text: str
    intervals: tuple[Interval, ...]
    organ: str = ""
    finding: str = ""
    volume: str = ""
    row: str = ""

    @property
    def present(self) -> bool:
        """Whether it is in this scan."""
        return bool(self.intervals)

    @property
    def extent(self) -> tuple[float, float] | None:
        """Lowest and highest depth in mm, or None."""
        if not self.intervals:
            return None
        return min(one.low for one in self.intervals), max(one.high for one in self.intervals)


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """One study: its volumes (reconstructions of one scan, mostly), its report, labels and snippets.

    Attributes:
        volumes: Files or DICOM folders, relative to the source's root, in the source's order.
        patient_id: Patient, as the source names them.
        study_id: Study, as the source names it; no two records share it.
        split: `train`, `val` or `test`.
        source: The source's name, for example `ct-rate`.
        findings: Text of that section, '' where there is none.
        impression: The same.
        other: What describes the scan where neither section does.
        labels: What the source says of findings: 1 present, 0 absent, -1 uncertain; those it does not speak of are not
            there.
        snippets: Pieces of text with their depths.
        attributes: What else may group an evaluation: `sex`, `age`, `scanner`, `kernel`.
        row: Where it was read, for errors: `file.csv:12`.
    """

    volumes: tuple[str, ...]
    patient_id: str
    study_id: str
    split: str
    source: str
    findings: str = ""
    impression: str = ""
    other: str = ""
    labels: dict[str, int] = field(default_factory=dict)
    snippets: tuple[Snippet, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    row: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The volumes."""
        return self.volumes

    @property
    def anonymous(self) -> bool:
        """Whether the study stands for a patient nobody named."""
        return self.patient_id == self.study_id

    @property
    def teaches(self) -> bool:
        """Whether it can be trained on."""
        return bool(self.text.strip() or self.labels or self.snippets)

    @property
    def text(self) -> str:
        """Findings and impression, a newline between them, or what stands in their place; '' where nothing does."""
        return self.text_of("both")

    def text_of(self, sections: Sections) -> str:
        """Return a section; where it is empty the other one, and where both are what stands in their place."""
        return section_text(self.findings, self.impression, self.other, sections)

    def snippets_of(self, volume: str) -> tuple[Snippet, ...]:
        """Return the snippets whose depths hold for one of the volumes."""
        return tuple(snippet for snippet in self.snippets if snippet.volume in ("", volume))

    def without(self, paths: Collection[str]) -> VolumeRecord | None:
        """Return the record with the volumes and snippets left without those at `paths`; None where no volume is."""
        left = tuple(path for path in self.volumes if path not in paths)
        if left == self.volumes:
            return self
        kept = tuple(snippet for snippet in self.snippets if snippet.volume not in paths)
        return replace(self, volumes=left, snippets=kept) if left else None


def section_text(findings: str, impression: str, other: str, sections: Sections) -> str:
    """Return the text of a section or of both, or what stands in their place."""
    both = (findings, impression)
    if sections == "both":
        return "\n".join(filter(None, both)) or other
    return next(filter(None, both if sections == "findings" else both[::-1]), other)


def interval_fault(interval: Interval) -> tuple[str, str] | None:
    """Return the code and the message of what is wrong with an interval, or None."""
    if not all(map(math.isfinite, interval)):
        return "interval-nan", "an interval holds a value that is not a number; expected depths in mm"
    if interval.high < interval.low:
        shown = f"({interval.low:.4g}, {interval.high:.4g})"
        return "interval-inverted", f"interval {shown} ends before it begins; expected z in mm, the lower end first"
    if interval.weight <= 0:
        return "interval-weight", f"an interval weighs {interval.weight:.4g}; expected more than 0"
    return None


def merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return intervals by depth, those that overlap as one, which weighs what its heaviest part does."""
    found: list[Interval] = []
    for one in sorted(intervals):
        if found and one.low <= found[-1].high:
            last = found[-1]
            found[-1] = Interval(last.low, max(last.high, one.high), max(last.weight, one.weight))
        else:
            found.append(one)
    return tuple(found)
