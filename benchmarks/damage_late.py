"""Damages that happen while a model trains: to the images, and to what was made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.damage import IMAGE, Deed, Patient

_CACHES = (".shard", ".b2nd")
_DEEDS = ("empty", "gone", "noise", "cut to 50%", "a folder in its place", "a dangling link")


@dataclass(frozen=True)
class Late:
    """A damage that is done once training has begun.

    Attributes:
        cache: Where the training keeps its images.
        deed: Does it.
    """

    cache: str
    deed: Callable[[Patient], None]


class Vanish(Callback):
    """Does something when records are read, images are checked or cached, and no batch is built yet."""

    def __init__(self, deed: Callable[[], None]) -> None:
        self.deed = deed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do it."""
        self.deed()


def late_faults(volumes: bool) -> dict[str, Late]:
    """Return what can happen while training on images, or on volumes, which always have a store."""
    found = {
        f"while training, cache {cache}: {name}": Late(cache, _to_images(IMAGE[name]))
        for cache in (("disk",) if volumes else ("none", "memory", "disk"))
        for name in _DEEDS
    }
    return found | {
        f"while training, the cache itself: {name}": Late("disk", _to_cache(IMAGE[name])) for name in _DEEDS
    }


def _to_images(deed: Deed) -> Callable[[Patient], None]:
    def all_of(patient: Patient) -> None:
        for path in patient.used:
            deed(patient, patient.root / path)

    return all_of


def _to_cache(deed: Deed) -> Callable[[Patient], None]:
    def all_of(patient: Patient) -> None:
        for path in [path for path in Path(os.environ["MEDVL_CACHE"]).rglob("*") if path.suffix in _CACHES]:
            deed(patient, path)

    return all_of
