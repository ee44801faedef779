"""The second stage of training starts from the weights of the first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_toy import Run, ToyTask, medvl
from lightning.pytorch import Trainer

from medvl.errors import CheckpointError
from medvl.starting import StartFrom

__all__ = ["medvl"]
TOY = "--allow-import cli_toy --config toy.yaml"


def weights(path: Path) -> torch.Tensor:
    held: torch.Tensor = torch.load(path, weights_only=True)["state_dict"]["net.weight"]
    return held


def test_stage_two_starts_where_stage_one_ended(medvl: Run) -> None:
    assert medvl(f"fit {TOY}")[0] == 0
    first = Path("runs/toy/toy/latest").resolve()
    start = f"--trainer.callbacks+=StartFrom --trainer.callbacks.checkpoint={first}"
    still = "--trainer.max_epochs 1 --model.optimizer.lr 0.0"
    status, _, error = medvl(f"fit {TOY} {still} --seed_everything 7 {start}")
    assert status == 0, error
    second = Path("runs/toy/toy/latest").resolve()
    assert second != first
    torch.testing.assert_close(weights(second / "checkpoints/last.ckpt"), weights(first / "checkpoints/best.ckpt"))
    # A run that goes on has its own weights, wherever it once began.
    (first / "checkpoints/best.ckpt").rename(first / "gone.ckpt")
    status, _, error = medvl(f"fit --run {second} --ckpt_path last --allow-import cli_toy --trainer.max_epochs 2")
    assert status == 0, error
    status, _, error = medvl(f"fit {TOY} {start}")
    assert status == 2
    assert error.startswith("error: no such checkpoint to start from")
    assert len(error.splitlines()) <= 4


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path, trainer = tmp_path / "other.ckpt", Trainer(logger=False)
    torch.save({"state_dict": ToyTask(width=5).state_dict()}, path)
    before = ToyTask(width=4)
    with pytest.raises(CheckpointError, match="of another model"):
        StartFrom(str(path)).setup(trainer, before, "fit")
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        StartFrom(str(path)).setup(trainer, before, "fit")
    StartFrom(str(path)).setup(trainer, before, "test")
