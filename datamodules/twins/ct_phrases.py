"""Sentences about chest slices: a planned finding (painted or not), a denial, or normal anatomy."""

from __future__ import annotations

import numpy as np

from datamodules.twins.ct_lesions import CtFinding

PLACED = 0.32  # share of sentences about a finding that say where it is, as on films
# Noun in the singular and the plural.
NOUNS = {
    "nodule": ("nodule|nodules", "pulmonary nodule|pulmonary nodules", "nodular lesion|nodular lesions"),
    "mass": ("mass|masses", "pulmonary mass|pulmonary masses", "tumour|tumours"),
    "consolidation": ("consolidation|consolidations", "airspace consolidation|areas of consolidation"),
    "ground glass": ("ground-glass opacity|ground-glass opacities", "area of ground glass|areas of ground glass"),
    "bulla": ("bulla|bullae", "emphysematous bulla|emphysematous bullae", "air cyst|air cysts"),
    "effusion": ("pleural effusion|pleural effusions", "layering pleural fluid|layering pleural fluid"),
    "pneumothorax": ("pneumothorax|pneumothoraces", "anterior pneumothorax|anterior pneumothoraces"),
    "aneurysm": ("aneurysm of the descending aorta|", "dilated descending aorta|", "aortic aneurysm|"),
    "bone lesion": ("sclerotic bone lesion|", "sclerotic focus in the vertebral body|", "osteoblastic lesion|"),
}
_PRESENT = (
    "{np}{at}.", "{np}{at}.", "There {be} {a}{at}.", "{a} {be} seen{at}.", "{a} {be} noted{at}.",
    "The slice shows {a}{at}.", "Evidence of {np}{at}.", "{a}{at} {be} present.", "Findings consistent with {np}{at}.",
    "Axial image with {a}{at}.", "CT demonstrates {a}{at}.", "{np} {be} visible{at}.",
)  # fmt: skip
_NEGATED = (
    "No {np}.", "There is no {np}.", "No evidence of {np}.", "{np} is not seen.", "Without {np}.", "Negative for {np}.",
    "Neither {np} nor {other}.", "No {np} or {other} on this slice.",
)  # fmt: skip
_LUNGS = ("nodule", "mass", "consolidation", "ground glass", "bulla", "effusion", "pneumothorax")
_NORMAL = (
    ("The lungs are clear.", _LUNGS),
    ("Normal lung parenchyma.", _LUNGS),
    ("Lung attenuation is normal.", _LUNGS),
    ("The pleural spaces are normal.", ("effusion", "pneumothorax")),
    ("No pleural abnormality.", ("effusion", "pneumothorax")),
    ("The aorta is of normal calibre.", ("aneurysm",)),
    ("Normal diameter of the descending aorta.", ("aneurysm",)),
    ("The vertebral body is unremarkable.", ("bone lesion",)),
    ("No suspicious osseous lesion.", ("bone lesion",)),
    ("The airways are patent.", ()),
    ("The soft tissues of the chest wall are normal.", ()),
)
_UNCOUNTED = ("layering pleural fluid", "dilated")


def affirm(rng: np.random.Generator, finding: CtFinding) -> str:
    """Return a sentence that affirms a finding, by its number and, now and then, its place."""
    plural = len(finding.lesions) > 1
    noun = _noun(rng, finding.kind, plural)
    at = _place(rng, finding) if rng.random() < PLACED else ""
    both = plural and {one.side for one in finding.lesions} == {"left", "right"} and rng.random() < 0.5
    phrase = f"bilateral {noun}" if both and not at else noun
    bare = plural or noun.startswith(_UNCOUNTED)
    named = phrase if bare else ("an " if phrase[0] in "aeiou" else "a ") + phrase
    verb = "are" if plural and not noun.startswith(_UNCOUNTED) else "is"
    text = _pick(rng, _PRESENT).format(np=phrase, a=named, at=at, be=verb)
    return text[:1].upper() + text[1:]


def _place(rng: np.random.Generator, finding: CtFinding) -> str:
    sides = {one.side for one in finding.lesions}
    if "midline" in sides:
        return ""
    if len(sides) == 2:
        return _pick(rng, (" on both sides", " in both hemithoraces"))
    (side,) = sides
    return _pick(rng, (f" in the {side} lung", f" on the {side}", f" in the {side} hemithorax"))


def negate(rng: np.random.Generator, kind: str, other: str) -> str:
    """Return a sentence that denies one or two findings."""
    text = _pick(rng, _NEGATED).format(np=_noun(rng, kind, False), other=_noun(rng, other, False))
    return text[:1].upper() + text[1:]


def normal(rng: np.random.Generator, present: set[str]) -> str:
    """Return a sentence about normal anatomy that is true with the kinds in the image."""
    fitting = tuple(text for text, not_with in _NORMAL if not present.intersection(not_with))
    return _pick(rng, fitting)


def _noun(rng: np.random.Generator, kind: str, plural: bool) -> str:
    one, _, many = _pick(rng, NOUNS[kind]).partition("|")
    return many if plural and many else one


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
