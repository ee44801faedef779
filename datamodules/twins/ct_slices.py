"""Write synthetic axial CT slices of the chest with sentences and boxes, as someone's own table: another domain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from datamodules.twins.ct_body import Section, Trunk, body_hu, sample_trunk
from datamodules.twins.ct_lesions import KINDS, CtFinding, paint_findings, plan_findings
from datamodules.twins.ct_phrases import affirm, negate, normal
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import study_plan
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

# Hounsfield units that become black and white: lungs and soft tissue in one look, or lungs.
WINDOWS: dict[Appearance, tuple[float, float]] = {"plain": (-1050.0, 450.0), "shifted": (-1250.0, 150.0)}
Sentence = tuple[str, str, CtFinding | None]  # text, kind of finding, what it shows where it is there


@twin_writer("ct-slices")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    appearance: Appearance = "plain",
) -> None:
    """Write `slices/*.png` (8 bit) and `table.csv` with a row per sentence, as `PhraseTable` reads it.

    Columns: `image, phrase, boxes` (JSON, xyxy in pixels: `box_format: xyxy_px`), `patient_id, split`, and two that
    only an evaluation reads: `finding` and `level`.

    Arguments as in `twin_writer`; a study is one slice, of 224 to 384 pixels a side. Sentences affirm what is painted,
    affirm what is not (drawn and worded alike), deny, or call something normal.
    """
    (folder / "slices").mkdir()
    plans = study_plan(studies, seed)
    jobs = [(str(folder), index, who, split, seed, difficulty, size, appearance) for index, who, split in plans]
    rows = [row for found in run_all(_write_slice, jobs, workers, "writing slices") for row in found]
    write_csv(folder / "table.csv", rows)


def _write_slice(
    folder: str,
    index: int,
    patient: str,
    split: str,
    seed: int,
    difficulty: float,
    size: int | None,
    appearance: Appearance,
) -> list[dict[str, Any]]:
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 61, index])
    trunk = sample_trunk(np.random.default_rng([seed & 0xFFFFFFFF, 62, int(patient)]), rng)
    painted, sentences = _plan(rng, trunk)
    drawn = int(rng.integers(224, 385))
    image = render(Section(trunk, size or drawn), painted, rng, difficulty, appearance)
    name = f"slices/{index:06d}.png"
    Image.fromarray(image).save(Path(folder) / name, compress_level=1)
    side = len(image)
    return [
        {
            "image": name,
            "phrase": text,
            "boxes": json.dumps([[round(v * side, 2) for v in box] for box in found.boxes]) if found else "",
            "patient_id": patient,
            "split": split,
            "finding": kind,
            "level": trunk.level,
        }
        for text, kind, found in sentences
    ]


def _plan(rng: np.random.Generator, trunk: Trunk) -> tuple[list[CtFinding], list[Sentence]]:
    """Return what is painted, and the sentences in random order; chance alone parts painted from absent findings."""
    here = int(rng.choice([0, 1, 2, 3], p=[0.25, 0.25, 0.3, 0.2]))
    absent = int(rng.choice([0, 1, 2], p=[0.5, 0.4, 0.1]))
    kinds = [list(KINDS)[i] for i in rng.permutation(len(KINDS))]
    planned = plan_findings(rng, trunk, kinds[: here + absent])
    painted = [finding for finding in planned if finding.kind in kinds[:here]]
    present = {finding.kind for finding in painted}
    found: list[Sentence] = [
        (affirm(rng, finding), finding.kind, finding if finding in painted else None) for finding in planned
    ]
    free = kinds[here + absent :]
    for _ in range(int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2])) + (not found)):
        quiet = negate(rng, free[0], free[1]) if rng.random() < 0.55 else normal(rng, present)
        found.append((quiet, "", None))
        free = free[1:] + free[:1]
    unique = list({text: (text, kind, one) for text, kind, one in found}.values())
    return painted, [unique[i] for i in rng.permutation(len(unique))]


def render(
    section: Section, painted: list[CtFinding], rng: np.random.Generator, difficulty: float, appearance: Appearance
) -> npt.NDArray[np.uint8]:
    """Return a slice as grey values, `(side, side)`; contrast of findings falls and noise grows with difficulty.

    `shifted` is a sharp kernel in a window for lungs: edges overshoot, noise is coarse, soft tissue is nearly white.
    """
    hu = paint_findings(body_hu(section, rng), section, painted, 1.1 - 0.35 * difficulty)
    noise = rng.standard_normal(hu.shape, dtype=np.float32) * np.float32(8 + 45 * difficulty * rng.random())
    if appearance == "shifted":
        hu += np.float32(0.7) * (hu - ndimage.gaussian_filter(hu, 0.008 * section.side))
        noise = ndimage.gaussian_filter(noise, 0.8) * np.float32(4)
    low, high = WINDOWS[appearance]
    shift = np.float32(rng.normal(0, 25))
    return np.asarray(np.clip((hu + noise - low - shift) / (high - low) * 255, 0, 255), dtype=np.uint8)
