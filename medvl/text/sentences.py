"""Reports to sentences, by rules: sections, lists, hard-wrapped lines, abbreviations.

What a general splitter gets wrong in radiology is what these rules are for: `Dr. ___`, `approx. 2.5 cm.`, `1. No
effusion. 2. ...` in one line, a finding per line without a full stop, a missing blank after one, a question mark before
what it questions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from medvl.text.sections import UNREAD, split

LONGEST = 2000  # characters; text without any full stop is cut at a blank before that
_NUMBER = r"\(?\d{1,2}[.)]"
_BULLET = r"[-*•–—‣▪]"
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\ufeff"  # control and format characters, blanks to the eye
_END = re.compile(
    rf"(?:[.!]+|(?<=\w)\?+)[\"')\]]*(?=[\s{_UNSEEN}]|$)|"
    r"[.!]+(?=[A-Z][a-z])|"  # the blank is missing
    rf"\n[^\S\n]*(?=\n)|\n(?=[^\S\n]*(?:{_NUMBER}|{_BULLET})\s)"
)
_ITEM = re.compile(rf"\s*(?:{_NUMBER}|{_BULLET})(?=\s)")
_INNER_ITEM = re.compile(rf"\s+{_NUMBER}(?=\s+[A-Z])")
_NEXT = re.compile(r"\s*(\S+)")
_WORD = re.compile(r"[^\W\d_]{2}")
_NEVER_LAST = frozenset({
    "dr", "drs", "mr", "mrs", "ms", "prof", "st", "vs", "cf", "ca", "approx", "esp", "resp", "incl", "e.g", "i.e",
    "eg", "fig", "figs", "viz", "al", "vol", "ext", "dx", "hx",
})  # fmt: skip
_SELDOM_LAST = frozenset({
    "a.m", "p.m", "etc", "cm", "mm", "ml", "no", "nos", "min", "max", "post", "inf", "sup", "lat", "ant",
})  # fmt: skip
_WRAPPED = 50  # a report whose longest line has so many characters has been wrapped; shorter lines end where they end


class Splitter:
    """Finds sentences: up to a full stop, an empty line, or the number or bullet of a list, which is left out.

    Args:
        abbreviations: Words, in lower case, whose full stop ends no sentence, besides `vs` and others of English.
    """

    def __init__(self, abbreviations: Iterable[str] = ()) -> None:
        self._never_last = _NEVER_LAST.union(abbreviations)

    def __call__(self, text: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield start and stop of each sentence in `text[start:stop]`, without the blanks around it."""
        stop = len(text) if stop is None else stop
        at = _behind(_ITEM, text, start, stop)
        for mark in _END.finditer(text, start, stop):
            line = text[mark.start()] == "\n"
            if mark.start() < at or (text[mark.start()] == "." and self._goes_on(text, at, mark, stop)):
                continue
            yield from _trimmed(text, at, mark.end())
            at = _behind(_ITEM if line else _INNER_ITEM, text, mark.end(), stop)
        yield from _trimmed(text, at, stop)

    def _goes_on(self, text: str, start: int, mark: re.Match[str], stop: int) -> bool:
        """Tell whether a full stop is that of an abbreviation or of a list number."""
        words = text[max(start, mark.start() - 12) : mark.start()].split()
        if not words:
            return False
        last = words[-1].lower().lstrip("([\"'")
        if last in _SELDOM_LAST:
            following = _NEXT.match(text, mark.end(), stop)
            return following is not None and (last in ("no", "nos") or not following[1][0].isupper())
        if last in self._never_last or (len(last) == 1 and last.isalpha()):
            return True
        return last.isdigit() and len(last) < 4 and text[start : mark.start()].strip("( \t\n") == last


def _behind(item: re.Pattern[str], text: str, at: int, stop: int) -> int:
    found = item.match(text, at, stop)
    return found.end() if found else at


def _trimmed(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    while stop - start > LONGEST:
        cut = max(text.rfind(" ", start, start + LONGEST), text.rfind("\n", start, start + LONGEST))
        cut = cut if cut > start else start + LONGEST
        yield from _trimmed(text, start, cut)
        start = cut
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    if start < stop:
        yield start, stop


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a report.

    Attributes:
        text: The sentence, on one line, without the number or bullet of a list.
        section: Heading it stands under, in lower case; '' before the first.
        start: Where it begins in the report.
        stop: Where it ends there.
        about_image: Whether it stands where a report tells what the image shows.
    """

    text: str
    section: str
    start: int
    stop: int
    about_image: bool = True


def split_report(report: str, abbreviations: Iterable[str] = ()) -> list[Sentence]:
    """Return the sentences of a report in order; what has no word of two letters is left out.

    Args:
        report: Its text.
        abbreviations: As of `Splitter`.
    """
    width = max((len(line.rstrip()) for line in report.split("\n")), default=0)
    splitter, found = Splitter(abbreviations), []
    for section in split(report):
        for first, last in _lines(report, section.start, section.end, width):
            for start, stop in splitter(report, first, last):
                text = " ".join(report[start:stop].split())
                if _WORD.search(text):
                    found.append(Sentence(text, section.heading, start, stop, section.name not in UNREAD))
    return found


def _lines(report: str, start: int, stop: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield parts that no sentence crosses, for their last line was meant to end."""
    ends = (found.start() for found in re.compile("\n").finditer(report, start, stop))
    cuts = [end for end in ends if _meant(report, end, stop, width)]
    yield from itertools.pairwise([start, *cuts, stop])


def _meant(report: str, end: int, stop: int, width: int) -> bool:
    """Tell whether a line ends where its author ended it: the next word is a capital, and would have fitted."""
    following = _NEXT.match(report, end, stop)
    if following is None or not following[1][0].isupper():
        return False
    line = report[report.rfind("\n", 0, end) + 1 : end].rstrip()
    return width < _WRAPPED or len(line) + 1 + len(following[1]) <= width
