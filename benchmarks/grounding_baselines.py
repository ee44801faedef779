"""Set prediction beside other kinds of model, and models that are blind, on one twin at equal budget.

All train on the same data in the same number of steps with the same small encoders, optimiser and schedule, each with
the learning rate of the same sweep that suits it best on val of another twin, and each is calibrated on val by the same
rule (at the end of fit; what the rule is stands in `tasks/grounding/calibration.py`).
The seeds are of weights and order; the sentences are the same, so that values are averaged over seeds and patients are
resampled once for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.grounding_scores import Comparison, alone, compare_methods, headline
from benchmarks.harness import write_result
from benchmarks.training import CONFIGS, Trainings, films, trainings
from medvl.outputs import PhrasePrediction

METHODS = {  # config, and what is taken away
    "ours": ("quickstart/grounding.yaml", "none"),
    "one-box": ("grounding/baseline_one_box.yaml", "none"),
    "dense": ("grounding/baseline_dense.yaml", "none"),
    "text-only": ("quickstart/grounding.yaml", "image"),
    "image-only": ("quickstart/grounding.yaml", "text"),
}
RULE = ("--model.rule", "true")  # in front of the one-box model, which is calibrated anew with it
RATE, RATES = "--model.optimizer.lr", (5e-4, 1e-3, 2e-3)
TUNED_ON = 11  # added to the seed: the rates are chosen on val of a twin that nothing else is measured on


def run(
    seed: int = 0, seeds: int = 3, steps: int = 1200, studies: int = 1200, size: int = 0, keep: str = ""
) -> dict[str, Any]:
    """Train and test every method; about four minutes of two cores for each method and seed, and as many to tune.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each method is trained.
        steps: Training steps of each.
        studies: Of the twin.
        size: Longest side of the twin's films; 0 draws it for each.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    found: dict[str, list[list[PhrasePrediction]]] = {}
    with trainings(keep) as done:
        rates = tune(done, done.twin("padchest-gr", *films(studies, seed + TUNED_ON, size)), seed, steps // 2)
        twin = done.twin("padchest-gr", *films(studies, seed, size))
        for one in range(seed, seed + seeds):
            for name, run_of, options in runs_of(done, twin, rates, one, steps):
                found.setdefault(name, []).append(done.test(run_of, *options))
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "commits": sorted(done.commits)}
    tuned = {config: {str(rate): value for rate, value in row.items()} for config, row in rates.items()}
    return write("grounding-baselines", found, seed, **budget, loss_on_val_of_another_twin_by_rate=tuned)


def runs_of(
    done: Trainings, twin: Path, rates: dict[str, dict[float, float]], seed: int, steps: int
) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Yield each method's name, its run and the options that it is tested with."""
    for name, (config, blind) in METHODS.items():
        rate = str(min(rates[config], key=lambda rate: rates[config][rate]))
        run_of = done.train([*recipe(config, twin), RATE, rate, "--data.blind", blind], seed, steps)
        yield name, run_of, ()
        if name == "one-box":
            yield "one-box-rule", done.changed(run_of, *RULE), RULE


def tune(done: Trainings, twin: Path, seed: int, steps: int) -> dict[str, dict[float, float]]:
    """Return the loss on val of another twin by config and learning rate: the same sweep for each kind of model."""
    configs = dict.fromkeys(config for config, _ in METHODS.values())
    return {
        config: {
            rate: done.loss_on_val(done.train([*recipe(config, twin), RATE, str(rate)], seed, steps)) for rate in RATES
        }
        for config in configs
    }


def recipe(config: str, twin: Path) -> list[str]:
    """Return the options of a method on a twin."""
    return ["--config", str(CONFIGS / config), "--data.source.root", str(twin)]


def write(name: str, found: dict[str, list[list[PhrasePrediction]]], seed: int, **budget: Any) -> dict[str, Any]:
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
