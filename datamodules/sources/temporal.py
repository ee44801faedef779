"""Wording that compares with an earlier study, which no model that sees one image can learn: kept, cut or dropped."""

from __future__ import annotations

import re
from typing import Literal

from medvl.text.sentences import split_report

Temporal = Literal["keep", "cut", "drop"]

_PRIOR = r"(?:the |a )?(?:most )?(?:recent |prior|previous|earlier|preceding)[\w ]*|___"
# What can be taken out of a sentence and leaves one.
_LOOSE = re.compile(
    rf",?\s*\b(?:as )?(?:compared|in comparison) (?:to|with) (?:{_PRIOR})"
    rf"|,?\s*\bsince (?:{_PRIOR})"
    r"|,?\s*\b(?:is|are|has|have)?\s*(?:again|once more|newly)(?= (?:seen|noted|demonstrated|visualised|visualized))"
    r"|\b(?:unchanged|stable|new|persistent|persisting|interval|stably|newly|again)\b,?",
    re.IGNORECASE,
)
_TEMPORAL = re.compile(
    _LOOSE.pattern
    + r"|\b(?:(?:has|have|had) (?:increased|decreased|improved|worsened|progressed|resolved|cleared|developed|enlarged)"
    r"|(?:improving|worsening|resolving|evolving)|(?:no|without) (?:\w+ ){0,2}change"
    r"|(?:prior|previous) (?:study|exam\w*|film|radiograph\w*))\b",
    re.IGNORECASE,
)
# In Spanish, as whole words and as the stems of PadChest's reports; nothing of it can be taken out.
_SPANISH = re.compile(
    r"\b(?:sin (?:\w+ ){0,2}cambi\w*|respect[oa]? (?:al? )?(?:\w+ )?(?:rx|estudi\w*|previ\w*|control\w*)"
    r"|(?:rx|radiografi\w*|estudi\w*|control\w*) (?:previ|anterior)\w*|previ(?:[oa]s?)?|estabi?l(?:es?)?|empeor\w*)\b",
    re.IGNORECASE,
)
_NOTHING_LEFT = re.compile(
    r"\W*(?:(?:is|are|there|no|the|without|significant|acute|other|otherwise|and|of|in|appearance|findings?|change[sd]?)"
    r"\W*)*",
    re.IGNORECASE,
)


def is_temporal(text: str) -> bool:
    """Return whether a text speaks of an earlier study or of change, in English or in Spanish."""
    return bool(_TEMPORAL.search(text) or _SPANISH.search(text))


def timeless(text: str, rule: Temporal) -> str:
    """Return a text without what compares.

    `keep` changes nothing. `cut` takes out words such as `unchanged`, `new` and `compared to the prior`, and sentences
    that say nothing else; what cannot be taken out (`has increased`) stays. `drop` leaves out every sentence that
    compares.
    """
    if rule == "keep" or not is_temporal(text):
        return text
    sentences = [sentence.text for sentence in split_report(text)]
    if rule == "drop":
        return " ".join(sentence for sentence in sentences if not is_temporal(sentence))
    kept = [_cut(sentence) if is_temporal(sentence) else sentence for sentence in sentences]
    return " ".join(filter(None, kept))


def _cut(sentence: str) -> str:
    left = re.sub(r"\s+([.,;:])", r"\1", " ".join(_LOOSE.sub(" ", sentence).split())).lstrip(",;. ")
    left = re.sub(r"\b(?:is|are)(?=[.,;]|$)", "", left).replace(" .", ".")
    return "" if _NOTHING_LEFT.fullmatch(left) else left[:1].upper() + left[1:]
