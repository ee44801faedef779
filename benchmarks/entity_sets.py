"""As many studies as one likes with entities as real reports have them: those of Open-i, perturbed.

The reports lie inside the torchxrayvision wheel (data/NLMCXR_reports.tgz) and are read by our extractor when this runs;
nothing of them is kept. Without that package the findings are drawn from the counts in `_COUNTS`.
"""

from __future__ import annotations

import random
import tarfile
from collections import Counter
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ontology.similarity import Profile, profile
from ontology.studies import Studies

STUDIES_PER_PATIENT = 3.5  # of MIMIC-CXR: 227,835 studies of 65,379 patients
_COUNTS = {  # present findings in the reports of Open-i, rounded, and the share of them with an attribute
    "lung opacity": 700, "atelectasis": 400, "cardiomegaly": 400, "degenerative change": 500, "pleural effusion": 200,
    "granuloma": 400, "scarring": 250, "nodule": 200, "support device": 450, "hyperinflation": 250, "fracture": 120,
    "low lung volumes": 300, "interstitial disease": 150, "vascular congestion": 120, "edema": 60, "emphysema": 80,
    "consolidation": 40, "pneumonia": 60, "pneumothorax": 25, "mass": 30, "tortuous aorta": 200, "scoliosis": 80,
}  # fmt: skip
_ADJECTIVES = ("mild", "moderate", "severe", "small", "large", "patchy", "linear", "old", "calcified", "stable")
_DIRECTIONS = ("left", "right", "bilateral", "basilar", "lower", "upper", "middle", "apical", "lateral", "posterior")


def studies_like_openi(count: int, seed: int, strength: float = 0.5) -> tuple[Studies, str]:
    """Return studies, and where their entities come from.

    Each starts as a report drawn at random. One without finding stays so; in another each finding has its adjectives
    and its directions drawn anew, each with probability `strength`, from those its disease has elsewhere, and findings
    are added, as many as fails before a success of probability 1 - `strength`, from the diseases by their frequency.

    Args:
        count: How many.
        seed: Of all draws.
        strength: Of the perturbation, in [0, 1).
    """
    rng = random.Random(seed)  # noqa: S311
    found = openi_profiles()
    source = "Open-i reports" if found else "stated counts"
    reports = found or _invented(rng)
    pool = _Pool(reports)
    profiles = [pool.perturbed(report, rng, strength) for report in rng.choices(reports, k=count)]
    sizes = np.random.default_rng(seed).geometric(1 / STUDIES_PER_PATIENT, size=count)
    patients = np.repeat(np.arange(count), sizes)[:count].tolist()  # studies are in no order
    return Studies.of([f"s{i}" for i in range(count)], profiles, patients), source


def openi_profiles() -> list[Profile]:
    """Return what our extractor reads in the reports of Open-i; nothing where their package is not installed."""
    spec = find_spec("torchxrayvision")
    path = Path(spec.origin).parent / "data" / "NLMCXR_reports.tgz" if spec and spec.origin else Path("nowhere")
    if not path.is_file():
        return []
    from ontology.entities import Report
    from ontology.extract import Ober

    ober, profiles = Ober(), []
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.endswith(".xml") and (file := archive.extractfile(member)):
                parts = {part.get("Label"): part.text or "" for part in ElementTree.parse(file).iter("AbstractText")}  # noqa: S314
                report = Report.of(member.name, parts.get("FINDINGS", ""), parts.get("IMPRESSION", ""))
                profiles.append(profile(ober.extract(report)))
    return profiles


class _Pool:
    """What findings look like, to draw from."""

    def __init__(self, profiles: list[Profile]) -> None:
        counts = Counter(disease for one in profiles for disease in one)
        self.diseases = sorted(counts)
        self.ends = list(accumulate(counts[disease] for disease in self.diseases))
        self.terms: dict[str, tuple[list[frozenset[str]], ...]] = {disease: ([], []) for disease in counts}
        for one in profiles:
            for disease, terms in one.items():
                for known, own in zip(self.terms[disease], terms, strict=True):
                    known.append(own)

    def perturbed(self, one: Profile, rng: random.Random, strength: float) -> Profile:
        if not one:
            return one
        kept = {
            disease: [self._drawn(disease, i, terms[i], rng, strength) for i in (0, 1)]
            for disease, terms in one.items()
        }
        while rng.random() < strength:
            disease = rng.choices(self.diseases, cum_weights=self.ends)[0]
            kept.setdefault(disease, [self._drawn(disease, i, frozenset(), rng, 1.0) for i in (0, 1)])
        return {disease: (adjectives, directions) for disease, (adjectives, directions) in kept.items()}

    def _drawn(
        self, disease: str, i: int, terms: frozenset[str], rng: random.Random, strength: float
    ) -> frozenset[str]:
        known = self.terms[disease][i]
        return rng.choice(known) if rng.random() < strength else terms


def _invented(rng: random.Random, count: int = 4000) -> list[Profile]:
    """Return studies with the findings of `_COUNTS`, independently, and up to two attributes of a kind each."""
    profiles = []
    for _ in range(count):
        diseases = [disease for disease, times in _COUNTS.items() if rng.random() < times / count]
        profiles.append({disease: (_some(rng, _ADJECTIVES), _some(rng, _DIRECTIONS)) for disease in diseases})
    return profiles


def _some(rng: random.Random, words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(rng.choices(words, k=rng.randrange(3)))
