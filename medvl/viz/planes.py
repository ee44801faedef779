"""Coronal, sagittal and axial pictures of a CT volume to physical scale, as radiologists look at them.

The head is up and the patient's left on the right of a picture; in the axial plane the front is up, in the sagittal
one on the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medvl.io.volume import Volume

HuWindow = tuple[float, float]
WINDOWS: dict[str, HuWindow] = {"soft": (-160.0, 240.0), "lung": (-1000.0, 300.0)}
SIDE = 640  # px, of a picture's longer side at most
_BODY = -300  # HU, below which there is air or lung


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice through a volume.

    Attributes:
        hu: `(rows, columns)` as shown.
        width: mm.
        height: mm.
    """

    hu: NDArray[np.int16]
    width: float
    height: float

    def picture(self, window: HuWindow) -> Image.Image:
        """Return it in grey, its sides in the ratio of its millimetres.

        Args:
            window: Hounsfield units shown black and white.
        """
        low, high = window
        grey = np.clip((self.hu.astype(np.float32) - low) / (high - low), 0, 1)
        rows, columns = self.hu.shape
        scale = min(SIDE / max(self.width, self.height), max(columns / self.width, rows / self.height) * 2)
        size = max(1, round(self.width * scale)), max(1, round(self.height * scale))
        return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def coronal(volume: Volume) -> Plane:
    """Return the plane through the middle of the body that shows left and right."""
    return _plane(volume.hu[::-1, _middle(volume, 1), ::-1], volume.spacing[2], volume.depth.step)


def sagittal(volume: Volume) -> Plane:
    """Return the plane through the middle of the body that shows front and back."""
    return _plane(volume.hu[::-1, ::-1, _middle(volume, 2)], volume.spacing[1], volume.depth.step)


def axial(volume: Volume, index: int) -> Plane:
    """Return the slice at an index from the feet."""
    return _plane(volume.hu[index, ::-1, ::-1], volume.spacing[2], volume.spacing[1])


def _plane(hu: NDArray[np.int16], across: float, down: float) -> Plane:
    rows, columns = hu.shape
    return Plane(hu, columns * across, rows * down)


def _middle(volume: Volume, axis: int) -> int:
    """Return the index along an axis that half of the body lies below; a few slices tell it."""
    step = max(1, volume.depth.count // 32)
    body: NDArray[Any] = (volume.hu[::step] > _BODY).sum(axis=tuple({0, 1, 2} - {axis})).cumsum()
    return int(np.searchsorted(body, body[-1] / 2)) if body[-1] else len(body) // 2
