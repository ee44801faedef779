"""The quickstart against models that are blind: the same recipe without the image, and without knowing which sentence.

Trains three times at equal budget on one twin, through the command line that users have.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import write_result
from medvl.cli.main import main
from medvl.metrics.bootstrap import Interval, patient_bootstrap
from medvl.outputs import PhrasePrediction, read_predictions
from medvl.viz.scores import Scores

STUDIES = 1200  # as `make demo` writes
CONFIG = Path(__file__).resolve().parents[1] / "configs" / "quickstart" / "grounding.yaml"
BLIND = {"ours": "none", "text-only": "image", "image-only": "text"}  # what is taken away


def run(seed: int = 0) -> dict[str, Any]:
    """Train, test and score the quickstart and its two blind twins; about a quarter of an hour on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "twin"
        call("data", "twin", "padchest-gr", str(twin), "--studies", str(STUDIES), "--seed", str(seed))
        runs = {name: train(twin, Path(folder) / name, blind, seed) for name, blind in BLIND.items()}
    ours, minutes = runs["ours"]
    scores = {name: score(predictions, "boxed") for name, (predictions, _) in runs.items()}
    return write_result(
        "quickstart-grounding",
        unit="P@(F1=1, IoU >= .5) over sentences with boxes",
        ours=scores["ours"][0],
        peers={name: value[0] for name, value in scores.items() if name != "ours"},
        n=sum(prediction.kind == "boxed" for prediction in ours),
        seed=seed,
        interval={name: list(value[1:]) for name, value in scores.items()},
        n_acc_negated=score(ours, "negated")[0],
        n_acc_absent=score(ours, "absent")[0],
        train_minutes=minutes,
    )


def train(twin: Path, runs: Path, blind: str, seed: int) -> tuple[list[PhrasePrediction], float]:
    """Fit and test one model; return its predictions and the minutes that fit took, validation included."""
    options = ["--config", str(CONFIG), "--data.source.root", str(twin), "--data.blind", blind]
    options += ["--runs", str(runs), "--seed_everything", str(seed)]
    start = time.perf_counter()
    call("fit", *options)
    minutes = (time.perf_counter() - start) / 60
    call("test", *options, "--ckpt_path", "best")
    (file,) = runs.glob("grounding/*/*-*/predictions/test.jsonl")
    return read_predictions(file), minutes


def score(predictions: list[PhrasePrediction], kind: str) -> Interval:
    """Return P@(F1=1) of one kind of sentence with its patient-bootstrap interval."""
    scores = Scores.of([prediction for prediction in predictions if prediction.kind == kind])
    return patient_bootstrap(scores.outcomes["p_at_f1"], scores.patients)


def call(*words: str) -> None:
    """Run a command of ours, as a user would.

    Raises:
        RuntimeError: It failed.
    """
    if main(list(words)):
        raise RuntimeError(f"medvl {' '.join(words)} failed")
