"""Trainings of benchmarks, through the command line that users have; each is done once where results are kept.

A comparison of several kinds of model with several seeds takes hours. With `--keep FOLDER` what is done stays: a run
that was cut off goes on from there, and another benchmark that trains the same model on the same data finds it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import commit
from medvl.cli.main import main
from medvl.io.atomic import replacing, write_text
from medvl.outputs import PhrasePrediction, read_predictions

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
QUICKSTART = ("--config", str(CONFIGS / "quickstart" / "grounding.yaml"))
CALIBRATED = ("--model.postprocess.threshold", "calibrated", "--model.postprocess.fusion_iou", "calibrated")
LOOKS = 3  # at val in each training, as the quickstart has


class Trainings:
    """What is trained and tested in one folder.

    Args:
        place: Holds twins, runs and predictions. A training is known by a digest of its command line; the commit that
            it was done at stands beside it, and is not part of the digest.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.commits: set[str] = set()

    def twin(self, kind: str, *options: str) -> Path:
        """Write a twin, unless it is there."""
        folder = self.place / "twins" / digest([kind, *options])
        if not (folder.parent / f"{folder.name}.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            call("data", "twin", kind, str(folder), *options)
            write_text(folder.parent / f"{folder.name}.json", [json.dumps([kind, *options])])
        return folder

    def train(self, options: list[str], seed: int, steps: int, also: Sequence[str] = CALIBRATED) -> Path:
        """Train one model in `steps` steps; return its run folder.

        Args:
            options: Of the command line.
            seed: Of weights and order.
            steps: How many.
            also: What every model of a kind is trained with; those that ground phrases are calibrated on val.
        """
        length = ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(max(1, steps // LOOKS))]
        words = ["fit", *options, *also, *length, "--seed_everything", str(seed)]
        runs = self.place / "runs" / digest(words)
        done = runs / "trained.json"
        if not done.exists():
            shutil.rmtree(runs, ignore_errors=True)
            call(*words, "--runs", str(runs))
            write_text(done, [json.dumps({"words": words, "commit": commit()})])
        self.commits.add(json.loads(done.read_text(encoding="utf-8"))["commit"])
        (folder,) = runs.glob("*/*/*-*")
        return folder

    def test(self, run: Path, *options: str) -> list[PhrasePrediction]:
        """Test the best checkpoint of a run, on the data that it was trained on unless `options` say otherwise."""
        return read_predictions(self.tested(run, "predictions/test.jsonl", *options))

    def tested(self, run: Path, name: str, *options: str) -> Path:
        """Test a run; return a copy of a file that this leaves in its folder, which another test would replace."""
        file = Path(name)
        kept = run.parents[2] / f"{file.stem}-{digest(list(options))}{file.suffix}"
        if not kept.exists():
            call("test", "--run", str(run), *options)
            with replacing(kept) as draft:
                shutil.copyfile(run / file, draft)
        return kept

    def written(self, path: Path, *words: str) -> Path:
        """Run a command that writes a file, unless the file is there."""
        if not path.exists():
            call(*words)
        return path

    def changed(self, run: Path, *options: str) -> Path:
        """Return a copy of a run with `options` changed that need no training, calibrated anew on val."""
        runs = self.place / "runs" / digest([run.parents[2].name, *options])
        folder, done = runs / run.relative_to(run.parents[2]), runs / "trained.json"
        if not done.exists():
            shutil.rmtree(runs, ignore_errors=True)
            shutil.copytree(run, folder)
            call("calibrate", "--run", str(folder), *options)
            write_text(done, [json.dumps({"words": ["calibrate", *options], "commit": commit()})])
        return folder

    def loss_on_val(self, run: Path) -> float:
        """Return the lowest loss that was seen on val; of models of one kind the better one has the lower."""
        return min(logged(run / "metrics.jsonl", "val/loss"))


@contextmanager
def trainings(keep: str) -> Iterator[Trainings]:
    """Open the folder `keep`, or one that is deleted afterwards where it is empty."""
    if keep:
        yield Trainings(Path(keep).resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Trainings(Path(folder))


def films(studies: int, seed: int, size: int) -> list[str]:
    """Return the options of a twin; `size` 0 draws the side of each film."""
    return ["--studies", str(studies), "--seed", str(seed), *(["--size", str(size)] if size else [])]


def logged(path: Path, name: str) -> list[float]:
    """Return a metric's values in a run's `metrics.jsonl`, in the order in which they were logged."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line[name] for line in lines if line.get(name) is not None]


def digest(words: list[str]) -> str:
    """Name a command line, whichever checkout it is of."""
    plain = [word.replace(str(CONFIGS), "configs") for word in words]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]


def call(*words: str) -> None:
    """Run a command of ours, as a user would.

    Raises:
        RuntimeError: It failed.
    """
    if main(list(words)):
        raise RuntimeError(f"medvl {' '.join(words)} failed")
