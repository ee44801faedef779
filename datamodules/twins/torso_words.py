"""Sentences about a torso: what they claim of a finding, in English or German, in the manner of a hospital.

A claim is a kind with what is said of it: side, zone, size. It speaks of every finding that fits, so a sentence's
depths are those of all of them, and a claim that none fits is not in the scan.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from datamodules.twins.torso_findings import KINDS, Lesion
from datamodules.twins.torso_nouns import DE, EN, SIDED, Language, Noun

Tongue = Literal["en", "de"]
LANGUAGES: dict[str, Language] = {"en": EN, "de": DE}
_Option = TypeVar("_Option")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a sentence says of a finding; '' where it says nothing.

    Attributes:
        kind: One of `KINDS`.
        side: `right` or `left`.
        zone: `upper`, `middle` or `lower`.
        size: `small` or `large`.
        mm: Its diameter; 0 where it is not told. It decorates, and decides nothing.
    """

    kind: str
    side: str = ""
    zone: str = ""
    size: str = ""
    mm: int = 0

    def fits(self, lesion: Lesion) -> bool:
        """Whether a finding is as claimed."""
        return (
            self.kind == lesion.kind
            and self.side in ("", lesion.side)
            and self.zone in ("", lesion.zone)
            and self.size in ("", "large" if lesion.large else "small")
        )


def claim_of(rng: np.random.Generator, lesion: Lesion, others: Sequence[Lesion]) -> Claim:
    """Return a claim about a finding that fits as few of the others as words allow."""
    bare = Claim(lesion.kind, mm=round(2 * lesion.radius) if rng.random() < 0.35 else 0)
    said = {"side": lesion.side, "zone": lesion.zone, "size": "large" if lesion.large else "small"}
    chances = {"side": 0.5, "zone": 0.15, "size": 0.25}
    names = [name for name in said if rng.random() < chances[name]]
    for name in ("", "side", "size", "zone"):  # only what sets it apart is added
        names += [name] if name else []
        claim = replace(bare, **_told(said, names))
        if not any(map(claim.fits, others)):
            break
    return claim


def _told(said: dict[str, str], names: Collection[str]) -> dict[str, Any]:
    return {name: said[name] for name in names}


def absent_claim(rng: np.random.Generator, lesions: Sequence[Lesion], drawn: Lesion) -> Claim | None:
    """Return a claim that no finding fits: of a finding here on its other side, or like one drawn for another scan."""
    twins = [lesion for lesion in lesions if lesion.side]
    if twins and rng.random() < 0.4:
        like = twins[int(rng.integers(len(twins)))]
        claim = replace(claim_of(rng, like, ()), side={"left": "right", "right": "left"}[like.side])
    else:
        claim = claim_of(rng, drawn, ())
    return None if any(map(claim.fits, lesions)) else claim


def affirm(rng: np.random.Generator, claim: Claim, several: bool, language: str, site: int) -> str:
    """Return a sentence that makes a claim."""
    words = LANGUAGES[language]
    noun = _ours(rng, words.nouns[claim.kind], site)
    place = _place(rng, claim, words)
    text = _ours(rng, words.several if several else words.sized if claim.mm else words.affirmed, site)
    named = words.with_size(noun, claim.size, several)
    told = text.format(np=named, a=words.with_article(named, noun), at=place, mm=claim.mm)
    return told[:1].upper() + told[1:]


def _place(rng: np.random.Generator, claim: Claim, words: Language) -> str:
    if not claim.side and not claim.zone:
        return ""
    family = SIDED.get(claim.kind, "lung")
    key = family + ("/side" if claim.side else "") + ("/zone" if claim.zone else "")
    options = words.places[key]
    text = options[int(rng.integers(len(options)))]
    return text.format(side=words.terms.get(claim.side, ""), zone=words.terms.get(claim.zone, ""))


def normal(rng: np.random.Generator, kinds: Collection[str], heart: float, language: str, count: int) -> list[str]:
    """Return sentences that deny findings, or call organs normal, and are true of a scan."""
    words = LANGUAGES[language]
    absent = [name for name in KINDS if name not in kinds]
    said = []
    for at in rng.choice(len(absent), min(2, len(absent)), replace=False):
        noun: Noun = words.nouns[absent[int(at)]][0]
        denial = words.denied[int(rng.integers(len(words.denied)))]
        said.append(denial.format(np=words.with_size(noun, "", True)))
    fitting = [text for text, unless in words.normal if not set(unless) & set(kinds)]
    said += [fitting[int(at)] for at in rng.choice(len(fitting), min(count, len(fitting)), replace=False)]
    said.append(words.heart[int(heart > 1.2)])
    return [text[:1].upper() + text[1:] for text in said]


def _ours(rng: np.random.Generator, options: Sequence[_Option], site: int) -> _Option:
    """Draw one of the options that a hospital uses: all but every third."""
    own = [option for at, option in enumerate(options) if at % 3 != site % 3] or list(options)
    return own[int(rng.integers(len(own)))]
