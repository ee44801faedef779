"""What silence costs: P@(F1=1) against N-acc over all score thresholds, of set prediction and of other kinds of model.

The curves are of the test split, each with the fusion IoU that was chosen on val. A curve that lies above another is
better wherever one chooses to be; what the threshold chosen on val gives is the result's figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.grounding_baselines import TUNED_ON, runs_of, tune
from benchmarks.training import films, trainings
from medvl.outputs import PhrasePrediction
from medvl.viz.chart import Line
from medvl.viz.figure import line_figure
from tasks.grounding.calibration import THRESHOLDS, SweepPoint, calibrate
from tasks.grounding.postprocess import Detections

FLOORS = (0.8, 0.9, 0.95)


def run(seed: int = 0, steps: int = 1200, studies: int = 1200, size: int = 0, keep: str = "") -> dict[str, Any]:
    """Sweep the threshold of every model of `grounding-baselines`, write `threshold-sweep.json`.

    Args:
        seed: Of the twin and the weights.
        steps: Training steps of each.
        studies: Of the twin.
        size: Longest side of the twin's films; 0 draws it for each.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    points: dict[str, tuple[SweepPoint, ...]] = {}
    chosen: dict[str, SweepPoint] = {}
    with trainings(keep) as done:
        rates = tune(done, done.twin("padchest-gr", *films(studies, seed + TUNED_ON, size)), seed, steps // 2)
        twin = done.twin("padchest-gr", *films(studies, seed, size))
        for name, run_of, options in runs_of(done, twin, rates, seed, steps):
            lines = done.test(run_of, *options)
            points[name], chosen[name] = sweep(lines, run_of)
        budget = {"steps": steps, "studies": studies, "commits": sorted(done.commits)}
    draw(harness.RESULTS / "threshold-sweep.png", points)
    figures = {name: {"p_at_f1": one.p_at_f1, "n_acc": one.n_acc or 0.0} for name, one in chosen.items()}
    return harness.write_result(
        "threshold-sweep",
        unit="P@(F1=1, IoU >= .5) with boxes and N-acc without, at the threshold chosen on val",
        ours=figures.pop("ours"),
        peers=figures,
        n=len(lines),
        seed=seed,
        **budget,
        thresholds={name: one.threshold for name, one in chosen.items()},
        best_p_at_n_acc={name: at_floors(row) for name, row in points.items()},
        sweep={name: [[one.threshold, one.n_acc, one.p_at_f1] for one in row] for name, row in points.items()},
    )


def sweep(lines: Sequence[PhrasePrediction], run: Path) -> tuple[tuple[SweepPoint, ...], SweepPoint]:
    """Return the points of the test split over all thresholds, and that of the threshold chosen on val."""
    settings = json.loads((run / "calibration.json").read_text(encoding="utf-8"))
    found = [
        Detections(
            torch.tensor(one.all_boxes_xyxy_px, dtype=torch.float32).reshape(-1, 4), torch.tensor(one.all_scores)
        )
        for one in lines
    ]
    gold = [torch.tensor(one.gold_xyxy_px or (), dtype=torch.float32).reshape(-1, 4) for one in lines]
    points = calibrate(found, gold, 0.0, THRESHOLDS, (settings["fusion_iou"],)).points
    return points, next(one for one in points if one.threshold == settings["threshold"])


def at_floors(points: Sequence[SweepPoint]) -> dict[str, float | None]:
    """Return the best P@(F1=1) of the points whose N-acc is at least each floor; None where there is none."""
    able = {floor: [one.p_at_f1 for one in points if (one.n_acc or 0.0) >= floor] for floor in FLOORS}
    return {f"{floor:g}": max(values, default=None) for floor, values in able.items()}


def draw(path: Path, points: dict[str, tuple[SweepPoint, ...]]) -> Path:
    """Draw every curve over N-acc."""
    lines = []
    for name, row in points.items():
        pairs = sorted((one.n_acc or 0.0, one.p_at_f1) for one in row)
        lines.append(Line(name, [x for x, _ in pairs], [y for _, y in pairs]))
    labels = "N-acc, sentences without boxes", "P@(F1=1), sentences with boxes"
    return line_figure(path, "Boxes found against silence kept, all thresholds", lines, *labels)
