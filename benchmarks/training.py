"""Runs of the command line that benchmarks train with: the quickstart's recipe, calibrated on val."""

from __future__ import annotations

from pathlib import Path

from medvl.cli.main import main
from medvl.outputs import PhrasePrediction, read_predictions

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
QUICKSTART = ("--config", str(CONFIGS / "quickstart" / "grounding.yaml"))
CALIBRATED = ("--model.postprocess.threshold", "calibrated", "--model.postprocess.fusion_iou", "calibrated")


def trained(options: list[str], runs: Path, seed: int, steps: int) -> Path:
    """Train one model in `steps` steps with four looks at val; return its run folder, the only one in `runs`."""
    length = ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(max(1, steps // 4))]
    call("fit", *options, *CALIBRATED, *length, "--runs", str(runs), "--seed_everything", str(seed))
    (folder,) = runs.glob("grounding/*/*-*")
    return folder


def tested(run: Path, *options: str) -> list[PhrasePrediction]:
    """Test the best checkpoint of a run, on the data that it was trained on unless `options` say otherwise."""
    call("test", "--run", str(run), *options)
    return read_predictions(run / "predictions" / "test.jsonl")


def call(*words: str) -> None:
    """Run a command of ours, as a user would.

    Raises:
        RuntimeError: It failed.
    """
    if main(list(words)):
        raise RuntimeError(f"medvl {' '.join(words)} failed")
