"""Where in a CT a sentence speaks of: ours beside priors that do not look, and models that see half of it.

All that is trained has the quickstart's recipe, the same steps and seeds; of each the checkpoint of the lowest depth
error on val is tested, on a twin of other patients that nothing was chosen on. The model that is told no depths is read
at the best of three temperatures on the very test, and every baseline is judged by the depth it must name, so that
silence costs it nothing; ours pays for silence about what the scan shows with the worst error an answer could have. The
seeds are of weights and order; values are averaged over them and patients are resampled once for all, so an interval
says how sure the mean over these seeds is, not how far another seed may lie: that is `by_seed`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.training import CONFIGS, Trainings, films, trainings
from benchmarks.volume_scores import Compared, Runs, in_the_organ
from medvl.viz.figure import bar_figure
from tasks.volume.judged import Judged, anywhere, in_the_middle
from tasks.volume.predictions import SnippetResult, read_results

RECIPE = ("--config", str(CONFIGS / "quickstart" / "volume.yaml"))
UNTOLD = ("--model.localisation_weight", "0", "--model.depth_heads", "global")
COSINE = ("--model.localiser", "Localiser", "--model.localiser.similarity", "cosine")
METHODS = {  # what is taken away
    "ours": (),
    "text-only": ("--data.blind", "image"),
    "image-only": ("--data.blind", "text"),
    "global-embedding": UNTOLD,
}
TESTED_ON = 2000  # added to the seed: of the twin that all are tested on
TEMPERATURES = (0.1, 0.03, 0.01)
RANDOM_RUNS = 16
BOTH = ("mae", "always/mae")  # silence counted, and where a depth must be named


def run(
    seed: int = 0,
    seeds: int = 3,
    steps: int = 1700,
    studies: int = 2000,
    test_studies: int = 1200,
    size: int = 0,
    keep: str = "",
) -> dict[str, Any]:
    """Train and test ours and three baselines beside three priors; some 25 minutes of one core for each training.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each is trained.
        steps: Training steps of each.
        studies: Of the twin that is trained on.
        test_studies: Of the twin that is tested on.
        size: Voxels across a slice; 0 is the twin's own.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    with trainings(keep) as done:
        twin, other = twins(done, studies, test_studies, seed, size)
        on = elsewhere(other)
        runs: dict[str, Runs] = {name: [] for name in METHODS}
        for one in range(seed, seed + seeds):
            for name, options in METHODS.items():
                found = train(done, twin, one, steps, *options)
                runs[name].append((warmed if options is UNTOLD else tested)(done, found, *on))
        first = runs["ours"][0]
        runs |= {"anatomy": [in_the_organ(first, other)], "middle": [in_the_middle(first)]}
        runs["random"] = [anywhere(first, one) for one in range(RANDOM_RUNS)]
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "test_studies": test_studies}
        budget |= {"commits": sorted(done.commits)}
    compared = Compared.of(runs)
    print(compared.markdown())
    bar_figure(
        harness.RESULTS / "volume-localization.png", "Sentences in CT volumes", compared.bars(), "mean error, mm"
    )
    return write(compared, runs, seed, budget)


def twins(done: Trainings, studies: int, test_studies: int, seed: int, size: int) -> tuple[Path, Path]:
    """Return the twin that is trained on, and one of other patients that is tested on."""
    trained = done.twin("ct-rate", *films(studies, seed, size))
    return trained, done.twin("ct-rate", *films(test_studies, seed + TESTED_ON, size))


def elsewhere(twin: Path) -> tuple[str, ...]:
    """Return the options that test a run on every study of another twin."""
    return ("--data.source.root", str(twin), "--data.source.split", "test")


def train(done: Trainings, twin: Path, seed: int, steps: int, *options: str) -> Path:
    """Train the quickstart on a twin, with `options`."""
    return done.train([*RECIPE, "--data.source.root", str(twin), *options], seed, steps, also=())


def tested(done: Trainings, run: Path, *options: str) -> list[SnippetResult]:
    """Return what the best checkpoint of a run says of the test snippets."""
    return read_results(done.tested(run, "predictions/test.jsonl", *options))


def warmed(done: Trainings, run: Path, *options: str) -> list[SnippetResult]:
    """Return the same at the temperature that suits a run best: nothing has fitted its depths' to the task's."""
    warm = (*options, *COSINE, "--model.localiser.temperature")
    trials = [tested(done, run, *warm, str(temperature)) for temperature in TEMPERATURES]
    return min(trials, key=lambda lines: float(np.nanmean(Judged.of(lines).means["always/mae"])))


def write(compared: Compared, runs: dict[str, Runs], seed: int, budget: dict[str, Any]) -> dict[str, Any]:
    """Write the result."""
    ours = compared.metrics["ours"]
    return harness.write_result(
        "volume-localization",
        unit="mean error in mm along the patient, ours with silence counted as the worst error; lower is better",
        ours=ours["mae"].mean,
        peers={name: compared.row(name) for name in compared.peers},
        n=int(compared.shown),
        seed=seed,
        higher_is_better=False,
        ratio=compared.ratio.mean,
        ratio_interval=list(compared.ratio),
        always_ratio=compared.always_ratio.mean,
        always_ratio_interval=list(compared.always_ratio),
        **compared.row("ours"),
        goal=0.45,
        **budget,
        by_organ=compared.breakdown("organ"),
        by_size=compared.breakdown("size"),
        by_resolution={name: list(value) for name, value in ours.items() if "@" in name},
        by_seed={
            name: [{key: float(np.nanmean(Judged.of(lines).means[key])) for key in BOTH} for lines in seeds]
            for name, seeds in runs.items()
        },
        metrics={name: {key: list(value) for key, value in row.items()} for name, row in compared.metrics.items()},
    )
