"""Token grids that a frozen encoder found in a volume, kept on disk in half precision, a file per volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medvl.errors import DataError
from medvl.io.atomic import replacing
from medvl.io.volume import DepthAxis

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class StoredFeatures:
    """What an encoder found in one volume.

    Attributes:
        grid: `(C, D, H, W)`.
        depth: Of the D positions along the patient.
    """

    grid: Tensor
    depth: DepthAxis


def write_features(path: Path, features: StoredFeatures) -> None:
    """Write a file, whole or not at all; `.safetensors` is added to the volume's name."""
    depth = features.depth
    told = {"first_mm": repr(depth.first), "step_mm": repr(depth.step)}
    with replacing(path.with_name(path.name + SUFFIX)) as draft:
        save_file({"features": features.grid.to("cpu", torch.float16).contiguous()}, draft, metadata=told)


def read_features(path: Path) -> StoredFeatures:
    """Read what `write_features` wrote for a volume.

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    file = path.with_name(path.name + SUFFIX)
    try:
        with safe_open(file, "pt") as held:  # type: ignore[no-untyped-call]
            grid, told = held.get_tensor("features").float(), held.metadata() or {}
        first, step = float(told["first_mm"]), float(told["step_mm"])
    except FileNotFoundError:
        raise DataError("no features of this volume", where=str(file), hint="see docs/ct.md, Frozen features") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        hint = "expected features (C, D, H, W) with first_mm and step_mm in its metadata"
        raise DataError("these features cannot be read", where=str(file), hint=hint) from error
    if grid.ndim != 4 or 0 in grid.shape or step <= 0:
        raise DataError(f"features of shape {tuple(grid.shape)}", where=str(file), hint="expected (C, D, H, W)")
    return StoredFeatures(grid, DepthAxis(first, step, grid.shape[1]))
