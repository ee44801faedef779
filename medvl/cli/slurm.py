"""Jobs of SLURM: which run a restarted job began, and how a job asks to be started again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from medvl.cli.runs import CHECKPOINTS, runs_of

MARK = "slurm.job"  # in a run folder: the job that began it


def job() -> str | None:
    """Return the id of the job that this process is of, as `scontrol` takes it; None outside SLURM."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}"
    return os.environ.get("SLURM_JOB_ID")


def step() -> str | None:
    """Return the job and which of its `srun`s this is: both are the same when the job is started again."""
    return f"{found}.{os.environ.get('SLURM_STEP_ID', 'batch')}" if (found := job()) else None


def mark(folder: Path) -> None:
    """Note in a run folder which job began it."""
    if (found := step()) is not None:
        (folder / MARK).write_text(found + "\n", encoding="utf-8")


def begun_before(parent: Path) -> Path | None:
    """Return the run below `parent` that this job began before it was started again, if that has a checkpoint."""
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0" or (found := step()) is None:
        return None
    for run in runs_of(parent):
        mark = run / MARK
        if mark.is_file() and mark.read_text(encoding="utf-8").strip() == found:
            return run if any((run / CHECKPOINTS).glob("*.ckpt")) else None
    return None


def requeue() -> str | None:
    """Ask SLURM to start this job again; return its id, None if SLURM refused or is not there."""
    scontrol, found = shutil.which("scontrol"), job()
    if not (scontrol and found):
        return None
    asked = subprocess.run([scontrol, "requeue", found], check=False)  # noqa: S603  # the id is SLURM's own
    return None if asked.returncode else found
