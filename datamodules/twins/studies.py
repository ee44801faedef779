"""Synthetic studies: a frontal chest film and sentences about it, a pure function of (index, seed, difficulty, size).

About every third study is normal. The others have two to four kinds of findings. The findings that *absent* sentences
affirm are drawn, planned and worded exactly as those that are painted, and chance alone says which is which: so nothing
in a sentence tells whether its finding is in the image, nor, in two of three, where.

Difficulty runs from 0 to 1 and changes the picture only: the contrast of findings falls from 1.2 to 0.5 of their
kind's, vessels and noise grow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from datamodules.twins.anatomy import Anatomy, Grid, sample_anatomy
from datamodules.twins.film import paint
from datamodules.twins.findings import KINDS, LARGE_HEART, Finding, draw_kinds, plan_finding
from datamodules.twins.phrases import Sentence, affirm, negate, normal
from datamodules.twins.scanner import Appearance, rescanned
from datamodules.twins.shapes import Box

_PLAN_SIDE = 256  # boxes are measured on masks of this size, whatever the film's
_BLOCK = (0, 0, 1, 2)  # of four studies in a row, the first two are of one patient


@dataclass(frozen=True, slots=True)
class TwinFinding:
    """A sentence of a report with what is known of it.

    Attributes:
        sentence_en: In English.
        sentence_es: In Spanish.
        abnormal: Whether it affirms a finding (true or not of this image).
        boxes: xyxy in [0, 1]; only `present` ones have any.
        labels: Kinds of finding it is about.
        locations: Places it names.
        kind: `present`, `negated`, `normal` or `absent` (affirms a finding that is not in this image).
    """

    sentence_en: str
    sentence_es: str
    abnormal: bool
    boxes: tuple[Box, ...]
    labels: tuple[str, ...]
    locations: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """All of a study but its pixels: body, painted findings and sentences."""

    patient_id: str
    study_id: str
    body: Anatomy
    painted: tuple[Finding, ...]
    findings: tuple[TwinFinding, ...]


@dataclass(frozen=True, slots=True)
class TwinStudy:
    """A synthetic study; `image` is (height, width) uint16 with values up to 4095."""

    image: npt.NDArray[np.uint16]
    patient_id: str
    study_id: str
    sex: str
    age: int
    view: str
    findings: tuple[TwinFinding, ...]


def _rng(seed: int, *path: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed & 0xFFFFFFFF, *path])))


def _patient(index: int) -> int:
    return index // 4 * 3 + _BLOCK[index % 4]


def patient_of(index: int, seed: int) -> str:
    """Identifier of the patient of a study; of four studies in a row the first two share theirs."""
    return str(10_000_000 + (_patient(index) * 7919 + seed * 104_729) % 9_000_000)


def study_plan(studies: int, seed: int) -> list[tuple[int, str, str]]:
    """(index, patient_id, split) of every study: about 70, 10 and 20 % of the patients in train, val and test."""
    count = _patient(studies - 1) + 1 if studies > 0 else 0
    order = _rng(seed, 1).permutation(count)
    val = max(1, round(0.1 * count)) if count >= 3 else 0
    test = max(1, round(0.2 * count)) if count >= 2 else 0
    names = ["test"] * test + ["val"] * val + ["train"] * (count - test - val)
    split = {int(patient): name for patient, name in zip(order, names, strict=True)}
    return [(i, patient_of(i, seed), split[_patient(i)]) for i in range(studies)]


def _sentence(text: Sentence, kind: str, label: str, boxes: tuple[Box, ...] = ()) -> TwinFinding:
    return TwinFinding(text.en, text.es, kind in ("present", "absent"), boxes, (label,), text.locations, kind)


def _affirm(
    rng: np.random.Generator, finding: Finding, free: list[str], painted: bool, unseen: bool
) -> list[TwinFinding]:
    """One sentence about a finding, or, rarely, one for each of two sides (of an absent one, either)."""
    kind = "present" if painted else "absent"
    sides = [lesion.side for lesion in finding.lesions]
    other = free[int(rng.integers(len(free)))]
    if sides == ["right", "left"] and rng.random() < 0.15:
        texts = [affirm(rng, finding.kind, (lesion,), other, True, unseen) for lesion in finding.lesions]
        boxes = [(box,) if painted else () for box in finding.boxes]
        pair = [_sentence(text, kind, finding.kind, box) for text, box in zip(texts, boxes, strict=True)]
        return pair if painted else [pair[int(rng.integers(2))]]
    text = affirm(rng, finding.kind, finding.lesions, other, None, unseen)
    return [_sentence(text, kind, finding.kind, finding.boxes if painted else ())]


def plan(index: int, seed: int, unseen: bool = False) -> StudyPlan:
    """Plan a study: cheap, and the same for every size and difficulty; `unseen` changes English words only."""
    rng = _rng(seed, 2, index)
    body = sample_anatomy(_rng(seed, 3, _patient(index)), rng)
    ill = rng.random() < 0.68
    here = int(rng.choice([2, 3, 4], p=[0.22, 0.4, 0.38])) if ill else 0
    absent = int(rng.random() < 0.42) + int(rng.random() < 0.05)
    quiet = int(rng.choice([0, 1, 2], p=[0.52, 0.36, 0.12])) if ill else int(rng.choice([1, 2, 3], p=[0.6, 0.32, 0.08]))

    kinds = draw_kinds(rng, here + absent + 4)  # in random order, so that who is painted is drawn here
    shown, missing, free = kinds[:here], kinds[here : here + absent], kinds[here + absent :]
    if "cardiomegaly" in shown:
        body = replace(body, heart=(float(rng.uniform(*LARGE_HEART)), *body.heart[1:]))
    planned = _plan_all(rng, body, [*shown, *missing])
    painted = tuple(finding for finding in planned if finding.kind in shown)
    present = frozenset(finding.kind for finding in painted)

    sentences = [s for finding in planned for s in _affirm(rng, finding, free, finding.kind in present, unseen)]
    for _ in range(quiet):
        if rng.random() < 0.55 and len(free) >= 2:
            kind, other = free.pop(), free[0]
            sentences.append(_sentence(negate(rng, kind, other, unseen), "negated", kind))
        else:
            sentences.append(_sentence(normal(rng, present), "normal", "normal"))
    unique = list({sentence.sentence_en: sentence for sentence in sentences}.values())
    findings = tuple(unique[i] for i in rng.permutation(len(unique)))
    study_id = str(50_000_000 + (index * 7919 + seed * 104_729) % 9_000_000)
    return StudyPlan(patient_of(index, seed), study_id, body, painted, findings)


def _plan_all(rng: np.random.Generator, body: Anatomy, kinds: list[str]) -> list[Finding]:
    """Plan these kinds apart from each other, in random order; one for which there is no room is left out."""
    grid = Grid(body, *body.shape(_PLAN_SIDE))
    planned: list[Finding] = []
    for i in rng.permutation(len(kinds)):
        finding = plan_finding(rng, grid, kinds[i], [box for other in planned for box in other.boxes])
        if finding is not None:
            planned.append(finding)
    return planned


def make_study(
    index: int,
    seed: int,
    difficulty: float = 0.5,
    size: int | None = None,
    appearance: Appearance = "plain",
    unseen: bool = False,
) -> TwinStudy:
    """Make a study.

    Args:
        index: Which study of the set.
        seed: Which set.
        difficulty: 0 easy to 1 hard.
        size: Long side of the film in pixels; None draws 400 to 640.
        appearance: `shifted` gives the film another scanner's look; findings and boxes are the same.
        unseen: Whether English says findings and places by synonyms that other studies never use.
    """
    planned = plan(index, seed, unseen)
    rng = _rng(seed, 4, index)
    drawn = int(rng.integers(400, 641))
    image = paint(planned.body, planned.painted, rng, difficulty, size or drawn)
    if appearance == "shifted":
        boxes = [box for finding in planned.painted for box in finding.boxes]
        image = rescanned(image, boxes, _rng(seed, 5, index))
    body = planned.body
    return TwinStudy(image, planned.patient_id, planned.study_id, body.sex, body.age, body.view, planned.findings)


__all__ = ["KINDS", "StudyPlan", "TwinFinding", "TwinStudy", "make_study", "patient_of", "plan", "study_plan"]
