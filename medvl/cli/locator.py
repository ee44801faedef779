"""Finds sentences along a CT volume with a trained model: one pass of the volume for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.scans import padded
from datamodules.voxels import Scan
from medvl.encoders.precomputed import Precomputed
from medvl.errors import CheckpointError, ConfigError
from medvl.io.volume import Volume
from medvl.located import DepthProfile, LocatedSentence, LocatedVolume, images_between, nearest_place
from tasks.volume.depth import DepthGrid
from tasks.volume.localisation import Answer, Depths, read
from tasks.volume.task import VolumeTask


class Locator:
    """Finds the depths that sentences speak of.

    Args:
        task: The model.
        data: Arguments of the datamodule it was trained with; `spacing`, `window` and `trim` are used.
        device: A torch device; `auto` takes the accelerator where there is one.

    Raises:
        CheckpointError: `data` does not tell them: at another scale than its own the model sees nothing.
        ConfigError: The model reads features that another encoder found, which no volume holds.
    """

    def __init__(self, task: VolumeTask, data: Mapping[str, Any], device: str = "auto") -> None:
        if data.get("features") or isinstance(task.model.image_encoder, Precomputed):
            hint = "a run that reads volumes; of this one, medvl predict without --volume answers for its data set"
            raise ConfigError("this run reads features of a frozen encoder", where="data.features", hint=hint)
        depth, height, width = _numbers(data, "spacing", 3)
        if min(depth, height, width) <= 0:
            raise _untold("spacing")
        low, high = _numbers(data, "window", 2)
        self.spacing, self.window, self.trim = (depth, height, width), (low, high), bool(data.get("trim", True))
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.task = task.eval().to(torch.device(found if device == "auto" else device))

    def locate(self, volume: Volume, sentences: Sequence[str], name: str = "") -> LocatedVolume:
        """Return a volume with sentences placed along it.

        Args:
            volume: As it was read.
            sentences: What to look for, at least one.
            name: What the volume is called.
        """
        scan = Scan.of(volume.hu, volume.spacing, volume.depth, self.spacing, self.window, self.trim)
        depths = self.depths(scan, sentences)
        answers, where = read(depths, self.task.confidence, self.task.shift), depths.where
        rows = zip(sentences, answers, depths.axis.edges, depths.axis.valid, where, strict=True)
        found = tuple(_located(volume, text, answer, _profile(*row)) for text, answer, *row in rows)
        return LocatedVolume(name, found, self.task.confidence)

    @torch.inference_mode()
    def depths(self, scan: Scan, sentences: Sequence[str]) -> Depths:
        """Return what the model says of each sentence, on the CPU."""
        model, device = self.task.model, self.task.device
        images, valid = (part.to(device) for part in padded([scan.image]))
        features = model.read_volumes(images, valid)
        first, step = (torch.tensor([value], device=device) for value in (scan.depth.first, scan.depth.step))
        grid = model.grid(features, first, step, torch.tensor([scan.depth.count], device=device))
        index = torch.zeros(len(sentences), dtype=torch.long, device=device)
        found = model.locate(features, grid, model.embed_snippets(list(sentences)), index)
        return Depths(found.logits.cpu(), DepthGrid(found.axis.edges.cpu(), found.axis.valid.cpu()))


def _located(volume: Volume, text: str, answer: Answer, profile: DepthProfile) -> LocatedSentence:
    return LocatedSentence(
        snippet=text,
        mm=answer.mm,
        low_mm=answer.low,
        high_mm=answer.high,
        present=answer.present,
        extents_mm=answer.extents,
        place=nearest_place(volume.sidecar, answer.mm),
        interval_images=images_between(volume.sidecar, answer.low, answer.high),
        profile=profile,
    )


def _profile(edges: Tensor, valid: Tensor, probability: Tensor) -> DepthProfile:
    """Leave out padding, which is at the end."""
    count = int(valid.sum())
    return DepthProfile(tuple(edges[: count + 1].tolist()), tuple(probability[:count].tolist()))


def _numbers(data: Mapping[str, Any], name: str, count: int) -> list[float]:
    try:
        values = [float(value) for value in data[name]]
    except (KeyError, TypeError, ValueError):
        raise _untold(name) from None
    if len(values) != count or not all(map(math.isfinite, values)):
        raise _untold(name)
    return values


def _untold(name: str) -> CheckpointError:
    hint = f"expected data.init_args.{name} in the config that the checkpoint holds"
    return CheckpointError(f"this run does not tell the {name} it was trained at", hint=hint)
