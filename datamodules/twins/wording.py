"""Whole reports of synthetic studies, in two dialects, from what the renderer painted."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.twins.findings import Finding

Dialect = Literal["mimic", "chexpert"]
_SIZE, _DEGREE = ("small", "moderate", "large"), ("mild", "moderate", "severe")


@dataclass(frozen=True, slots=True)
class Term:
    """How a kind of finding is reported: its canonical name, CheXpert label, nouns by dialect, and severities."""

    disease: str
    label: str
    mimic: tuple[str, ...]
    chexpert: tuple[str, ...]
    grades: tuple[str, ...] = ()


TERMS: dict[str, Term] = {
    "pleural effusion": Term(
        "pleural effusion",
        "Pleural Effusion",
        ("pleural effusion", "effusion"),
        ("pleural fluid collection", "pleural fluid"),
        _SIZE,
    ),
    "pneumothorax": Term(
        "pneumothorax", "Pneumothorax", ("pneumothorax",), ("pleural air collection", "pneumothorax"), _SIZE
    ),
    "consolidation": Term(
        "consolidation",
        "Consolidation",
        ("consolidation", "focal consolidation"),
        ("airspace consolidation", "airspace disease"),
        _DEGREE,
    ),
    "nodule": Term("nodule", "Lung Lesion", ("nodule", "pulmonary nodule"), ("nodular density", "lung nodule"), _SIZE),
    "mass": Term("mass", "Lung Lesion", ("mass", "lung mass"), ("mass-like opacity", "pulmonary mass"), _SIZE),
    "atelectasis": Term(
        "atelectasis", "Atelectasis", ("atelectasis",), ("subsegmental volume loss", "plate-like atelectasis"), _DEGREE
    ),
    "interstitial pattern": Term(
        "edema", "Edema", ("interstitial edema", "pulmonary edema"), ("interstitial fluid overload", "edema"), _DEGREE
    ),
    "fibrosis": Term("fibrosis", "Lung Opacity", ("fibrosis", "scarring"), ("fibrotic change",), _DEGREE),
    "pleural thickening": Term(
        "pleural thickening", "Pleural Other", ("pleural thickening",), ("thickened pleura",), _DEGREE
    ),
    "calcified granuloma": Term("granuloma", "Lung Lesion", ("calcified granuloma",), ("calcified nodular focus",)),
    "cavitation": Term("cavitation", "Lung Lesion", ("cavitary lesion",), ("cavity",), _SIZE),
    "bulla": Term("bulla", "No Finding", ("bulla",), ("emphysematous bleb",), _SIZE),
    "bronchiectasis": Term("bronchiectasis", "Lung Opacity", ("bronchiectasis",), ("bronchial dilatation",), _DEGREE),
    "hilar enlargement": Term(
        "hilar enlargement", "Enlarged Cardiomediastinum", ("hilar enlargement",), ("hilar prominence",), _DEGREE
    ),
    "rib fracture": Term("fracture", "Fracture", ("rib fracture",), ("fracture of a rib",)),
    "pacemaker": Term("pacemaker", "Support Devices", ("pacemaker",), ("cardiac pacing device",)),
    "hiatal hernia": Term("hiatal hernia", "No Finding", ("hiatal hernia",), ("hiatus hernia",), _SIZE),
    "aortic elongation": Term(
        "tortuous aorta", "Enlarged Cardiomediastinum", ("tortuous aorta",), ("elongated aorta",)
    ),
    "cardiomegaly": Term(
        "cardiomegaly", "Cardiomegaly", ("cardiomegaly",), ("enlargement of the cardiac silhouette",), _DEGREE
    ),
}
_ZONES = {"upper": ("upper", "apical"), "middle": ("mid", "midlung"), "lower": ("lower", "basilar"), "": ("", "")}
_SAID = {
    "mimic": ("{Np}.", "{Np} is seen.", "{Np} is present.", "There is {np}."),
    "chexpert": ("Evidence of {np}.", "Findings show {np}.", "{Np}, as described.", "The film shows {np}."),
}
_HEDGED = {
    "mimic": ("Possible {np}.", "{Np} cannot be excluded."),
    "chexpert": ("Questionable {np}.", "May reflect {np}."),
}
_DENIED = {
    "mimic": ("There is no {a} or {b}.", "No {a}, {b}, or {c}.", "No evidence of {a}."),
    "chexpert": ("Negative for {a}.", "{A} and {b} are not identified.", "Lungs are without {a}."),
}
_NORMAL = {
    "mimic": ("The lungs are clear.", "The cardiomediastinal silhouette is normal.", "Bony structures are intact."),
    "chexpert": ("Clear lungs.", "Normal heart size.", "Osseous structures are unremarkable."),
}
_CLEAR = {"mimic": "No acute cardiopulmonary process.", "chexpert": "1. No radiographic evidence of acute disease."}
_CHANGE = ("Unchanged", "New", "Stable", "Persistent")
_DENIABLE = (  # two more than the kinds of an image at most, so that three are left to deny
    "Pleural Effusion", "Pneumothorax", "Consolidation", "Edema", "Atelectasis", "Cardiomegaly", "Fracture"
)  # fmt: skip
_REASONS = ("cough", "fever", "shortness of breath", "chest pain", "fall", "line placement")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a report says of one finding, as an extractor ought to find it."""

    disease: str
    status: str
    adjectives: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A report: its sections, its CheXpert labels, and what it states."""

    findings: str
    impression: str
    labels: dict[str, int]
    stated: tuple[Stated, ...]


def side_of(finding: Finding) -> str:
    """Return `left`, `right`, `bilateral`, or '' for what lies in the middle."""
    sides = {lesion.side for lesion in finding.lesions}
    return "bilateral" if len(sides) > 1 else "" if sides == {"midline"} else sides.pop()


def severity_of(finding: Finding) -> str:
    """Return the severity of the largest lesion, in the words of its kind; '' where it has no grades."""
    grades = TERMS[finding.kind].grades
    return grades[max(lesion.grade for lesion in finding.lesions)] if grades else ""


def factors_of(finding: Finding) -> dict[str, str]:
    """Return what was painted: disease, side, severity and zone."""
    zones = {lesion.zone for lesion in finding.lesions}
    return {
        "disease": TERMS[finding.kind].disease,
        "side": side_of(finding),
        "severity": severity_of(finding),
        "zone": zones.pop() if len(zones) == 1 else "",
    }


def tell(rng: np.random.Generator, painted: Sequence[Finding], dialect: Dialect = "mimic", prior: bool = False) -> Told:
    """Write the report of what was painted.

    One finding in ten is hedged, a severity goes unsaid in one of seven, a side in one of twenty; normal studies deny
    findings. Nothing is affirmed that was not painted.

    Args:
        rng: Choices of words.
        painted: The findings in the image.
        dialect: Whose words: the two share few.
        prior: Whether sentences may compare with an earlier study.
    """
    sentences: list[str] = []
    stated: list[Stated] = []
    labels: dict[str, int] = {}
    for finding in painted:
        term, factors = TERMS[finding.kind], factors_of(finding)
        hedged = rng.random() < 0.1
        adjective = factors["severity"] if rng.random() < 6 / 7 else ""
        side = factors["side"] if rng.random() < 0.95 else ""
        zone = _ZONES[factors["zone"]][dialect == "chexpert"] if side and rng.random() < 0.5 else ""
        phrase = _phrase(rng, term, adjective, side, zone, dialect)
        if prior and rng.random() < 0.4:
            phrase = f"{_CHANGE[int(rng.integers(len(_CHANGE)))].lower()} {phrase}"
        frame = _pick(rng, (_HEDGED if hedged else _SAID)[dialect])
        sentences.append(frame.format(np=phrase, Np=phrase[:1].upper() + phrase[1:]))
        status = "uncertain" if hedged else "present"
        stated.append(Stated(term.disease, status, tuple(filter(None, [adjective])), tuple(filter(None, [side]))))
        if term.label != "No Finding":
            labels[term.label] = -1 if hedged and labels.get(term.label) != 1 else 1
    impression = " ".join(sentences[:2]) if painted else _CLEAR[dialect]
    here = {TERMS[finding.kind].label for finding in painted}
    absent = [t for t in TERMS.values() if t.label in _DENIABLE and t.label not in here]
    names = [absent[int(i)] for i in rng.permutation(len(absent))[:3]]
    frame = _pick(rng, _DENIED[dialect])
    said = [_pick(rng, getattr(term, dialect)) for term in names]
    sentences.append(frame.format(a=said[0], b=said[1], c=said[2], A=said[0][:1].upper() + said[0][1:]))
    for term, key in zip(names, ("{a}", "{b}", "{c}"), strict=True):
        if key in frame.lower():
            stated.append(Stated(term.disease, "absent"))
            labels[term.label] = 0
    if not painted:
        sentences = [sentences[-1], *(_NORMAL[dialect][int(i)] for i in rng.permutation(3)[: int(rng.integers(1, 4))])]
        labels["No Finding"] = 1
    return Told(" ".join(sentences), impression, labels, tuple(stated))


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _phrase(rng: np.random.Generator, term: Term, adjective: str, side: str, zone: str, dialect: Dialect) -> str:
    noun = _pick(rng, getattr(term, dialect))
    if dialect == "mimic":
        return " ".join(filter(None, [adjective, side, zone and f"{zone} lung", noun]))
    place = {"": "", "bilateral": "on both sides"}.get(
        side, f"on the {side}" + (f" in the {zone} zone" if zone else "")
    )
    return " ".join(filter(None, [adjective, noun, place]))


def typed(rng: np.random.Generator, told: Told, prior: bool) -> str:
    """Return a report as MIMIC-CXR stores it: headings, wrapped lines, `___` where something was taken out.

    One in eight lacks findings, one in twelve the impression; one in twenty is a paragraph without headings; one in
    twenty has an addendum on top.
    """
    indication = f"___ year old {_pick(rng, ('woman', 'man'))} with {_pick(rng, _REASONS)}  // evaluate ___"
    compared = "Chest radiograph from ___." if prior else "None."
    form = rng.random()
    parts = [("EXAMINATION", "CHEST (PA AND LAT)"), ("INDICATION", indication), ("COMPARISON", compared)]
    if form < 0.05:
        body = "\n \n".join([*map(_section, parts), _wrapped(told.findings)])
    else:
        parts += [] if form < 0.175 else [("FINDINGS", told.findings)]
        parts += [] if form > 0.92 else [("IMPRESSION", told.impression)]
        body = "\n \n".join(map(_section, parts))
    if rng.random() < 0.05:
        body = " ADDENDUM  Discussed with Dr. ___ by telephone at ___.\n \n" + body
    return f"{' ' * 33}FINAL REPORT\n{body}\n"


def _section(part: tuple[str, str]) -> str:
    return _wrapped(f"{part[0]}:  {part[1]}")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 78, initial_indent=" ", subsequent_indent=" ", break_on_hyphens=False)
