"""Damages that happen while a model trains: to the images, and to what was made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.damage import IMAGE, Deed, Patient
from datamodules.packing import Draw
from datamodules.shared import SourceData
from datamodules.volumes import VolumeData
from datamodules.voxels import Voxels

_CACHES = (".shard", ".b2nd")
_DEEDS = ("empty", "gone", "noise", "cut to 50%", "a folder in its place", "a dangling link")


Files = Callable[[Trainer], list[Path]]


@dataclass(frozen=True)
class Late:
    """A damage that is done once training has begun.

    Attributes:
        cache: Where the training keeps its images.
        deed: What is done to a file.
        files: Which files it is done to.
        spared: Whether training can go on without them.
    """

    cache: str
    deed: Deed
    files: Files
    spared: bool = False


class Vanish(Callback):
    """Does something when records are read, images are checked or cached, and no batch is built yet."""

    def __init__(self, fault: Late, patient: Patient) -> None:
        self.fault, self.patient = fault, patient

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do it."""
        for path in self.fault.files(trainer):
            self.fault.deed(self.patient, path)


def late_faults(volumes: bool) -> dict[str, Late]:
    """Return what can happen while training on images, or on volumes, which always have a store."""
    places: dict[str, tuple[str, Files, bool]] = {
        f"cache {cache}": (cache, _images, False) for cache in (("disk",) if volumes else ("none", "memory", "disk"))
    }
    places |= {"the cache itself": ("disk", _caches, False)}
    places |= {"one study of the cache": ("disk", _one_volume, True)} if volumes else {}
    places |= {} if volumes else {"one study, cache none": ("none", _one_study, True)}
    return {
        f"while training, {place}: {name}": Late(cache, IMAGE[name], files, spared)
        for place, (cache, files, spared) in places.items()
        for name in _DEEDS
    }


def _images(trainer: Trainer) -> list[Path]:
    data = _data(trainer)
    return sorted({data.root / path for record in data.records("all") for path in record.paths})


def _caches(trainer: Trainer) -> list[Path]:
    return [path for path in Path(os.environ["MEDVL_CACHE"]).rglob("*") if path.suffix in _CACHES]


def _one_study(trainer: Trainer) -> list[Path]:
    """Return the images of a study of the first batch."""
    return [_data(trainer).root / path for path in _drawn(trainer)]


def _one_volume(trainer: Trainer) -> list[Path]:
    """Return what is kept of the volumes of a study of the first batch."""
    data = _data(trainer)
    if not isinstance(data, VolumeData) or not isinstance(data.voxels, Voxels):
        raise TypeError("expected volumes")
    return [data.voxels.store.file(path, ".b2nd") for path in _drawn(trainer)]


def _drawn(trainer: Trainer) -> tuple[str, ...]:
    draw: Draw = next(iter(trainer.train_dataloader.sampler))  # type: ignore[union-attr]
    return _data(trainer).make_dataset("train", train=False).record(draw.chunks[0][0]).paths


def _data(trainer: Trainer) -> SourceData[Any, Any]:
    data: SourceData[Any, Any] = trainer.datamodule  # type: ignore[attr-defined]
    return data
