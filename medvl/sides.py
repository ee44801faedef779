"""Left and right in a sentence: what it says of the mirrored image."""

from __future__ import annotations

import re

SIDES = {"left": "right", "izquierdo": "derecho", "izquierda": "derecha"}
SIDES |= {f"{left}s": f"{right}s" for left, right in list(SIDES.items()) if left != "left"}
SIDES |= {right: left for left, right in list(SIDES.items())}
_SIDE = re.compile(rf"\b({'|'.join(sorted(SIDES, key=len, reverse=True))})(?=(?:wards?|most)?\b)", re.IGNORECASE)

# Stems of things that lie on one side of the body (a mirrored heart is dextrocardia), and abbreviated sides. Too wide
# a net only costs a mirror image.
_TIED = re.compile(
    r"heart|cardi|ventric|ventríc|atri|aort|aórt|gastric|gástric|stomach|estómago|estomago|spleen|splen|esplén|bazo|"
    r"liver|hepat|hepát|hígado|higado|azygo|ácigo|acigo|lingul|língul|situs|dextro|levo|pacemaker|marcapaso|corazón|"
    r"corazon|middle lobe|lóbulo medio|lobulo medio|"
    r"\b(?:lul|lll|rul|rml|rll|lsi|lii|lsd|lmd|lid|izq|izqdo|izqda|dch|dcho|dcha|der|lt|rt|l|r)\b",
    re.IGNORECASE,
)


def names_side(phrase: str) -> bool:
    """Tell whether a phrase says left or right, in English or Spanish."""
    return _SIDE.search(phrase) is not None


def swap_sides(phrase: str) -> str | None:
    """Return `phrase` as it reads for the mirrored image, in English or Spanish, case and gender kept.

    Returns:
        The phrase with left and right swapped (unchanged when it names no side), or None when it names a thing that
        lies on one side of the body or abbreviates a side, so that the mirrored image has no true wording.
    """
    if _TIED.search(phrase):
        return None
    return _SIDE.sub(_swapped, phrase)


def _swapped(match: re.Match[str]) -> str:
    word = match[0]
    other = SIDES[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
