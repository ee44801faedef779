"""Set prediction beside other kinds of model, and models that are blind, on one twin at equal budget.

All train on the same data in the same number of steps with the same small encoders, optimiser and schedule, and each
is calibrated on val by the same rule (at the end of fit; what the rule is stands in `tasks/grounding/calibration.py`).
The seeds are of weights and order; the sentences are the same, so that values are averaged over seeds and patients are
resampled once for all.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.grounding_scores import Comparison, alone, compare_methods, headline
from benchmarks.harness import write_result
from benchmarks.training import CONFIGS, call, tested, trained
from medvl.outputs import PhrasePrediction

METHODS = {  # config, and what is taken away
    "ours": ("quickstart/grounding.yaml", "none"),
    "one-box": ("grounding/baseline_one_box.yaml", "none"),
    "one-box-rule": ("grounding/baseline_one_box_rule.yaml", "none"),
    "dense": ("grounding/baseline_dense.yaml", "none"),
    "text-only": ("quickstart/grounding.yaml", "image"),
    "image-only": ("quickstart/grounding.yaml", "text"),
}


def run(seed: int = 0, seeds: int = 3, steps: int = 1200, studies: int = 1200, size: int = 0) -> dict[str, Any]:
    """Train and test every method; about five minutes of two cores for each method and seed.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each method is trained.
        steps: Training steps of each.
        studies: Of the twin.
        size: Longest side of the twin's films; 0 draws it for each.
    """
    found: dict[str, list[list[PhrasePrediction]]] = {name: [] for name in METHODS}
    minutes: dict[str, list[float]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "twin"
        words = ["--studies", str(studies), "--seed", str(seed), *(["--size", str(size)] if size else [])]
        call("data", "twin", "padchest-gr", str(twin), *words)
        for one in range(seed, seed + seeds):
            for name, (config, blind) in METHODS.items():
                options = ["--config", str(CONFIGS / config), "--data.source.root", str(twin), "--data.blind", blind]
                start = time.perf_counter()
                folder_of_run = trained(options, Path(folder) / f"{name}-{one}", one, steps)
                minutes[name].append((time.perf_counter() - start) / 60)  # validation included
                found[name].append(tested(folder_of_run))
    return write("grounding-baselines", found, minutes, seed, seeds=seeds, steps=steps, studies=studies)


def write(
    name: str, found: dict[str, list[list[PhrasePrediction]]], minutes: dict[str, list[float]], seed: int, **budget: Any
) -> dict[str, Any]:
    """Compare, write the result and print it as a table of docs/benchmarks.md."""
    comparison = compare_methods(found)
    figures = {name: headline(row) for name, row in comparison.metrics.items()}
    print(markdown(comparison))
    return write_result(
        name,
        unit="P@(F1=1, IoU >= .5) on sentences with one, several and no boxes, calibrated on val",
        ours=figures.pop("ours"),
        peers=figures,
        n=len(found["ours"][0]),
        seed=seed,
        **budget,
        metrics={name: {key: list(value) for key, value in row.items()} for name, row in comparison.metrics.items()},
        ahead={name: {key: list(value) for key, value in row.items()} for name, row in comparison.ahead.items()},
        ours_not_ahead=comparison.not_won(),
        by_seed={name: [alone(lines) for lines in runs] for name, runs in found.items()},
        thresholds={name: [run[0].threshold for run in runs] for name, runs in found.items()},
        train_minutes=minutes,
    )


def markdown(comparison: Comparison) -> str:
    """Return the table of the most telling metrics."""
    columns = {
        "P, one box": "p_at_f1/single", "P, several": "p_at_f1/multi", "P, none": "p_at_f1/zero",
        "SetF1": "set_f1@0.5/boxed", "mIoU": "miou/boxed", "FROC": "froc/mean",
    }  # fmt: skip
    rows = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in comparison.metrics.items():
        cells = [f"{row[key].mean:.3f} ({row[key].low:.3f}–{row[key].high:.3f})" for key in columns.values()]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)
