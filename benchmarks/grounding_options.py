"""The grounding options, each on and the others off, on one twin at equal budget.

All train as the quickstart does, in the same number of steps, and are calibrated on val by the same rule. Queries that
start at reference points are the default, so their row is what is lost without them: `learned-queries`.
"""

from __future__ import annotations

from typing import Any

from benchmarks.grounding_baselines import write
from benchmarks.training import CONFIGS, QUICKSTART, films, trainings
from medvl.outputs import PhrasePrediction

METHODS: dict[str, tuple[str, ...]] = {  # overlays
    "ours": (),
    "learned-queries": ("learned_queries",),
    "denoising": ("denoising",),
    "iou-confidence": ("iou_confidence",),
    "ema": ("ema",),
    "together": ("denoising", "iou_confidence", "ema"),
}


def run(
    seed: int = 0, seeds: int = 3, steps: int = 1200, studies: int = 1200, size: int = 0, keep: str = ""
) -> dict[str, Any]:
    """Train and test the quickstart with each option; about four minutes of two cores for each and seed.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each is trained.
        steps: Training steps of each.
        studies: Of the twin.
        size: Longest side of the twin's films; 0 draws it for each.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    found: dict[str, list[list[PhrasePrediction]]] = {name: [] for name in METHODS}
    with trainings(keep) as done:
        twin = done.twin("padchest-gr", *films(studies, seed, size))
        for one in range(seed, seed + seeds):
            for name, overlays in METHODS.items():
                paths = [str(CONFIGS / "grounding" / "options" / f"{overlay}.yaml") for overlay in overlays]
                options = [*QUICKSTART, *(word for path in paths for word in ("--config", path))]
                found[name].append(done.test(done.train([*options, "--data.source.root", str(twin)], one, steps)))
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "commits": sorted(done.commits)}
    return write("grounding-options", found, seed, **budget)
