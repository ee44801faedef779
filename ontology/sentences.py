"""Text cut into sentences, and sentences made fit for matching without losing track of characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

LONGEST = 2000  # characters; text without any full stop is cut at a space before that
_END = re.compile(r"[.!]+(?=\s|[A-Z][a-z]|$)|(?<=\w)\?+(?=\s|$)|\n\s*\n|\n(?=\s*(?:\d+[.)]|[-*•])\s)")
_ODD = re.compile(r"\s\s|[^\S ]|[\x00-\x1f\x7f-\xa0\u00ad\u0300-\u036f\u200b-\u200f\ufeff]|^\s|\s$")


class Splitter:
    """Finds sentences: up to a full stop before a space or a capital letter, an empty line, or a list number.

    Args:
        abbreviations: Words whose full stop ends no sentence, as `vs`.
    """

    def __init__(self, abbreviations: Iterable[str] = ()) -> None:
        self._abbreviations = frozenset(abbreviations)

    def __call__(self, text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield start and end of each sentence in `text[start:end]`, without the spaces around it."""
        stop = len(text) if end is None else end
        at = start
        for match in _END.finditer(text, start, stop):
            if text[match.start()] == "." and self._goes_on(text, at, match.start()):
                continue
            yield from _trimmed(text, at, match.end())
            at = match.end()
        yield from _trimmed(text, at, stop)

    def _goes_on(self, text: str, start: int, stop: int) -> bool:
        """Tell whether a full stop at `stop` is that of an abbreviation or of a list number."""
        words = text[max(start, stop - 12) : stop].split()
        return bool(words) and (words[-1].lower() in self._abbreviations or _is_number(text[start:stop]))


def _is_number(text: str) -> bool:
    """Tell whether "1" is all that stands before the full stop."""
    return len(text) < 12 and text.strip().isdigit()


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > LONGEST:
        cut = max(text.rfind(" ", start, start + LONGEST), text.rfind("\n", start, start + LONGEST))
        cut = cut if cut > start else start + LONGEST
        yield from _trimmed(text, start, cut)
        start = cut
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def is_odd(sentence: str) -> bool:
    """Tell whether a sentence needs `tidy`."""
    return bool(_ODD.search(sentence))


def tidy(sentence: str) -> tuple[str, list[int]]:
    """Return a sentence with single spaces, composed letters and no control characters.

    Returns:
        The text, and where each of its characters stood; one more entry for its end.
    """
    kept: list[str] = []
    places: list[int] = []
    for at, character in enumerate(sentence):
        if unicodedata.combining(character) and kept:
            joined = unicodedata.normalize("NFC", kept[-1] + character)
            if len(joined) == 1:
                kept[-1] = joined
            continue
        if character.isspace() or unicodedata.category(character) in ("Cc", "Cf"):
            if unicodedata.category(character) == "Cf" or not kept or kept[-1] == " ":
                continue
            character = " "
        kept.append(character)
        places.append(at)
    places.append(len(sentence))
    return "".join(kept), places
