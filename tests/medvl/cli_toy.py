"""A task and data of a user's own, small enough to train in a moment; `--allow-import cli_toy` opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from medvl.cli.main import main
from medvl.errors import DataError

CONFIG = """\
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
model:
  class_path: cli_toy.ToyTask
  init_args:
    width: 4
data:
  class_path: cli_toy.ToyData
"""


class ToyEncoder(nn.Module):
    def __init__(self, depth: int = 1, kind: Literal["mean", "max"] = "mean") -> None:
        super().__init__()


@dataclass(frozen=True)
class ToyShow:
    least: float | None = 0.5
    edges: list[float | None] | None = None


class ToyTask(LightningModule):
    task_name = "toy"
    monitor = ("val/score", "max")

    def __init__(
        self,
        width: int = 4,
        encoder: ToyEncoder | None = None,
        show: ToyShow | None = None,
        optimizer: OptimizerCallable = torch.optim.SGD,
    ) -> None:
        super().__init__()
        self.net, self.optimizer = nn.Linear(width, 1), optimizer

    def loss(self, batch: list[Tensor]) -> Tensor:
        return self.net(batch[0]).square().mean()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val/score", -self.loss(batch), sync_dist=True)
        self.log("score", -self.loss(batch), prog_bar=True, logger=False, sync_dist=True)

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self.log("test/score", -self.loss(batch))

    def predict_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self.net(batch[0])

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


class InterruptedTask(ToyTask):
    def on_train_epoch_end(self) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt


class ToyData(LightningDataModule):
    def __init__(
        self, width: int = 4, broken: Literal["prepare_data", "setup", "train_dataloader"] | None = None
    ) -> None:
        super().__init__()
        self.width, self.broken = width, broken

    def prepare_data(self) -> None:
        self.refuse("prepare_data")

    def setup(self, stage: str) -> None:
        self.refuse("setup")

    def refuse(self, hook: str) -> None:
        if self.broken == hook:
            raise DataError("no such data", where=hook)

    def train_dataloader(self) -> DataLoader[Any]:
        self.refuse("train_dataloader")
        return DataLoader(TensorDataset(torch.ones(8, self.width)), batch_size=4)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.ones(8, self.width)), batch_size=4)

    test_dataloader = predict_dataloader = val_dataloader


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medvl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `medvl WORDS` in an empty folder with `toy.yaml`; return status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    (tmp_path / "toy.yaml").write_text(CONFIG)

    def run(words: str, *more: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([*words.split(), *more])
        return status, *capfd.readouterr()

    return run
