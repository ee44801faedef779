"""The sections of a report that was typed with headings, as those of MIMIC-CXR are; English, and some German.

A heading is a name that we know and a colon, at the start of a line, behind a full stop or, in capitals, anywhere; such
a name alone on its line; or any name in capitals and a colon at the start of a line. `LUNGS:` and the like are none:
they divide a section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# What a heading means; words that people type in its place. Others are kept under their own name.
ALIASES = {
    "findings": ("findings", "finding", "findngs", "findins", "chest findings", "report", "befund",
                 "frontal and lateral chest radiograph", "beurteilung und befund"),
    "impression": ("impression", "impressions", "impresson", "imprssion", "conclusion", "conclusions", "opinion",
                   "summary", "interpretation", "final impression", "diagnosis", "findings/impression",
                   "findings and impression", "impression and findings", "beurteilung", "zusammenfassung"),
    "indication": ("indication", "indications", "history", "clinical history", "clinical information", "clinical data",
                   "clinical indication", "reason for exam", "reason for examination", "reason for this examination",
                   "reason for study", "medical condition", "indikation", "fragestellung", "klinische angaben",
                   "anamnese", "rechtfertigende indikation"),
    "comparison": ("comparison", "comparisons", "comparison study", "compared to", "vergleich", "voraufnahmen"),
    "technique": ("technique", "procedure", "examination", "exam", "study", "type of exam", "type of examination",
                  "views", "technik", "methode", "untersuchung"),
    "communication": ("notification", "recommendation", "recommendations", "signed by", "electronically signed by",
                      "dictated by"),
    "": ("final report", "final addendum"),
}  # fmt: skip
READ = ("findings", "impression")
UNREAD = ("indication", "comparison", "technique", "communication")
"""Sections that do not tell what this image shows."""
_MEANT = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
_KNOWN = "|".join(re.escape(alias) for alias in sorted(_MEANT, key=len, reverse=True))
_PARTS = frozenset({
    "abdomen", "airway", "airways", "and", "bones", "bony", "cardiac", "cardiovascular", "devices", "diaphragm",
    "diaphragms", "heart", "hila", "lines", "lung", "lungs", "mediastinal", "mediastinum", "osseous", "other", "pleura",
    "pleural", "pulmonary", "ribs", "skeleton", "soft", "spaces", "spine", "structures", "support", "tissues",
    "trachea", "tubes", "upper", "vascular", "vasculature", "vessels",
})  # fmt: skip
_HEADING = re.compile(
    rf"^[^\S\n]*(?P<line>(?i:{_KNOWN})|[A-Z][A-Z /()&,'_-]{{2,60}})[^\S\n]*:|"
    rf"(?<=[.;])\s*(?P<inner>(?=[A-Z])(?i:{_KNOWN}))[^\S\n]*:|(?<=\s)(?P<loud>{_KNOWN.upper()})[^\S\n]*:|"
    rf"^[^\S\n]*(?P<alone>(?=[A-Z])(?i:{_KNOWN}))[^\S\n]*$|"
    r"(?P<closing>\b(?i:electronically signed|dictated by|approved by)\b)",
    re.MULTILINE,
)
_TITLE = re.compile(r"[A-Z][A-Z /()&,:'_-]*")


class Section(NamedTuple):
    """A section.

    Attributes:
        name: What its heading means, of `ALIASES`, else the heading; empty before the first.
        heading: The heading as it is typed, in lower case and without the colon.
        start: First character behind the heading.
        end: Character after the last.
    """

    name: str
    heading: str
    start: int
    end: int


class ReportText(NamedTuple):
    """The parts of a report that describe its images; `other` is for those without findings and impression."""

    findings: str = ""
    impression: str = ""
    other: str = ""


def split(text: str) -> list[Section]:
    """Return the sections of a report in order; those without a word are left out."""
    return [section for section in _all(text) if text[section.start : section.end].strip()]


def _all(text: str) -> Iterator[Section]:
    name, heading, start = "", "", 0
    for mark in _HEADING.finditer(text):
        typed = " ".join((mark["line"] or mark["inner"] or mark["loud"] or mark["alone"] or "").lower().split())
        if typed and typed not in _MEANT and _PARTS.issuperset(re.findall(r"\w+", typed)):
            continue
        yield Section(name, heading, start, mark.start())
        name, heading, start = _MEANT.get(typed, typed), typed, mark.end()
        if mark["closing"]:
            name = heading = "communication"
    yield Section(name, heading, start, len(text))


def readable(text: str) -> tuple[tuple[int, int], ...]:
    """Return the ranges of characters that describe this image.

    Findings and impression where there are any; otherwise the sections that are not `UNREAD`; where these stand alone,
    a last paragraph behind them that has no heading (as MIMIC's own code does), or else what stands before them.
    """
    sections = split(text)
    chosen = [section for section in sections if section.name in READ]
    chosen = chosen or [section for section in sections if section.name and section.name not in UNREAD]
    if not chosen and any(section.name for section in sections):
        chosen = [part for part in map(_last_paragraph, [text], sections[-1:]) if part]
    chosen = chosen or [section for section in sections if not section.name]
    return tuple((section.start, section.end) for section in chosen)


def _last_paragraph(text: str, section: Section) -> Section | None:
    """Return what follows the last empty line of a section."""
    stop = section.start + len(text[section.start : section.end].rstrip())
    ends = [blank.end() for blank in re.finditer(r"\n[^\S\n]*(?=\n)", text[section.start : stop])]
    return section._replace(start=section.start + ends[-1]) if ends else None


def sectioned(text: str) -> ReportText:
    """Return findings and impression of a report, each on one line, or what else describes the image.

    Where a section is there twice (an addendum stands above the report), its last one counts.
    """
    text = text.replace("\r\n", "\n").replace("\0", " ")
    found = {section.name: one_line(text[section.start : section.end]) for section in split(text)}
    if any(found.get(name) for name in READ):
        return ReportText(*(found.get(name, "") for name in READ))
    return ReportText(other=" ".join(_untitled(text[start:end]) for start, end in readable(text)))


def _untitled(text: str) -> str:
    """Return a text on one line, without lines in capitals such as CHEST RADIOGRAPH where any other is left."""
    lines = (line for line in text.split("\n") if not _TITLE.fullmatch(line.strip()))
    return one_line("\n".join(lines)) or one_line(text)


def one_line(text: str) -> str:
    """Return a text with every run of blanks, line ends and control characters as one blank."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
