"""The same task, unchanged, on axial CT slices: what weights from films bring along, and what they do not.

The quickstart's model is trained on the twin of films, then tested on the twin of CT slices as it is (zero-shot, with
the threshold of the films), and trained on from there. Beside it: the same steps on slices from scratch, and blind
models. Findings whose words films have as well (nodule, effusion, ...) are told apart from those that are new.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grounding_scores import compare_methods
from benchmarks.harness import write_result
from benchmarks.training import QUICKSTART, films, trainings
from datamodules.twins.ct_lesions import KINDS
from medvl.metrics.bootstrap import Interval
from medvl.outputs import PhrasePrediction

NEW = ("ground glass", "aneurysm", "bone lesion")  # on slices only; the other kinds have the words of films
METHODS = {"from-scratch": "none", "text-only": "image", "image-only": "text"}  # and what is taken away
Lines = list[PhrasePrediction]


def run(
    seed: int = 0,
    seeds: int = 3,
    steps: int = 1200,
    ct_steps: int = 600,
    studies: int = 1200,
    size: int = 0,
    keep: str = "",
) -> dict[str, Any]:
    """Train on films and on slices, write `other-domain.json`; about three quickstarts for each seed.

    Args:
        seed: Of both twins, and the first of the seeds.
        seeds: How many times each model is trained.
        steps: Training steps on films.
        ct_steps: Training steps on slices, with and without what films gave.
        studies: Of the twin of films; half as many slices.
        size: Longest side of the images; 0 draws it for each.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    found: dict[str, list[Lines]] = {name: [] for name in ("fine-tuned", "zero-shot", *METHODS)}
    on_films: list[Lines] = []
    with trainings(keep) as done:
        source = ["--data.source.root", str(done.twin("padchest-gr", *films(studies, seed, size)))]
        table = done.twin("ct-slices", *films(max(1, studies // 2), seed, size)) / "table.csv"
        slices = ["--data.source", "PhraseTable", "--data.source.root", str(table)]
        slices += ["--data.source.box_format", "xyxy_px"]
        for one in range(seed, seed + seeds):
            first = done.train([*QUICKSTART, *source], one, steps)
            on_films.append(done.test(first))
            found["zero-shot"].append(done.test(first, *slices))
            options = {"fine-tuned": ["--init_from", str(first)]}
            options |= {name: ["--data.blind", blind] for name, blind in METHODS.items()}
            for name, more in options.items():
                found[name].append(done.test(done.train([*QUICKSTART, *slices, *more], one, ct_steps)))
        kinds = finding_of(table)
        budget = {"seeds": seeds, "steps": steps, "ct_steps": ct_steps, "studies": studies}
        budget["commits"] = sorted(done.commits)
    return write(found, on_films, kinds, seed, **budget)


def finding_of(table: Path) -> dict[tuple[str, str], str]:
    """Return the kind of finding of each sentence of the table; empty where it denies one or calls something normal."""
    with table.open(newline="", encoding="utf-8") as file:
        return {(row["image"], row["phrase"]): row["finding"] for row in csv.DictReader(file)}


def write(
    found: Mapping[str, Sequence[Lines]],
    on_films: list[Lines],
    kinds: Mapping[tuple[str, str], str],
    seed: int,
    **budget: Any,
) -> dict[str, Any]:
    """Compare by group of findings, print a table and write the result."""
    parts = groups(found, kinds)
    compared = {name: compare_methods(part) for name, part in parts.items()}
    metric = {"shared": "p_at_f1/boxed", "new": "p_at_f1/boxed", "zero": "p_at_f1/zero"}
    figures = {
        method: {part: compared[part].metrics[method][name] for part, name in metric.items()} for method in found
    }
    print(markdown(figures))
    means = {method: {part: interval.mean for part, interval in row.items()} for method, row in figures.items()}
    return write_result(
        "other-domain",
        unit="P@(F1=1, IoU >= .5) on CT slices: findings that films have, new ones, sentences without boxes",
        ours=means.pop("fine-tuned"),
        peers=means,
        n=len(found["zero-shot"][0]),
        seed=seed,
        **budget,
        intervals={method: {part: list(i) for part, i in row.items()} for method, row in figures.items()},
        metrics={part: _plain(one.metrics) for part, one in compared.items()},
        ahead={part: _plain(one.ahead) for part, one in compared.items()},
        by_finding={method: by_finding(runs, kinds) for method, runs in found.items()},
        on_films={name: list(i) for name, i in compare_methods({"films": on_films}).metrics["films"].items()},
    )


def groups(
    found: Mapping[str, Sequence[Lines]], kinds: Mapping[tuple[str, str], str]
) -> dict[str, dict[str, list[Lines]]]:
    """Part the sentences: with boxes of findings that films have, of new ones, and without boxes."""

    def part(line: PhrasePrediction) -> str:
        if not line.gold_xyxy_px:
            return "zero"
        return "new" if kinds[line.image, line.phrase] in NEW else "shared"

    names = ("shared", "new", "zero")
    return {
        name: {method: [[o for o in run if part(o) == name] for run in runs] for method, runs in found.items()}
        for name in names
    }


def by_finding(runs: Sequence[Lines], kinds: Mapping[tuple[str, str], str]) -> dict[str, float]:
    """Return P@(F1=1) over sentences with boxes of each kind of finding, averaged over seeds."""
    values = {}
    for kind in KINDS:
        lines = [[o for o in run if o.gold_xyxy_px and kinds[o.image, o.phrase] == kind] for run in runs]
        if lines[0]:
            values[kind] = compare_methods({kind: lines}, draws=1).metrics[kind]["p_at_f1/boxed"].mean
    return values


def markdown(figures: Mapping[str, Mapping[str, Interval]]) -> str:
    """Return the table of docs/benchmarks.md."""
    rows = ["| | findings that films have | new findings | none |", "|---|---|---|---|"]
    for method, row in figures.items():
        cells = " | ".join(f"{i.mean:.3f} ({i.low:.3f}–{i.high:.3f})" for i in row.values())
        rows.append(f"| {method} | {cells} |")
    return "\n".join(rows)


def _plain(rows: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, list[float]]]:
    return {
        name: {key: [float(v) for v in interval] for key, interval in row.items() if not np.isnan(interval.mean)}
        for name, row in rows.items()
    }
