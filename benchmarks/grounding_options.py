"""The grounding options, each on and the others off, on one twin at equal budget.

All train as the quickstart does, in the same number of steps, and are calibrated on val by the same rule. Queries that
start at reference points are the default, so their row is what is lost without them: `learned-queries`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.grounding_baselines import write
from benchmarks.training import CONFIGS, QUICKSTART, call, tested, trained
from medvl.outputs import PhrasePrediction

METHODS: dict[str, tuple[str, ...]] = {  # overlays
    "ours": (),
    "learned-queries": ("learned_queries",),
    "denoising": ("denoising",),
    "iou-confidence": ("iou_confidence",),
    "ema": ("ema",),
    "together": ("denoising", "iou_confidence", "ema"),
}


def run(seed: int = 0, seeds: int = 3, steps: int = 1200, studies: int = 1200, size: int = 0) -> dict[str, Any]:
    """Train and test the quickstart with each option; about five minutes of two cores for each and seed.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each is trained.
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
            for name, overlays in METHODS.items():
                paths = [str(CONFIGS / "grounding" / "options" / f"{overlay}.yaml") for overlay in overlays]
                options = [*QUICKSTART, *(word for path in paths for word in ("--config", path))]
                start = time.perf_counter()
                done = trained([*options, "--data.source.root", str(twin)], Path(folder) / f"{name}-{one}", one, steps)
                minutes[name].append((time.perf_counter() - start) / 60)  # validation included
                found[name].append(tested(done))
    return write("grounding-options", found, minutes, seed, seeds=seeds, steps=steps, studies=studies)
