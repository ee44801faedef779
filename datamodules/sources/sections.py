"""The sections of a typed report: findings, impression, and what stands in their place (layout of MIMIC-CXR)."""

from __future__ import annotations

import re
from typing import NamedTuple

_FINDINGS = (
    "findings", "finding", "findngs", "findins", "chest findings", "report", "frontal and lateral chest radiograph",
)  # fmt: skip
_IMPRESSION = (
    "impression", "impressions", "impresson", "imprssion", "conclusion", "conclusions", "opinion", "interpretation",
    "final impression", "summary",
)  # fmt: skip
_BOTH = ("findings/impression", "findings and impression", "impression and findings")
_OF = {**dict.fromkeys(_FINDINGS, "findings"), **dict.fromkeys((*_IMPRESSION, *_BOTH), "impression")}
_KNOWN = "|".join(re.escape(name) for name in sorted(_OF, key=len, reverse=True))
# A heading begins a line and ends in a colon; it is in capitals, or one of those that we know.
_HEADING = re.compile(rf"^[ \t]*(?P<name>[A-Z][A-Z /()&,'_-]{{2,60}}|(?i:{_KNOWN}))[ \t]*:", re.MULTILINE)
_CLOSING = re.compile(r"\s*\b(?:electronically signed|dictated by|approved by)\b.*\Z", re.IGNORECASE | re.DOTALL)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_TITLE = re.compile(r"[A-Z][A-Z /()&,:'_-]*")


class ReportText(NamedTuple):
    """The parts of a report that describe its images; `other` is for those without findings and impression."""

    findings: str = ""
    impression: str = ""
    other: str = ""


def sectioned(text: str) -> ReportText:
    """Split a report into its sections, each on one line.

    Where a section is there twice (an addendum stands above the report), its last one counts. A report without either
    is read as its last paragraph, as MIMIC's own code does; one without any heading is read whole.
    """
    text = text.replace("\r\n", "\n").replace("\0", " ")
    marks = list(_HEADING.finditer(text))
    found = {"findings": "", "impression": ""}
    for mark, end in zip(marks, [*(mark.start() for mark in marks[1:]), len(text)], strict=False):
        name = _OF.get(" ".join(mark["name"].lower().split()))
        body = one_line(_CLOSING.sub("", text[mark.end() : end]))
        if name and body:
            found[name] = body
    if any(found.values()):
        return ReportText(**found)
    return ReportText(other=_last_paragraph(text) if marks else _whole(text))


def one_line(text: str) -> str:
    """Return a text with every run of blanks, line ends and control characters as one blank."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _whole(text: str) -> str:
    """Return a text without its closing and without lines that are titles, such as FINAL REPORT."""
    lines = [line for line in _CLOSING.sub("", text).split("\n") if not _TITLE.fullmatch(line.strip())]
    return one_line("\n".join(lines)) or one_line(text)


def _last_paragraph(text: str) -> str:
    """Return the last paragraph that is more than headings in capitals."""
    for paragraph in reversed(_PARAGRAPH.split(_CLOSING.sub("", text))):
        line = one_line(paragraph)
        heading = _HEADING.match(paragraph)
        if line and not _TITLE.fullmatch(line) and not heading:
            return line
    return ""
