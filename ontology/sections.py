"""The sections of a report that was typed with headings, as those of MIMIC-CXR are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# What a heading means; words that people type in its place. Others are kept under their own name.
ALIASES = {
    "findings": ("findings", "finding", "findngs", "chest findings", "report", "befund", "beurteilung und befund"),
    "impression": ("impression", "impressions", "impresson", "conclusion", "conclusions", "opinion", "summary",
                   "interpretation", "final impression", "beurteilung", "zusammenfassung"),
    "indication": ("indication", "indications", "history", "clinical history", "clinical information",
                   "reason for exam",
                   "reason for examination", "clinical indication", "indikation", "fragestellung", "klinische angaben",
                   "anamnese", "rechtfertigende indikation"),
    "comparison": ("comparison", "comparisons", "compared to", "vergleich", "voraufnahmen"),
    "technique": ("technique", "procedure", "examination", "exam", "study", "type of examination", "technik",
                  "methode", "untersuchung"),
}  # fmt: skip
READ = ("findings", "impression")
UNREAD = ("indication", "comparison", "technique")
_NAMES = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
# Capitals and a colon at the start of a line, or any known heading there.
_HEADING = re.compile(
    r"(?:^|(?<=\n))[^\S\n]*"
    rf"(?P<name>[A-Z][A-Z /()&,-]{{2,60}}|(?i:{'|'.join(sorted(_NAMES, key=len, reverse=True))}))[^\S\n]*:"
)


class Section(NamedTuple):
    """A section: its name in lower case (aliases resolved; empty before the first heading) and its characters."""

    name: str
    start: int
    end: int


def split(text: str) -> list[Section]:
    """Return the sections of a report in order; those without a word are left out."""
    return [section for section in _all(text) if text[section.start : section.end].strip()]


def _all(text: str) -> Iterator[Section]:
    name, start = "", 0
    for heading in _HEADING.finditer(text):
        yield Section(name, start, heading.start())
        known = " ".join(heading["name"].lower().split())
        name, start = _NAMES.get(known, known), heading.end()
    yield Section(name, start, len(text))


def readable(text: str) -> tuple[tuple[int, int], ...]:
    """Return the ranges of characters that describe this image.

    Findings and impression where there are any; otherwise all but indication, comparison and technique; and where
    these stand alone with a text behind them that has no heading (MIMIC's "last paragraph"), that text.
    """
    sections = split(text)
    if not any(section.name for section in sections):
        return ((0, len(text)),)
    chosen = [section for section in sections if section.name in READ]
    chosen = chosen or [section for section in sections if section.name and section.name not in UNREAD]
    if not chosen:
        last = sections[-1]
        body = text[last.start : last.end]
        paragraph = re.search(r"\n[^\S\n]*\n(?![\s\S]*\n[^\S\n]*\n[\s\S]*\S)", body)
        chosen = [Section("", last.start + paragraph.end(), last.end)] if paragraph else []
    return tuple((section.start, section.end) for section in chosen)
