"""Each rule of `medvl data clean imagenome` against the noise planted in the twin, and what it is worth downstream.

Precision and recall count (image, sentence, anatomy): what a rule took away against what was planted of its kind. For
the effect downstream the same model is trained on the pairs as they come, on the cleaned ones, on those cleaned with
each rule off in turn, and on the truth (the planted noise taken out by the list of what was planted); all are tested on
the true pairs of the test split, non-diagnostic sentences included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write_result
from benchmarks.training import QUICKSTART, films, trainings
from datamodules.cleanup.rules import RULES, Cleaned, Cleanup, anatomies, clean
from datamodules.records import PhraseRecord
from datamodules.sources import ChestImaGenome
from datamodules.sources.clean_table import write_pairs
from medvl.cli.judge import ontology_judge
from medvl.metrics.bootstrap import patient_bootstrap
from medvl.outputs import PhrasePrediction
from medvl.viz.scores import Scores

KIND_OF = {"redundant": "redundant", "negated": "negated", "normal": "negated", "non-diagnostic": "non-diagnostic"}
PLANTED = ("redundant", "negated", "non-diagnostic")  # rules whose noise the twin has
PARTS = {"p_at_f1": ("p_at_f1", "boxed"), "n_acc_negated": ("n_acc", "negated"), "n_acc_other": ("n_acc", "zero")}

Place = tuple[str, str, str]  # image, sentence, anatomy
Values = np.ndarray[Any, np.dtype[np.float64]]


def run(
    seed: int = 0,
    seeds: int = 3,
    steps: int = 1200,
    studies: int = 1200,
    size: int = 0,
    image_size: int = 128,
    keep: str = "",
) -> dict[str, Any]:
    """Measure the rules, train on each set of pairs, write `cleanup-sensitivity.json`; 6 trainings for each seed.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each model is trained.
        steps: Training steps of each.
        studies: Of the twin.
        size: Longest side of the twin's films; 0 draws it for each.
        image_size: Side that the model sees.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    with trainings(keep) as done:
        twin = done.twin("imagenome", *films(studies, seed, size))
        given = ChestImaGenome(twin).load().records
        planted = read_planted(twin, given)
        rules = {rule: score_rule(cleaned(given), rule, planted) for rule in PLANTED}
        options = [*QUICKSTART, "--data.source", "ChestImaGenome", "--data.source.root", str(twin)]
        options += ["--data.image_size", str(image_size)]
        test = write_pairs(twin.with_name(f"{twin.name}-test.parquet"), truth(given, planted, spare=True))
        found: dict[str, list[list[PhrasePrediction]]] = {}
        sets = {
            name: write_pairs(twin.with_name(f"{twin.name}-{name}.parquet"), records)
            for name, records in versions(given, planted).items()
        }
        for one in range(seed, seed + seeds):
            for name, pairs in sets.items():
                run_of = done.train([*options, "--data.source.clean", str(pairs)], one, steps)
                found.setdefault(name, []).append(done.test(run_of, "--data.source.clean", str(test)))
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "commits": sorted(done.commits)}
    return write(found, rules, len(given), seed, budget)


def versions(given: list[PhraseRecord], planted: Mapping[Place, str]) -> dict[str, list[PhraseRecord]]:
    """Return what is trained on, by name."""
    found = {"all-rules": cleaned(given).records, "no-cleaning": given}
    found |= {f"without-{rule}": cleaned(given, rule).records for rule in PLANTED}
    return found | {"truth": truth(given, planted)}


def cleaned(given: list[PhraseRecord], *off: str) -> Cleaned:
    """Clean as the command does, with some rules off."""
    return clean(given, Cleanup(off=frozenset(off)), ontology_judge())


def read_planted(twin: Path, given: Iterable[PhraseRecord]) -> dict[Place, str]:
    """Return which rule should take away what, of what was planted and read."""
    present = {place for record in given for place in places(record)}
    listed = json.loads((twin / "noise.json").read_text(encoding="utf-8"))["pairs"]
    found = {(one["image"], one["phrase"], one["region"]): KIND_OF[one["kind"]] for one in listed}
    return {place: rule for place, rule in found.items() if place in present}


def places(record: PhraseRecord) -> list[Place]:
    """Return the places of a pair."""
    return [(record.image, record.phrase, name) for name in anatomies(record)]


def score_rule(done: Cleaned, rule: str, planted: Mapping[Place, str]) -> dict[str, float]:
    """Return precision, recall and number of what a rule took away."""
    changes = [change for change in done.changes if change.rule == rule]
    taken = {(c.before.image, c.before.phrase, name) for c in changes for name in c.lost}
    should = {place for place, kind in planted.items() if kind == rule}
    right = len(taken & should)
    ratios = (right / len(whole) if whole else float("nan") for whole in (taken, should))
    return dict(zip(("precision", "recall"), ratios, strict=True)) | {"taken": len(taken), "planted": len(should)}


def truth(given: Iterable[PhraseRecord], planted: Mapping[Place, str], spare: bool = False) -> list[PhraseRecord]:
    """Return the pairs without what was planted; non-diagnostic sentences stay, without boxes, where `spare`."""
    found = []
    for record in given:
        parts = record.attributes.get("locations", "").split("; ") if record.boxes else []
        own = [
            any((*one, name) not in planted for name in part.split(" + ")) for part in parts for one in [key(record)]
        ]
        boxes = tuple(box for box, stays in zip(record.boxes, own, strict=True) if stays)
        kinds = {planted.get(place) for place in places(record)}
        if spare or "non-diagnostic" not in kinds:
            found.append(replace(record, boxes=boxes, attributes={}))
    return found


def key(record: PhraseRecord) -> tuple[str, str]:
    """Return image and sentence."""
    return record.image, record.phrase


def write(
    found: dict[str, list[list[PhrasePrediction]]],
    rules: dict[str, dict[str, float]],
    pairs: int,
    seed: int,
    budget: dict[str, Any],
) -> dict[str, Any]:
    """Compare and write; intervals are of patients, figures are means over seeds."""
    patients = Scores.of(found["all-rules"][0]).patients
    values = {name: {part: mean(runs, *PARTS[part]) for part in PARTS} for name, runs in found.items()}
    figures = {
        name: {part: list(patient_bootstrap(one, patients)) for part, one in row.items()}
        for name, row in values.items()
    }
    ours = values["all-rules"]
    gains = {
        name: {part: list(patient_bootstrap(ours[part] - row[part], patients)) for part in PARTS}
        for name, row in values.items()
        if name != "all-rules"
    }
    return write_result(
        "cleanup-sensitivity",
        unit="P@(F1=1, IoU >= .5) on true pairs with boxes, trained on cleaned ones",
        ours=figures["all-rules"]["p_at_f1"][0],
        peers={name: row["p_at_f1"][0] for name, row in figures.items() if name != "all-rules"},
        n=len(patients),
        seed=seed,
        **budget,
        pairs=pairs,
        rules=rules,
        not_planted=[rule for rule in RULES if rule not in PLANTED],
        metrics=figures,
        gain_of_all_rules=gains,
    )


def mean(runs: list[list[PhrasePrediction]], metric: str, kind: str) -> Values:
    """Return a metric of each sentence of a kind, averaged over runs; NaN for the others."""
    scores = [Scores.of(one) for one in runs]
    of_kind = np.array([one.kind == kind for one in scores[0].predictions])
    return np.where(of_kind, np.mean([one.outcomes[metric] for one in scores], axis=0), np.nan)
