"""Synthetic CT studies: volumes and a report, a pure function of (index, seed, difficulty, size, language).

Three to six findings lie at different depths, two of them in one organ. Findings that *absent* snippets claim are drawn
and worded as those that are painted, so nothing in a sentence tells whether it is true. Where the scan begins and ends
varies, as does where the patient lies, so no depth stands for an organ. Difficulty changes the picture only: the
findings' contrast falls from 1.1 to 0.6 of their kind's, and noise grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.twins.torso import Canvas, Organ, Torso, paint_torso, sample_torso
from datamodules.twins.torso_findings import KINDS, Lesion, draw_lesion, paint_lesion, plan_lesions
from datamodules.twins.torso_scan import SITES, Scan, Site, again, finish, sample_scan
from datamodules.twins.torso_words import Claim, Tongue, absent_claim, affirm, claim_of, normal

LARGE_HEART = 1.2
_RECONSTRUCTED_TWICE = 0.12


@dataclass(frozen=True)
class TwinVolume:
    """One reconstruction: int16 HU `(D, H, W)` in RAS order, and where it lies."""

    hu: NDArray[np.int16]
    scan: Scan


@dataclass(frozen=True)
class TwinSnippet:
    """A sentence and its depths in mm, none where what it claims is not in the scan."""

    text: str
    claim: Claim
    intervals: tuple[tuple[float, float], ...]
    organ: str


@dataclass(frozen=True)
class TwinCt:
    """A synthetic study; `factors` hold everything that made it."""

    volumes: tuple[TwinVolume, ...]
    findings: str
    impression: str
    labels: dict[str, int]
    snippets: tuple[TwinSnippet, ...]
    site: Site
    factors: dict[str, Any]


def make_ct(
    index: int,
    seed: int,
    difficulty: float,
    size: int,
    language: Tongue = "en",
    references: bool = False,
    sites: Sequence[int] = tuple(range(len(SITES))),
) -> TwinCt:
    """Draw a study.

    Args:
        index: Which one.
        seed: Of the whole twin.
        difficulty: 0 (plain) to 1 (faint findings, much noise).
        size: Voxels across a slice.
        language: Of report and snippets.
        references: Whether the report cites the image of each finding, as in "(series 4, image 38)".
        sites: Which hospitals the study may come from.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index])
    torso, number = sample_torso(rng), sites[int(rng.integers(len(sites)))]
    site = SITES[number]
    scan = sample_scan(rng, torso, site, size)
    canvas = paint_torso(scan.grid(torso), torso)
    organs = _organs(canvas, scan)
    planned = plan_lesions(rng, canvas)
    absent = [draw_lesion(rng, canvas) for _ in range(1 + int(rng.random() < 0.3))]
    contrast, noise = 1.1 - 0.5 * difficulty, 0.5 + difficulty
    drawn = {lesion: _covered(canvas, lesion, scan, contrast) for lesion in planned}
    covers = {lesion: covered for lesion, covered in drawn.items() if covered}
    volumes = [TwinVolume(finish(canvas, scan, site, noise), scan)]
    if rng.random() < _RECONSTRUCTED_TWICE:
        other = again(scan, site)
        volumes.append(TwinVolume(_painted(torso, list(covers), other, site, contrast, noise), other))
    snippets = _snippets(rng, covers, absent, language, number)
    series = int(rng.integers(2, 9))
    cited = {snippet: _reference(snippet, scan, series, language) for snippet in snippets if snippet.intervals}
    told = [f"{one.text[:-1]} {cited[one]}." if references else one.text for one in snippets if one.intervals]
    said = told + normal(rng, {lesion.kind for lesion in covers}, torso.heart, language, count=3)
    order = rng.permutation(len(said))
    labels = {KINDS[lesion.kind].label: 1 for lesion in covers if KINDS[lesion.kind].label}
    labels |= {"Cardiomegaly": 1} if torso.heart > LARGE_HEART else {}
    factors = {
        "torso": asdict(torso),
        "scans": [asdict(volume.scan) for volume in volumes],
        "organs": organs,
        "site": number,
        "lesions": [_told(lesion, covered, torso, scan) for lesion, covered in covers.items()],
        "snippets": [asdict(one) | {"reference": cited.get(one, "")} for one in snippets],
        "series": series,
    }
    present = [one.text for one in snippets if one.intervals]
    return TwinCt(
        volumes=tuple(volumes),
        findings=" ".join(said[int(at)] for at in order),
        impression=" ".join(present[: 1 + int(rng.integers(2))]),
        labels=labels,
        snippets=tuple(snippets),
        site=site,
        factors=factors,
    )


