"""A run that goes on: it draws the random numbers that it would have drawn, and says from where it goes on."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from medvl.distributed import gather_objects
from medvl.errors import CheckpointError

KEY = "random_states"
States = dict[str, Any]
"""Of one rank, as tensors and plain values: a checkpoint with them loads with `weights_only=True`."""


class Resumption(Callback):
    """Keeps the random state of every rank in each checkpoint and puts it back before the first batch of a new start.

    Order and augmentation of the data need none of it: they are functions of seed, epoch and sample. Dropout, and
    whatever else a step draws from the global generators, does.
    """

    def __init__(self) -> None:
        self.states: list[States] = []
        self.resumed = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take down the states of all ranks."""
        checkpoint[KEY] = gather_objects([take(trainer.strategy.root_device)])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what the checkpoint holds until training begins."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.states, self.resumed = checkpoint.get(KEY, []), True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the place in the data, and say what goes on, and whether it can go on exactly."""
        if not self.resumed:
            return
        find_place(trainer.fit_loop)
        if trainer.is_global_zero:
            path = Path(str(trainer.ckpt_path))
            where = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
            print(f"{trainer.default_root_dir} goes on from {path.name}: {where}", file=sys.stderr, flush=True)
        if len(self.states) != trainer.world_size:
            was = f"{len(self.states)} ranks" if self.states else "a version that kept no random states"
            rank_zero_warn(f"the checkpoint is of {was}: on {trainer.world_size} the run goes on, but not bit for bit")
            self.states = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Put the states back, once: whatever setting up has drawn does not count."""
        if self.states:
            give(self.states[trainer.global_rank], trainer.strategy.root_device)
            self.states = []


def steps_done(held: Mapping[str, Any], where: Path) -> int:
    """Return how many optimiser steps a checkpoint to go on from has done.

    Raises:
        CheckpointError: It holds weights only.
    """
    if "optimizer_states" not in held:
        hint = "--init_from starts a new run from them"
        raise CheckpointError("this file holds weights only: no run goes on from it", where=str(where), hint=hint)
    return int(held.get("global_step", 0))


def find_place(loop: _FitLoop) -> None:
    """Mend what Lightning makes of the place at which a run was saved, once it has read that and before it trains.

    It gives loaders their states while it sets them up. A schedule over `max_epochs` asks how many steps there will be,
    and with it for the loaders, before the checkpoint is read: the run would begin its epoch anew. And a run that was
    saved after the last batch of an epoch would not count the next one as begun.
    """
    if loop.restarted_mid_epoch and loop.epoch_progress.current.completed == loop.epoch_progress.current.ready:
        loop.reset_restart_stage()
    if loop.restarting and loop._combined_loader_states_to_load and loop._data_fetcher is not None:
        loop._load_combined_loader_states()
        iter(loop._data_fetcher)


def take(device: torch.device) -> States:
    """Return the states of the global generators of Python, NumPy and torch, and of the device's if it is a GPU."""
    version, words, gauss = random.getstate()
    _, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    states: States = {
        "python": [version, torch.tensor(words), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(place), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def give(states: States, device: torch.device) -> None:
    """Put back what `take` returned."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(_bytes(states["torch"]))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(_bytes(states["cuda"]), device)


def _bytes(state: Tensor) -> Tensor:
    return state.to("cpu", torch.uint8)
