"""Weakly labelled anatomy boxes first, a few of a radiologist's boxes then: what the first stage is worth.

Stage one is a twin of Chest ImaGenome (anatomy boxes, its noise taken out), stage two a twin of PadChest-GR whose films
come from another scanner, of which 5, 20 or 100 % of the training patients are used. Against it stand training from
scratch for as many steps as both stages have, and the same two stages where the first one's boxes are dealt out among
its sentences: what such a start gives is getting used to films and words, not learning where things are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.grounding_scores import Comparison, compare_methods
from benchmarks.training import QUICKSTART, Trainings, films, trainings
from datamodules.check import write_quarantine
from datamodules.records import PhraseRecord, Problem
from datamodules.sources import ChestImaGenome, PadChestGR
from datamodules.sources.clean_table import write_pairs
from medvl.outputs import PhrasePrediction
from medvl.viz.chart import Line
from medvl.viz.figure import line_figure

SHARES = (5, 20, 100)  # percent of the patients
METHODS = ("pretrained", "from-scratch", "shuffled-boxes")
HEADLINE = "p_at_f1/boxed"
Runs = dict[int, dict[str, list[list[PhrasePrediction]]]]  # by share and method, one per seed; share 0: stage one alone


def run(
    seed: int = 0, seeds: int = 3, steps: int = 1200, studies: int = 1200, size: int = 0, keep: str = ""
) -> dict[str, Any]:
    """Train both stages of every method for each share; about seven trainings of `steps` steps for each seed.

    Args:
        seed: Of the target twin, and the first of the seeds.
        seeds: How many times each model is trained.
        steps: Of both stages together; half of them are the first.
        studies: Of each twin.
        size: Longest side of the films; 0 draws it for each.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    found: Runs = {share: {} for share in (0, *SHARES)}
    with trainings(keep) as done:
        data = Data.write(done, studies, seed, size)
        for one in range(seed, seed + seeds):
            for share, method, lines in train(done, data, one, steps):
                found[share].setdefault(method, []).append(lines)
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "commits": sorted(done.commits)}
    return write(found, seed, **budget)


@dataclass(frozen=True)
class Data:
    """Both twins, the first one's pairs with shuffled boxes, and the target's rows that a share leaves out."""

    first: Path
    target: Path
    dealt: Path
    without: dict[int, Path]

    @classmethod
    def write(cls, done: Trainings, studies: int, seed: int, size: int) -> Data:
        """Write what is not there yet."""
        first = done.twin("imagenome", *films(studies, seed + 1000, size), "--noise", "none")
        target = done.twin("padchest-gr", *films(studies, seed, size), "--appearance", "shifted")
        dealt = first.with_name(f"{first.name}-shuffled.parquet")
        write_pairs(dealt, shuffled(ChestImaGenome(first).load().records, seed))
        records, without = PadChestGR(target).load().records, {}
        for share in SHARES:
            left = [Problem("left-out", record.row, "not in this share") for record in beyond(records, share, seed)]
            without[share] = target.with_name(f"{target.name}-without-{share}.jsonl")
            write_quarantine(without[share], left)
        return cls(first, target, dealt, without)


def shuffled(records: list[PhraseRecord], seed: int) -> list[PhraseRecord]:
    """Deal the boxes of a split's sentences out among them anew: those with boxes keep having some."""
    rng, dealt = np.random.default_rng(seed), list(records)
    for split in {record.split for record in records}:
        rows = [i for i, record in enumerate(records) if record.boxes and record.split == split]
        for row, other in zip(rows, rng.permutation(rows).tolist(), strict=True):
            dealt[row] = replace(records[row], boxes=records[other].boxes)
    return dealt


def beyond(records: list[PhraseRecord], share: int, seed: int) -> list[PhraseRecord]:
    """Return the training records of the patients beyond a share; a smaller share is a part of a larger one."""
    patients = sorted({record.patient_id for record in records if record.split == "train"})
    order = np.random.default_rng(seed).permutation(len(patients))
    kept = {patients[i] for i in order[: math.ceil(len(patients) * share / 100)]}
    return [record for record in records if record.split == "train" and record.patient_id not in kept]


def train(done: Trainings, data: Data, seed: int, steps: int) -> list[tuple[int, str, list[PhrasePrediction]]]:
    """Return what every method says of the target's test sentences, by share."""
    half, source = steps // 2, ["--data.source", "ChestImaGenome", "--data.source.root", str(data.first)]
    target = ["--data.source", "PadChestGR", "--data.source.root", str(data.target)]
    pairs = {"pretrained": [], "shuffled-boxes": ["--data.source.clean", str(data.dealt)]}
    starts = {method: done.train([*QUICKSTART, *source, *more], seed, half) for method, more in pairs.items()}
    found = [(0, method, done.test(run, *target)) for method, run in starts.items()]
    for share in SHARES:
        options = [*QUICKSTART, *target, "--data.source.quarantine", str(data.without[share])]
        for method in METHODS:
            # The last weights: of shuffled boxes no look at val says which are best.
            begin = ["--init_from", str(starts[method] / "checkpoints" / "last.ckpt")] if method in starts else []
            run = done.train([*options, *begin], seed, steps - half if begin else steps)
            found.append((share, method, done.test(run)))
    return found


def write(found: Runs, seed: int, **budget: Any) -> dict[str, Any]:
    """Compare, draw and write the result."""
    compared = {
        share: compare_methods({name: runs[name] for name in METHODS if name in runs}) for share, runs in found.items()
    }
    figures = {name: {str(share): compared[share].metrics[name][HEADLINE].mean for share in SHARES} for name in METHODS}
    draw(harness.RESULTS / "stage-transfer.png", compared)
    print(markdown(compared))
    return harness.write_result(
        "stage-transfer",
        unit="P@(F1=1, IoU >= .5) over sentences with boxes, by percent of the target's training patients",
        ours=figures["pretrained"],
        peers={name: figures[name] for name in METHODS[1:]},
        n=len(found[SHARES[0]]["pretrained"][0]),
        seed=seed,
        **budget,
        metrics={str(share): _plain(one.metrics) for share, one in compared.items()},
        ahead={str(share): _plain(one.ahead) for share, one in compared.items()},
    )


def draw(path: Path, compared: dict[int, Comparison]) -> Path:
    """Draw P@(F1=1) over the share of the data."""
    rows = {name: [compared[share].metrics[name][HEADLINE] for share in SHARES] for name in METHODS}
    lines = [Line(name, SHARES, [interval.mean for interval in row]) for name, row in rows.items()]
    bounds = [([i.low for i in row], [i.high for i in row]) for row in rows.values()]
    title = "Anatomy boxes first: another scanner's films, few boxes"
    return line_figure(path, title, lines, "% of the training patients", "P@(F1=1), sentences with boxes", bounds, True)


def markdown(compared: dict[int, Comparison]) -> str:
    """Return the table of docs/benchmarks.md."""
    rows = ["| share | method | P, with boxes | SetF1 | mIoU | FROC | P, none |", "|---" * 7 + "|"]
    for share, one in compared.items():
        for name, row in one.metrics.items():
            cells = [row[key] for key in (HEADLINE, "set_f1@0.5/boxed", "miou/boxed", "froc/mean", "p_at_f1/zero")]
            values = " | ".join(f"{i.mean:.3f} ({i.low:.3f}–{i.high:.3f})" for i in cells)
            rows.append(f"| {share} % | {name} | {values} |")
    return "\n".join(rows)


def _plain(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    return {name: {key: list(interval) for key, interval in row.items()} for name, row in rows.items()}
