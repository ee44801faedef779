"""Calibration where a run meets it: on every validation, in every checkpoint, and by `medvl calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from datamodules.batches import GroundingBatch
from medvl.distributed import gather_objects
from medvl.errors import DataError
from medvl.io.atomic import write_text
from tasks.grounding.calibration import calibrate
from tasks.grounding.postprocess import Detections

KEY, FILE = "calibration", "calibration.json"


class Calibrator(Callback):
    """Chooses threshold and fusion IoU on every validation, so that each checkpoint holds what suits its own weights.

    The choice goes to the task's `calibration`, from there into the checkpoint, and at the end of fit, as it stands in
    the best checkpoint, into `calibration.json`, which the report draws. Validation data without any box leave what
    was there.

    Args:
        n_acc_floor: Share of sentences without a box for which silence must be kept.
    """

    def __init__(self, n_acc_floor: float) -> None:
        self.n_acc_floor = n_acc_floor
        self.results: list[tuple[Detections, Tensor]] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GroundingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep every query and the gold boxes of a batch."""
        if not trainer.sanity_checking:
            self.results += [(result.found, result.gold()) for result in outputs]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate on the sentences of all ranks."""
        results = gather_objects(self.results)
        self.results = []
        if any(len(gold) for _, gold in results):
            found, gold = zip(*results, strict=True)
            pl_module.calibration = calibrate(found, gold, self.n_acc_floor).as_dict()  # type: ignore[assignment]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the calibration into the checkpoint."""
        checkpoint[KEY] = pl_module.calibration

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the best checkpoint holds."""
        keeper = trainer.checkpoint_callback
        best = keeper.best_model_path if isinstance(keeper, ModelCheckpoint) else ""
        if trainer.is_global_zero:
            found = torch.load(best, "cpu", weights_only=True, mmap=True).get(KEY) if best else pl_module.calibration
            write_calibration(Path(trainer.default_root_dir), found)


class StoreCalibration(Callback):
    """After `validate`, puts the calibration into the checkpoint that was validated: `medvl calibrate`.

    Args:
        checkpoint: Its file (the trainer does not tell).
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rewrite the checkpoint, whole or not at all, and `calibration.json`.

        Raises:
            DataError: No validation sentence has a box.
        """
        found: Any = pl_module.calibration
        if found is None:
            raise DataError("no validation sentence has a box: nothing to calibrate on", hint="expected a split val")
        if trainer.is_global_zero:
            files = trainer.strategy.checkpoint_io
            content = files.load_checkpoint(self.checkpoint, weights_only=True)
            files.save_checkpoint(content | {KEY: found}, self.checkpoint)
            write_calibration(Path(trainer.default_root_dir), found)
            print(summary(found))


def write_calibration(folder: Path, calibration: Any) -> None:
    """Write `calibration.json` into a run folder; nothing where there was nothing to calibrate on."""
    if calibration is not None:
        write_text(folder / FILE, [json.dumps(calibration, indent=1, allow_nan=False), "\n"])


def summary(found: dict[str, Any]) -> str:
    """Return what was chosen in a line."""
    chosen = {"threshold": found["threshold"], "fusion_iou": found["fusion_iou"]}
    point = next(point for point in found["points"] if chosen.items() <= point.items())
    silent = "" if point["n_acc"] is None else f", N-acc {point['n_acc']:.3f}"
    missed = "" if found["floor_met"] else f" (the floor {found['n_acc_floor']:g} is out of reach)"
    return (
        f"threshold {found['threshold']:g}, fusion_iou {found['fusion_iou']}: P@(F1=1) of {found['with_boxes']:,} "
        f"validation sentences with boxes {point['p_at_f1']:.3f}{silent}{missed}"
    )
