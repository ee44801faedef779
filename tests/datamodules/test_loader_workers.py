"""The worker processes of a run end with it, and take what they wrote to the temporary folder along."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
from pathlib import Path

import psutil
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from datamodules.loader import BatchLoader, BatchSet
from datamodules.packing import Draw, PackedBatchSampler, StridedBatchSampler

WORKERS, PAIRS = 2, [[i] for i in range(24)]


class Rows(BatchSet[Tensor]):
    pairs_of_image = PAIRS

    def __getitem__(self, draw: Draw) -> Tensor:
        return torch.ones(sum(map(len, draw.chunks)), 3)


class Cost(BatchSet[int]):
    """A batch is the bytes that a full collection of the worker adds to its memory."""

    pairs_of_image = PAIRS[:1]

    def __getitem__(self, draw: Draw) -> int:
        before = psutil.Process().memory_full_info().uss
        gc.collect()
        return int(psutil.Process().memory_full_info().uss - before)


class Linear(LightningModule):
    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.net, self.fail = nn.Linear(3, 1), fail
        self.busy = self.frozen = 0

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.busy, self.frozen = max(self.busy, len(multiprocessing.active_children())), gc.get_freeze_count()
        if self.fail and index == 2:
            raise RuntimeError("in the middle of an epoch")
        return self.net(batch).square().mean()

    def validation_step(self, batch: Tensor, index: int) -> None:
        pass

    def predict_step(self, batch: Tensor, index: int) -> Tensor:
        return self.net(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self) -> BatchLoader[Tensor]:
        return BatchLoader(Rows(), PackedBatchSampler(PAIRS, 2), WORKERS)

    def val_dataloader(self) -> BatchLoader[Tensor]:
        return BatchLoader(Rows(), StridedBatchSampler(PAIRS, 2), WORKERS)

    predict_dataloader = val_dataloader


@pytest.fixture
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one, torch would warn of two workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)


@pytest.mark.usefixtures("_two_cores")
@pytest.mark.parametrize("how", ["to the end", "by an error"])
def test_no_worker_outlives_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = Linear(fail=how == "by an error")
    trainer = Trainer(
        accelerator="cpu", max_steps=4, val_check_interval=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    if model.fail:
        with pytest.raises(RuntimeError, match="middle"):
            trainer.fit(model)
    else:
        trainer.fit(model)
        trainer.predict(model)
    assert model.busy >= WORKERS  # and the trainer, which holds the loaders, is still there
    assert multiprocessing.active_children() == []
    assert model.frozen > 0  # what they shared was not to be copied, and is garbage like any other now
    assert gc.get_freeze_count() == 0
    assert list(tmp_path.iterdir()) == []


def test_what_loaders_share_is_frozen_until_the_last_one_ends() -> None:
    first, second, alone = (BatchLoader(Rows(), StridedBatchSampler(PAIRS, 2), workers) for workers in (1, 1, 0))
    for loader in (first, second, alone):
        list(loader)
    second._iterator = None
    alone._iterator = None
    assert gc.get_freeze_count() > 0
    first._iterator = None
    assert gc.get_freeze_count() == 0
    list(first)
    assert gc.get_freeze_count() > 0
    first._loader._iterator._shutdown_workers()  # type: ignore[union-attr]
    del first, loader
    assert gc.get_freeze_count() == 0


def test_a_collection_copies_nothing_that_a_worker_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost() -> int:
        loader: BatchLoader[int] = BatchLoader(Cost(), StridedBatchSampler(PAIRS[:1], 1), num_workers=1)
        (grown,) = loader
        loader._iterator = None
        return grown

    frozen = cost()
    monkeypatch.setattr(gc, "freeze", lambda: None)
    assert frozen < 0.1 * cost()  # of what torch and the tests hold
