"""Augmentation that keeps a sentence true: crops keep its boxes, a mirror image swaps its left and right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvl.geometry import AxisTransform
from medvl.sides import swap_sides

LINEAR: NDArray[np.float32] = np.linspace(0, 1, 256, dtype=np.float32)


class Shot(NamedTuple):
    """How one image is taken.

    Attributes:
        transform: From original pixels to the network input.
        mirrored: Whether it mirrors, so that phrases must be put through `swap_sides`.
    """

    transform: AxisTransform
    mirrored: bool = False


class GroundingAugment:
    """Random crops, exposure and noise for images with phrases and boxes.

    All randomness comes from the generator handed in, which the datamodule seeds with (seed, epoch, image).

    A crop keeps at least `keep` of the area of every gold box of the image; after eight draws that do not, the whole
    image is used. So no sentence loses its place, and none is turned into one without a box. Crops keep most of
    the image, so that "upper" or "basal" stay true.

    Args:
        scale: Range of the crop's side as a share of the image's; above 1 shows a margin.
        shift: Largest displacement of the crop's centre, as a share of the image's side.
        aspect: Largest stretch of one axis against the other, as a share.
        brightness: Largest offset added to the grey values, which lie in [0, 1].
        contrast: Largest relative change of contrast about mid-grey.
        gamma: Largest relative change of the exponent.
        noise: Largest standard deviation of added Gaussian noise.
        mirror: Probability of a mirror image. It is drawn only where every phrase of the image can be put right. The
            default is 0: the heart, the stomach bubble and burnt-in side markers do not mirror.
        keep: Least share of each gold box that a crop leaves in view.
        lent: Mean number of sentences of other studies shown with each image, on top of the batch size: findings it
            does not have (see `Lender`; needs a source with finding labels).
    """

    draws = 8

    def __init__(
        self,
        scale: tuple[float, float] = (0.85, 1.05),
        shift: float = 0.06,
        aspect: float = 0.05,
        brightness: float = 0.1,
        contrast: float = 0.2,
        gamma: float = 0.2,
        noise: float = 0.03,
        mirror: float = 0.0,
        keep: float = 0.85,
        lent: float = 0.0,
    ) -> None:
        if not 0.5 <= scale[0] <= scale[1] <= 2:
            raise ValueError(f"scale {scale}: expected 0.5 <= low <= high <= 2, since a crop must keep zone words true")
        self.scale, self.shift, self.aspect = scale, shift, aspect
        self.brightness, self.contrast, self.gamma, self.noise = brightness, contrast, gamma, noise
        self.mirror, self.keep, self.lent = mirror, keep, lent

    def frame(
        self,
        rng: np.random.Generator,
        source: tuple[int, int],
        target: tuple[int, int],
        boxes: Tensor,
        phrases: Sequence[str] = (),
    ) -> Shot:
        """Draw how the image is cropped and mirrored.

        Args:
            rng: The image's own generator.
            source: Original `(H, W)`.
            target: Network input `(H, W)`.
            boxes: All gold boxes of the image, `(n, 4)` xyxy in [0, 1].
            phrases: All phrases of the image.
        """
        mirrored = rng.random() < self.mirror and all(swap_sides(phrase) is not None for phrase in phrases)
        for _ in range(self.draws):
            transform = self._crop(rng, source, target)
            if len(boxes) == 0 or bool((kept_share(transform.boxes(boxes)) >= self.keep).all()):
                break
        else:
            transform = AxisTransform.letterbox(source, target)
        return Shot(transform.mirrored() if mirrored else transform, mirrored)

    def tone(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw a grey curve: for each of the 256 grey values what it becomes, in [0, 1]."""
        gamma = (1 + self.gamma) ** rng.uniform(-1, 1)
        contrast = (1 + self.contrast) ** rng.uniform(-1, 1)
        offset = 0.5 - 0.5 * contrast + rng.uniform(-1, 1) * self.brightness
        curve: NDArray[np.float32] = np.clip(LINEAR**gamma * contrast + offset, 0, 1).astype(np.float32)
        return curve

    def grain(self, rng: np.random.Generator, image: Tensor, valid: Tensor) -> Tensor:
        """Add noise to `image` `(1, H, W)` in [0, 1], in place; padding (`valid` `(H, W)` False) stays zero."""
        deviation = rng.uniform(0, self.noise)
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
        return image.add_(noise, alpha=deviation).clamp_(0, 1).mul_(valid)

    def _crop(self, rng: np.random.Generator, source: tuple[int, int], target: tuple[int, int]) -> AxisTransform:
        fit = min(t / s for s, t in zip(source, target, strict=True)) / rng.uniform(*self.scale)
        stretch = (1 + self.aspect) ** (rng.uniform(-1, 1) / 2)
        scale = (fit * stretch, fit / stretch)
        centre = [s * (0.5 + rng.uniform(-1, 1) * self.shift) for s in source]
        shift = tuple(t / 2 - k * c for t, k, c in zip(target, scale, centre, strict=True))
        return AxisTransform(scale, shift, source, target)


def kept_share(boxes: Tensor) -> Tensor:
    """Share of each box's area that lies inside [0, 1]; boxes `(n, 4)` xyxy, result `(n,)`."""
    sides, inside = boxes[:, 2:] - boxes[:, :2], boxes.clamp(0, 1)
    return ((inside[:, 2:] - inside[:, :2]) / sides.clamp(min=1e-9)).prod(-1)
