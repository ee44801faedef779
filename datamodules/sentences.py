"""Reports to sentences, by rules: sections, lists, hard-wrapped lines, abbreviations (English).

What a general splitter gets wrong in radiology is what these rules are for: `Dr. ___`, `approx. 2.5 cm.`, `1. No
effusion. 2. ...` in one line, a finding per line without a full stop, a missing blank after one, headings in the middle
of a line.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

IMAGE_SECTIONS = (
    "findings", "finding", "impression", "impressions", "conclusion", "conclusions", "opinion", "interpretation",
    "summary", "diagnosis", "report", "final report", "findings and impression", "findings/impression",
)  # fmt: skip
CONTEXT_SECTIONS = (
    "indication", "indications", "history", "clinical history", "clinical information", "clinical indication",
    "clinical data", "reason for exam", "reason for examination", "reason for study", "technique", "procedure",
    "comparison", "comparisons", "comparison study", "examination", "exam", "type of exam", "study", "views",
    "notification", "recommendation", "recommendations", "electronically signed by", "signed by", "dictated by",
)  # fmt: skip
"""Sections that do not tell what this image shows."""

_NAMES = "|".join(re.escape(name) for name in sorted((*IMAGE_SECTIONS, *CONTEXT_SECTIONS), key=len, reverse=True))
_HEADING = re.compile(
    rf"(?:^|(?<=[\s.;]))(?P<colon>(?=[A-Z])(?i:{_NAMES}))[ \t]*:|"  # within a line, too, with a colon
    rf"^[ \t]*(?P<alone>(?=[A-Z])(?i:{_NAMES}))[ \t\r]*$|"  # a line of its own
    r"^[ \t]*(?P<other>[A-Z][A-Z /&,-]{2,40}):[ \t\r]*$",  # a line of its own, in capitals, of any name
    re.MULTILINE,
)
_ITEM = re.compile(r"\s*(?:\(?\d{1,2}[.)](?=\s)|[-*•–—‣▪](?=\s))\s*")
_BREAK = re.compile(r"\n[ \t\r]*(?=\n)|\n(?=[ \t]*(?:\(?\d{1,2}[.)]\s|[-*•–—‣▪]\s))")
_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|(?<=[a-z)]{2})\.(?=[A-Z][a-z])")
_INNER_ITEM = re.compile(r"\s+(?:\(?\d{1,2}[.)])(?=\s+[A-Z])")
_NEVER_LAST = {
    "dr", "drs", "mr", "mrs", "ms", "prof", "st", "vs", "cf", "ca", "approx", "esp", "resp", "incl", "e.g", "i.e",
    "eg", "fig", "figs", "viz", "al", "vol", "ext", "dx", "hx",
}  # fmt: skip
_SELDOM_LAST = {"a.m", "p.m", "etc", "cm", "mm", "ml", "no", "nos", "min", "max", "post", "inf", "sup", "lat", "ant"}
_WRAPPED = 50  # a report whose longest line has so many characters has been wrapped; shorter lines end where they end


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a report.

    Attributes:
        text: The sentence, on one line, without the number or bullet of a list.
        section: Heading it stands under, in lower case; '' before the first.
        start: Where it begins in the report.
        stop: Where it ends there.
    """

    text: str
    section: str
    start: int
    stop: int

    @property
    def about_image(self) -> bool:
        """Whether it stands where a report tells what the image shows."""
        return self.section not in CONTEXT_SECTIONS


def split_report(report: str) -> list[Sentence]:
    """Return the sentences of a report in order; what has no word of two letters is left out."""
    width = max((len(line.rstrip()) for line in report.splitlines()), default=0)
    found = []
    for section, start, stop in _sections(report):
        for first, last in _blocks(report, start, stop, width):
            for begin, end in _ends(report, first, last):
                text = " ".join(report[begin:end].split())
                if re.search(r"[^\W\d_]{2}", text):
                    found.append(Sentence(text, section, begin, end))
    return found


def _sections(report: str) -> Iterator[tuple[str, int, int]]:
    """Yield heading, start and stop of what stands under it."""
    name, start = "", 0
    for heading in _HEADING.finditer(report):
        yield name, start, heading.start()
        name, start = " ".join(next(filter(None, heading.groups())).lower().split()), heading.end()
    yield name, start, len(report)


def _blocks(report: str, start: int, stop: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield parts that no sentence crosses: paragraphs, list items, and lines that were meant to end."""
    cuts = {found.end() for found in _BREAK.finditer(report, start, stop)}
    ends = (found.start() for found in re.compile("\n").finditer(report, start, stop))
    cuts |= {end for end in ends if _meant(report, end, stop, width)}
    edges = [start, *sorted(cuts), stop]
    for first, last in itertools.pairwise(edges):
        item = _ITEM.match(report, first, last)
        yield (item.end() if item else first), last


def _meant(report: str, end: int, stop: int, width: int) -> bool:
    """Tell whether a line ends where its author ended it: the next word is a capital, and would have fitted."""
    following = report[end:stop].split(maxsplit=1)
    if not following or not following[0][0].isupper():
        return False
    line = report[report.rfind("\n", 0, end) + 1 : end].rstrip()
    return width < _WRAPPED or len(line) + 1 + len(following[0]) <= width


def _ends(report: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the sentences of a part, blanks and list numbers left out."""
    begin = start
    for mark in _END.finditer(report, start, stop):
        if _last(report[begin : mark.start()], report[mark.end() : stop]):
            yield _trimmed(report, begin, mark.end())
            item = _INNER_ITEM.match(report, mark.end(), stop)
            begin = item.end() if item else mark.end()
    if report[begin:stop].strip():
        yield _trimmed(report, begin, stop)


def _last(said: str, following: str) -> bool:
    """Tell whether a full stop after `said` ends a sentence."""
    word = re.search(r"\S*$", said)
    last = word[0].lower().lstrip("([\"'") if word else ""
    after = following.lstrip()[:1]
    if last in _NEVER_LAST or (len(last) == 1 and last.isalpha()):
        return not after
    if last in _SELDOM_LAST:
        return not after or (after.isupper() and last not in ("no", "nos"))
    return not re.fullmatch(r"\(?\d{1,2}", said.strip())


def _trimmed(report: str, start: int, stop: int) -> tuple[int, int]:
    text = report[start:stop]
    return start + len(text) - len(text.lstrip()), stop - (len(text) - len(text.rstrip()))
