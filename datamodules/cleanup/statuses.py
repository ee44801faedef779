"""What a report sentence does: affirm a finding, deny one, call something normal, or say nothing of the image.

A finder (the ontology's lexicon and context, handed in by the command) decides on the findings that it can name. On the
rest words decide: a small set of cues with their scope, after NegEx (Chapman et al. 2001, J Biomed Inform 34:301),
where a cue before a finding, in the same clause, denies it, as does one of another list after it; phrases that only
look like denials ("no change in the effusion") are taken out first. Words alone tell technique, advice and the like. In
doubt a sentence counts as a finding: it keeps its boxes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """What a sentence does."""

    FINDING = "finding"
    NEGATED = "negated"
    NORMAL = "normal"
    NON_DIAGNOSTIC = "non-diagnostic"


class Named(NamedTuple):
    """A finding that is named in a sentence.

    Attributes:
        start: First character.
        stop: Character after the last.
        affirmed: Whether it is there, or may be; None where it is called past, which may mean gone or old.
    """

    start: int
    stop: int
    affirmed: bool | None


Judge = Callable[[str], Status]
"""Tells what a sentence does; `judge_by_words` is one, `judge_by` makes another."""
Finder = Callable[[str], Iterable[Named]]
"""Finds what a sentence names."""


def _words(*parts: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(parts)})")


_FINDINGS = _words(
    "effusion", "fluid", "pneumothora", "hydropneumo", "consolidat", "opaci", "infiltrat", "nodul", r"mass(?:es)?\b",
    "lesion", "atelecta", "o?edema", "congest", "engorg", "cardiomegal", "enlarg", "fractur", "fibro", r"scar(?:s|r)?",
    "thicken", "granulom", "calcif", "herni", "emphysem", "bulla", "cavit", "bronchiect", "bronchitis", "pneumon",
    "tortuo", "elongat", "uncoil", "unfold", "widen", "prominen", "elevat", "eventrat", "blunt", "deviat", "displac",
    "shift", "hyperinflat", "hyperexpan", "hyperaerat", "overinflat", "hyperlucen", "flatten", "collaps", "deform",
    "degenerat", "scolio", "kypho", "osteophyt", "spondyl", "spur", "arthr", "metast", r"\w*adenopath", "abscess",
    "reticul", r"haz(?:y|e|iness)", "shadow", r"densit(?:y|ies)", "tubercul", "sclero", "ectas", "ectatic", "aneurysm",
    "dilat", "abnormal", "disease", "process", "crowding", "erosi", "lytic", "free air", "pneumoperiton",
    "pneumomediast", "volume loss", "atheroscl", "failure", "malignan", "neoplas", "tumou?r", "cancer", "infect",
    "injur", "dislocat", r"interstitial (?:pattern|change)", "streak", "septal", "kerley", "cephali[sz]", "fullness",
    "plaque", "cyst", "obscur",
    # devices and what operations leave
    "tube", "catheter", "pacemaker", "pacer", "picc", r"lines?\b", r"leads?\b", "generator", r"clips?\b", "wire",
    "stent", "valve", "prosthe", r"port\b", "port-a", "drain", "device", "cabg", "surgical", "staple",
    "hardware", "screw", "electrode", "cannula", "implant", r"\w+(?:ectomy|otomy|stomy)\b", "post-?operat", "disrupt",
)  # fmt: skip
_ANATOMY = _words(
    "lung", "heart", "cardi", "mediast", r"hil(?:um|a|ar)\b", "pleur", "costophrenic", r"\w*diaphragm", "trache",
    "carina", "aort", r"ribs?\b", r"bon(?:e|es|y)\b", "osseous", "skelet", "spine", "vertebr", "parenchyma", "abdom",
    "vascul", "silhouette", "contour", r"ap(?:ex|ices|ical)\b", r"lobes?\b", "lobar", "sulc", "hemithora", "clavic",
    "airway", "soft tissue", "stomach", "bowel", "interstiti", "marking",
)  # fmt: skip
_NORMAL = _words(
    r"normal\b", "unremarkable", r"clear\b", "intact", r"within (?:normal )?limits", "midline", "central", "sharp",
    r"well[- ](?:aerated|expanded|inflated|defined|maintained)", "preserved", "symmetric", "patent", r"negative\b",
    r"(?:no|without)(?: \w+){0,3} findings?\b",
)  # fmt: skip
_DENIES = _words(
    r"no\b", r"not\b", r"n't\b", r"without\b", "absent", "absence of", r"neither\b", r"nor\b", "negative for",
    r"(?:free|clear|devoid|lack|removal|resolution|clearance|clearing) (?:of|from)\b", r"lacks?\b", "rules? out",
    r"(?:has|have) (?:resolved|cleared)\b",
)  # fmt: skip
_DENIED = _words(
    r"not (?:\w+ ){0,2}(?:seen|identified|present|evident|visible|visuali[sz]ed|demonstrated|appreciated|noted)",
    r"not (?:\w+ ){0,2}(?:detected|observed|found|apparent|recogni[sz]ed|shown)", "no longer", "absent", r"excluded\b",
    "ruled out", "resolved", "cleared", "disappeared", "unlikely", r"(?:has|have) been removed", r"(?:is|are) negative",
)  # fmt: skip
_SEEMING = re.compile(  # says nothing for or against what follows or precedes
    r"(?:\bno|\bnot|\bwithout)(?: an?y?)?(?: (?:significant|definite|appreciable|substantial|relevant|interval|short|"
    r"major|further|obvious)(?:ly)?)* (?:chang\w*|increas\w*|decreas\w*|progress\w*|worsen\w*|improve\w*)"
    r"(?: (?:in|of|from|since)\b)?|\b(?:can ?not|not)(?: be| entirely| completely)* (?:exclu\w+|ruled? out)|"
    r"\b(?:partial\w*|incomplete\w*|near\w*|almost|mostly|largely|not)(?: completely| fully)? (?:resol|clear)\w*|"
    r"\bno doubt|\bnot (?:only|necessarily|certain\w*)"
)
_ASIDE = re.compile(  # comparison beside what is said
    r"\b(?:as |when |in )?compar(?:ed|ison)(?: is made)? (?:to|with)[^,;.]*|"
    r"\bsince (?:the )?(?:prior|previous|last)[^,;.]*"
)
_CLAUSE = re.compile(
    r"[;:]|\.\s|\b(?:but|however|although|though|except|apart from|aside from|other than|while|whereas|yet)\b|"
    r"(?:,|\band)(?= *(?:and )?(?:there (?:is|are)|stable|unchanged|persistent|mild|moderate|severe|minimal|"
    r"worsening)\b)"
)
_STARTS = re.compile(  # of sentences that advise or tell whom the result was told to, whatever findings they name
    r"(?:recommend|suggest|follow[- ]?up|please|consider\b|(?:clinical(?:ly)? )?correlat|(?:these|the|this|above|"
    r"critical|\s)*(?:results?|findings?|impressions?|reports?)(?: \w+){0,4} (?:discuss|communicat|telephon|report|"
    r"paged|notif|convey|relay|called|told)|dr\b|(?:[\w-]+ ){0,6}notified)"
)
_ADMINISTRATIVE = _words(
    "compar", "previous", "prior", "earlier", "stud(?:y|ies)", "exam", "radiograph", "film", "view", "techni",
    "portable", "upright", "supine", "erect", "semi-?erect", "rotat", "inspirat", "expos", "project", "obtain",
    "acquir", "perform", "history", "indication", "clinical", "correlat", "recommend", "advis", "follow-?up",
    "telephon", "communicat", "discuss", "notif", "dictat", "report", "chang", "unchanged", "stable", "motion",
    r"dated?\b", "wet read", "attending", "above",
)  # fmt: skip


def judge_by(find: Finder) -> Judge:
    """Return a judge that believes `find` on what it names, and words on all else.

    Args:
        find: Finds what a sentence names, and whether it is there.
    """

    def judge(sentence: str) -> Status:
        if _STARTS.match(_plain(sentence)):
            return Status.NON_DIAGNOSTIC
        named = list(find(sentence))
        if any(one.affirmed for one in named):
            return Status.FINDING
        rest, denied = sentence, False
        for one in named:
            if one.affirmed is False:
                rest, denied = f"{rest[: one.start]}{' ' * (one.stop - one.start)}{rest[one.stop :]}", True
        if not denied:
            return judge_by_words(sentence)
        if any(_all_mentions(_said(_plain(rest)))):
            return Status.FINDING
        said = _plain(sentence)
        return Status.NORMAL if _NORMAL.search(said) and not _DENIES.search(said) else Status.NEGATED

    return judge


def judge_by_words(sentence: str) -> Status:
    """Return what a sentence does, by its words."""
    text = _plain(sentence)
    if _STARTS.match(text):
        return Status.NON_DIAGNOSTIC
    said = _said(text)
    if mentions := _all_mentions(said):
        return Status.FINDING if any(mentions) else Status.NEGATED
    if _NORMAL.search(said):
        return Status.NORMAL
    if _ADMINISTRATIVE.search(text) and not _ANATOMY.search(said):
        return Status.NON_DIAGNOSTIC
    return Status.NEGATED if _DENIES.search(said) else Status.FINDING


def _plain(sentence: str) -> str:
    return " ".join(sentence.lower().split()).strip(" .")


def _said(text: str) -> str:
    """Return a text without what says nothing for or against a finding."""
    return _SEEMING.sub(" ", _ASIDE.sub(" ", text))


def _all_mentions(said: str) -> list[bool]:
    """Return for each finding named whether it is affirmed."""
    return [affirmed for clause in _CLAUSE.split(said) for affirmed in _mentions(clause)]


def _mentions(clause: str) -> list[bool]:
    """Return for each finding named in a clause whether it is affirmed."""
    cue, last = _DENIES.search(clause), 0
    for denied in _DENIED.finditer(clause):
        last = denied.start()
    begins = cue.start() if cue else len(clause)
    return [not (begins < found.start() or found.start() < last) for found in _FINDINGS.finditer(clause)]