def _covered(canvas: Canvas, lesion: Lesion, scan: Scan, contrast: float) -> tuple[float, float] | None:
    """Paint a finding; return the depths in mm that its slices cover, None where none shows it."""
    shown = paint_lesion(canvas, lesion, contrast)
    if shown is None:
        return None
    first, last = (scan.origin[2] + scan.spacing[0] * (at - 0.5) for at in shown)
    return round(float(first), 2), round(float(last), 2)


def _painted(
    torso: Torso, lesions: list[Lesion], scan: Scan, site: Site, contrast: float, noise: float
) -> NDArray[np.int16]:
    canvas = paint_torso(scan.grid(torso), torso)
    for lesion in lesions:
        paint_lesion(canvas, lesion, contrast)
    return finish(canvas, scan, site, noise)


def _snippets(
    rng: np.random.Generator,
    covers: dict[Lesion, tuple[float, float]],
    absent: list[Lesion],
    language: Tongue,
    site: int,
) -> list[TwinSnippet]:
    """Return a sentence per finding, or per group that words do not part, and those that are true of none."""
    lesions, found, claims = list(covers), [], set()
    for lesion in lesions:
        claim = claim_of(rng, lesion, [other for other in lesions if other != lesion])
        meant = [other for other in lesions if claim.fits(other)]
        if (key := tuple(meant)) not in claims:
            claims.add(key)
            text = affirm(rng, claim, len(meant) > 1, language, site)
            found.append(TwinSnippet(text, claim, tuple(sorted(covers[one] for one in meant)), _organ(claim.kind)))
    for drawn in absent:
        claimed = absent_claim(rng, lesions, drawn)
        if claimed:
            text = affirm(rng, claimed, False, language, site)
            found.append(TwinSnippet(text, claimed, (), _organ(claimed.kind)))
    return list({one.text: one for one in found}.values())


def _organs(canvas: Canvas, scan: Scan) -> dict[str, tuple[float, float]]:
    """Return the depths in mm that the slices of each organ in the scan cover; of two, each side's and both's."""
    found: dict[str, tuple[float, float]] = {}
    for organ in Organ:
        slices = np.flatnonzero((canvas.organ == organ).any((1, 2)))
        if not organ or not len(slices):
            continue
        low, high = (round(scan.origin[2] + scan.spacing[0] * at, 2) for at in (slices[0] - 0.5, slices[-1] + 0.5))
        name = organ.name.lower()
        found[name] = float(low), float(high)
        if (both := name.rpartition("_")[2]) != name:
            other = found.get(both, found[name])
            found[both] = min(other[0], found[name][0]), max(other[1], found[name][1])
    return found


def _organ(kind: str) -> str:
    """Name the organ of a kind, without its side."""
    return KINDS[kind].organs[0].name.rpartition("_")[2].lower()


def _told(lesion: Lesion, covered: tuple[float, float], torso: Torso, scan: Scan) -> dict[str, Any]:
    return {
        "kind": lesion.kind,
        "organ": _organ(lesion.kind),
        "side": lesion.side,
        "zone": lesion.zone,
        "radius": lesion.radius,
        "phase": lesion.phase,
        "centre": lesion.centre,
        "z": scan.depth(lesion.centre[2], torso),
        "interval": covered,
    }


def _reference(snippet: TwinSnippet, scan: Scan, series: int, language: Tongue) -> str:
    """Cite the image in the middle of the first interval; images are counted from the head, from 1."""
    low, high = snippet.intervals[0]
    index = round(((low + high) / 2 - scan.origin[2]) / scan.spacing[0])
    image = scan.shape[0] - min(max(index, 0), scan.shape[0] - 1)
    return f"(Serie {series}, Bild {image})" if language == "de" else f"(series {series}, image {image})"
