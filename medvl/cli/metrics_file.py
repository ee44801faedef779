"""`metrics.jsonl`: what a run logged, one JSON object per line."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from medvl.io.atomic import write_text

NAME = "metrics.jsonl"


class MetricsFile(Logger):
    """Appends one JSON object per log call to `metrics.jsonl`: `step`, `epoch`, `stage` and the metrics of the moment.

    Args:
        folder: The run folder. A value that is not finite is written as null, since JSON has no NaN.
        stage: `fit`, `validate` or `test`: a later validation may be of other data.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        super().__init__()
        self.folder, self.stage = folder, stage

    @property
    def name(self) -> str:
        """Not a part of the path: everything lies in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Not a part of the path either."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder: Lightning takes its `log_dir` from the first logger."""
        return str(self.folder)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a line."""
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        line: dict[str, float | str | None] = {"step": step, "epoch": int(metrics.get("epoch", 0)), "stage": self.stage}
        line |= {key: value if math.isfinite(value) else None for key, value in values.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the whole config is in `fit.yaml`."""


def rewind(folder: Path, step: int) -> None:
    """Drop the training lines of steps that are about to be done again, and a line that a kill cut off.

    Args:
        folder: The run folder.
        step: How many steps the run that goes on has done; lines count from 0.
    """
    path = folder / NAME
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if _stays(line, step)]
    if kept != lines:
        write_text(path, kept)


def _stays(line: str, step: int) -> bool:
    try:
        told = json.loads(line)
    except json.JSONDecodeError:
        return False
    return bool(line.endswith("\n") and (told["stage"] != "fit" or (told["step"] or 0) < step))
