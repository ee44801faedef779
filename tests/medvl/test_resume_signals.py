"""Told to stop: a run saves and ends, a job of SLURM asks to be started again and goes on by itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_toy import Run, medvl
from lightning.pytorch import Callback, LightningModule, Trainer

from medvl.cli.recording import load_primitives

__all__ = ["medvl"]
ALLOW = "--allow-import cli_toy --allow-import test_resume_signals"
TOY = f"{ALLOW} --config toy.yaml --trainer.max_epochs -1 --trainer.max_steps 6"
PARENT = Path("runs/toy/toy")


class Sender(Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, name: str, step: int = 4) -> None:
        self.number, self.step = signal.Signals[name], step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)


def sends(name: str) -> str:
    return f"--trainer.callbacks+=test_resume_signals.Sender --trainer.callbacks.name={name}"


def test_sigterm_saves_and_stops(medvl: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    status, _, error = medvl(f"fit {TOY} {sends('SIGTERM')}")
    assert status == 128 + signal.SIGTERM, error
    run = PARENT / (PARENT / "latest").readlink()
    told = ["SIGTERM: saved at step 4", f"{run}  next: medvl fit --run {run} --ckpt_path last"]
    assert error.splitlines()[-2:] == told
    assert load_primitives(run / "checkpoints/last.ckpt")["global_step"] == 4
    assert signal.getsignal(signal.SIGTERM) == before

    status, _, error = medvl(f"fit {TOY} --run {run} --ckpt_path last")
    assert status == 0, error
    assert f"{run} goes on from last.ckpt: epoch 2, step 4\n" in error
    assert load_primitives(run / "checkpoints/last.ckpt")["global_step"] == 6


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Play one task of a job; return the file in which its `scontrol` notes what it is asked."""
    tools, asked = tmp_path / "tools", tmp_path / "asked"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexit ${{REFUSED:-0}}\n')
    (tools / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    names = ("JOB_ID", "NTASKS", "PROCID", "LOCALID", "NODEID", "STEP_ID", "JOB_NAME")
    for name, value in zip(names, ("4711", "1", "0", "0", "0", "0", "train"), strict=True):
        monkeypatch.setenv(f"SLURM_{name}", value)
    return asked


def test_a_job_is_requeued_and_goes_on_by_itself(medvl: Run, slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = f"fit {TOY} {sends('SIGUSR1')}"
    status, _, error = medvl(words)
    assert status == 0, error
    assert "SIGUSR1: saved at step 4, job 4711 requeued\n" in error
    assert slurm.read_text() == "requeue 4711\n"
    run = PARENT / (PARENT / "latest").readlink()

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    status, out, error = medvl(words)  # the same command
    assert status == 0, error
    assert f"{run} goes on from last.ckpt: epoch 2, step 4\n" in error
    assert out.splitlines()[-1].startswith(f"{run}  next: medvl test")
    assert [path.name for path in PARENT.iterdir() if not path.is_symlink()] == [run.name]
    assert slurm.read_text() == "requeue 4711\n"

    monkeypatch.setenv("SLURM_STEP_ID", "1")  # another srun of the same job has a run of its own
    assert medvl(f"fit {TOY}")[0] == 0
    assert (PARENT / "latest").readlink() != Path(run.name)


def test_a_task_of_an_array_that_slurm_does_not_requeue(
    medvl: Run, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "50")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("REFUSED", "1")
    status, _, error = medvl(f"fit {TOY} {sends('SIGUSR1')}")
    assert status == 128 + signal.SIGTERM
    assert slurm.read_text() == "requeue 50_3\n"
    assert "SIGUSR1: saved at step 4\n" in error
