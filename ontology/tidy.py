"""Sentences made fit for matching without losing track of characters."""

from __future__ import annotations

import re
import unicodedata

_ODD = re.compile(r"\s\s|[^\S ]|[\x00-\x1f\x7f-\xa0\u00ad\u0300-\u036f\u200b-\u200f\ufeff]|^\s|\s$")


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
