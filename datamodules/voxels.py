"""Where the voxels of a data set come from: converted once, resampled to the network's spacing as they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from datamodules.sources.volumes import VolumeSource
from medvl.io.convert import convert_volumes
from medvl.io.volume import DepthAxis
from medvl.io.volume_store import VolumeStore

Spacing = tuple[float, float, float]
AIR = -500.0  # HU below which nothing of a patient lies, but lung, which never reaches the edge of a body


@dataclass(frozen=True)
class Scan:
    """A volume as the network sees it.

    Attributes:
        image: Float `(1, D, H, W)` in [0, 1].
        depth: Of its slices.
    """

    image: Tensor
    depth: DepthAxis

    @classmethod
    def of(
        cls,
        hu: NDArray[np.int16],
        spacing: Spacing,
        depth: DepthAxis,
        wanted: Spacing,
        window: tuple[float, float],
        trim: bool = False,
    ) -> Scan:
        """Bring Hounsfield units `(D, H, W)` to a spacing, `window` becoming 0 to 1; see `Voxels` for `trim`."""
        low, high = window
        hu = trimmed(hu) if trim else hu
        image = torch.from_numpy(hu.astype(np.float32)).sub_(low).div_(high - low).clamp_(0, 1)
        return cls(resampled(image, spacing, wanted)[None], respaced(depth, wanted[0]))


class Voxels:
    """Volumes by path, in [0, 1], at one spacing; whole, never cropped.

    Args:
        source: The data set, which says what its tables declare of a volume.
        spacing: Millimetres between voxels along `(D, H, W)`.
        window: Hounsfield units that become 0 and 1.
        trim: Whether rows and columns beside the patient, which show air in every slice, are left away. Slices never
            are.
        workers: Processes that convert; one per core by default.
    """

    def __init__(
        self,
        source: VolumeSource,
        spacing: Spacing,
        window: tuple[float, float],
        trim: bool = False,
        workers: int | None = None,
    ) -> None:
        self.source, self.spacing, self.window, self.trim, self.workers = source, spacing, window, trim, workers
        self.store = VolumeStore(source.root)

    def prepare(self, paths: Sequence[str]) -> dict[str, str]:
        """Convert the volumes at `paths`; return those that cannot be read, with the reason."""
        done = convert_volumes(self.source.root, self.source.items(paths), workers=self.workers)
        lost = {one.path: "; ".join(text for _, text in one.problems) for one in done.outcomes if one.problems}
        several = {one.path: len(one.volumes) for one in done.outcomes if len(one.volumes) > 1}
        return lost | {path: f"holds {count} series; name a folder for each" for path, count in several.items()}

    def __call__(self, path: str) -> Scan:
        """Return the volume at `path`, relative to the root.

        Raises:
            DataError: It is not converted, or damaged.
        """
        stored = self.store[path]
        return Scan.of(stored.whole(), stored.spacing, stored.depth, self.spacing, self.window, self.trim)

    def size(self, path: str) -> int:
        """Return how many voxels the volume at `path` has for the network, trimmed or not; errors as above."""
        stored = self.store[path]
        return math.prod(map(_count, stored.shape, stored.spacing, self.spacing))


def trimmed(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return `(D, H, W)` without the rows and columns at its sides that show nothing but air in any slice."""
    solid: NDArray[np.bool_] = np.any(hu > AIR, axis=0)
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    return hu[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else hu


def resampled(image: Tensor, spacing: Spacing, wanted: Spacing) -> Tensor:
    """Return `(D, H, W)` at another spacing: averaged over whole voxels where it gets coarser, linear between them."""
    factors = [max(1, int(to / of)) for of, to in zip(spacing, wanted, strict=True)]
    size = [_count(n, of, to) for n, of, to in zip(image.shape, spacing, wanted, strict=True)]
    found = image[None, None]
    if max(factors) > 1:  # what lies between the samples must not be lost
        found = F.avg_pool3d(found, factors, factors, ceil_mode=True)
    return F.interpolate(found, size, mode="trilinear", align_corners=False)[0, 0]


def respaced(depth: DepthAxis, step: float) -> DepthAxis:
    """Return the axis of a resampled volume, whose outer edges are those of the given one."""
    count = _count(depth.count, depth.step, step)
    fine = depth.step * depth.count / count
    return DepthAxis(depth.first - depth.step / 2 + fine / 2, fine, count)


def _count(voxels: int, spacing: float, wanted: float) -> int:
    return max(1, round(voxels * spacing / wanted))
