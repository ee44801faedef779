"""A run that is cut off anywhere and goes on from `last` is the run that was never cut off."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from ranks import on_ranks
from torch import Tensor, nn

from datamodules.loader import BatchLoader, BatchSet
from datamodules.packing import Draw, PackedBatchSampler, StridedBatchSampler
from medvl.averaging import MovingAverage
from medvl.cli.parts import trainer_parts
from medvl.cli.quiet import quieten
from medvl.cli.recording import RunRecorder, load_primitives
from medvl.cli.resuming import give, take
from medvl.optim import scheduled
from medvl.schedule import Schedule

BATCHES = 5  # of an epoch


class Rows(BatchSet[Tensor]):
    def __init__(self) -> None:
        self.pairs_of_image = [[i] for i in range(2 * BATCHES)]

    def __getitem__(self, draw: Draw) -> Tensor:
        return torch.tensor([[float(pair), float(draw.epoch), 1.0] for chunk in draw.chunks for pair in chunk])


class Noisy(LightningModule):
    """Draws from every global generator in each step, and in each validation."""

    def __init__(self, shape: str = "cosine") -> None:
        super().__init__()
        self.net, self.schedule = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1)), shape

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        noise = random.gauss() + np.random.randn() + torch.rand(())
        loss = (self.net(batch) - noise).square().mean()
        self.log("train/loss", loss, sync_dist=True)
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        noise = random.gauss() + np.random.randn() + torch.rand(())
        self.log("val/loss", self.net(batch).mean() + noise, batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> Any:
        groups = [{"params": list(self.parameters()), "scale": 1.0}]
        schedule = Schedule(warmup=0.0 if self.schedule == "constant" else 0.1, shape=self.schedule)  # type: ignore[arg-type]
        steps = int(self.trainer.estimated_stepping_batches)
        return scheduled(groups, lambda found: torch.optim.AdamW(found, lr=0.01), schedule, steps)

    def _loader(self, sampler: type[PackedBatchSampler] | type[StridedBatchSampler]) -> BatchLoader[Tensor]:
        place = {"world": self.trainer.world_size, "rank": self.trainer.global_rank}
        size = 2 // self.trainer.world_size
        return BatchLoader(Rows(), sampler(Rows().pairs_of_image, size, **place))  # type: ignore[arg-type]

    def train_dataloader(self) -> BatchLoader[Tensor]:
        return self._loader(PackedBatchSampler)

    def val_dataloader(self) -> BatchLoader[Tensor]:
        return self._loader(StridedBatchSampler)


class Cut(Exception):
    """A kill, as far as one process can play it."""


class Cutter(Callback):
    """Ends the process when this many batches are through: before the callbacks that save, or at the next batch."""

    def __init__(self, batches: int, early: bool) -> None:
        self.left, self.early = batches, early

    def on_train_batch_end(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0 and self.early:
            raise Cut

    def on_train_batch_start(self, *args: Any) -> None:
        if self.left == 0:
            raise Cut


def fit(
    folder: Path, options: dict[str, Any], cut: Cutter | None = None, resume: bool = False, shape: str = "cosine"
) -> dict[str, Tensor]:
    quieten()
    torch.manual_seed(0 if not resume else 99)
    random.seed(torch.initial_seed()), np.random.seed(torch.initial_seed())
    folder.mkdir(exist_ok=True)
    last = folder / "checkpoints/last.ckpt"
    held = load_primitives(last) if resume else {}
    callbacks = [MovingAverage(0.9), *([cut] if cut else [])]
    config = Namespace(
        callbacks=callbacks, enable_checkpointing=True, fast_dev_run=False, enable_progress_bar=False, plugins=None,
        logger=False,
    )  # fmt: skip
    recorder = RunRecorder(folder, "{}", "fit", False, held.get("global_step", 0))
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, log_every_n_steps=1, **trainer_parts(config, folder, "fit", recorder,
        ("val/loss", "min"), 2), **options,
    )  # fmt: skip
    model = Noisy(shape)
    trainer.fit(model, ckpt_path=last if resume else None, weights_only=True)
    return model.state_dict()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def places(folder: Path) -> Any:
    return load_primitives(folder / "checkpoints/last.ckpt")["loops"]["fit_loop"]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


STEPS = {"max_steps": 9, "accumulate_grad_batches": 2, "val_check_interval": 3, "check_val_every_n_epoch": None}
EPOCHS = {"max_epochs": 3}
BLIND = EPOCHS | {"limit_val_batches": 0}
CUTS = [(6, False), (9, True), (10, False), (11, True), (12, False)]  # after a save, before one, at an epoch's end


@pytest.mark.parametrize("options", [STEPS, EPOCHS, BLIND], ids=["steps", "epochs", "without-validation"])
def test_cut_anywhere(tmp_path: Path, options: dict[str, Any]) -> None:
    """Accumulated gradients, average, schedule, validation within epochs and at their ends; and cut off again."""
    whole = fit(tmp_path / "whole", options)
    for batches, early in CUTS:
        folder = tmp_path / f"{batches}{early}"
        with pytest.raises(Cut):
            fit(folder, options, Cutter(batches, early))
        with pytest.raises(Cut):
            fit(folder, options, Cutter(3, not early), resume=True)
        assert same(fit(folder, options, resume=True), whole), (batches, early)
        assert lines(folder) == lines(tmp_path / "whole"), (batches, early)
        assert places(folder) == places(tmp_path / "whole"), (batches, early)


def test_a_longer_run_goes_on_within_the_epoch(tmp_path: Path) -> None:
    """What ended at `max_steps` is extended as if it had never ended, as far as the schedule allows: a constant one."""
    whole = fit(tmp_path / "whole", STEPS, shape="constant")
    fit(tmp_path / "grown", STEPS | {"max_steps": 4}, shape="constant")
    assert same(fit(tmp_path / "grown", STEPS, resume=True, shape="constant"), whole)
    assert lines(tmp_path / "grown") == lines(tmp_path / "whole")


def on_rank(rank: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "", "MASTER_PORT": "0"}
    options = STEPS | {"devices": 2, "strategy": "ddp", "max_steps": 6}
    whole = fit(folder / "whole", options)
    with pytest.raises(Cut):
        fit(folder / "cut", options, Cutter(8, early=False))
    assert same(fit(folder / "cut", options, resume=True), whole)
    if rank == 0:
        assert lines(folder / "cut") == lines(folder / "whole")


def test_two_ranks_each_draw_their_own(tmp_path: Path) -> None:
    on_ranks(on_rank, tmp_path)


def test_other_ranks_than_before_are_told(tmp_path: Path) -> None:
    fit(tmp_path, STEPS | {"max_steps": 4})
    path = tmp_path / "checkpoints/last.ckpt"
    held = load_primitives(path)
    assert len(held["random_states"]) == 1
    torch.save(held | {"random_states": 2 * held["random_states"]}, path)
    path.with_name("last.ckpt.sha256").unlink()
    with pytest.warns(UserWarning, match="of 2 ranks: on 1 the run goes on, but not bit for bit"):
        fit(tmp_path, STEPS | {"max_steps": 5}, resume=True)
    assert lines(tmp_path)[-1]["step"] == 4


def test_states_are_tensors_and_plain_values(tmp_path: Path) -> None:
    random.gauss()  # keeps a second number for the next call
    torch.save(take(torch.device("cpu")), tmp_path / "a.pt")
    drawn = random.gauss(), np.random.randn(), float(torch.rand(()))
    give(torch.load(tmp_path / "a.pt", weights_only=True), torch.device("cpu"))
    assert (random.gauss(), np.random.randn(), float(torch.rand(()))) == drawn
