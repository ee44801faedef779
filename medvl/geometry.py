"""One transform for letterboxing, cropping, flipping and resampling, in 2D and 3D, that carries its own inverse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class AxisTransform:
    """Maps source to target coordinates axis by axis: `target = scale * source + shift`.

    Coordinates are continuous pixel (voxel) units with the origin at the outer edge of the first pixel. Axes are
    ordered as in the array shape: `(H, W)` or `(D, H, W)`. A negative scale mirrors that axis.

    Attributes:
        scale: Target pixels per source pixel, per axis.
        shift: Offset in target pixels, per axis.
        source: Shape of the array that is mapped.
        target: Shape of the array it is mapped to.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    source: tuple[int, ...]
    target: tuple[int, ...]

    @classmethod
    def letterbox(cls, source: tuple[int, ...], target: tuple[int, ...]) -> AxisTransform:
        """Fit `source` into `target`, centred, keeping the aspect ratio."""
        ratio = min(t / s for s, t in zip(source, target, strict=True))
        shift = tuple((t - ratio * s) / 2 for s, t in zip(source, target, strict=True))
        return cls((ratio,) * len(source), shift, source, target)

    @classmethod
    def crop(
        cls, source: tuple[int, ...], start: tuple[float, ...], stop: tuple[float, ...], target: tuple[int, ...]
    ) -> AxisTransform:
        """Letterbox the window from `start` to `stop` (source pixels, may reach outside) into `target`."""
        sizes = [b - a for a, b in zip(start, stop, strict=True)]
        ratio = min(t / s for s, t in zip(sizes, target, strict=True))
        shift = tuple((t - ratio * s) / 2 - ratio * a for s, t, a in zip(sizes, target, start, strict=True))
        return cls((ratio,) * len(source), shift, source, target)

    @classmethod
    def resize(cls, source: tuple[int, ...], target: tuple[int, ...]) -> AxisTransform:
        """Stretch `source` to `target`, each axis on its own."""
        scale = tuple(t / s for s, t in zip(source, target, strict=True))
        return cls(scale, (0.0,) * len(source), source, target)

    def mirrored(self, axis: int = -1) -> AxisTransform:
        """Return this transform followed by a mirror of the target along `axis`."""
        scale, shift = list(self.scale), list(self.shift)
        scale[axis], shift[axis] = -scale[axis], self.target[axis] - shift[axis]
        return AxisTransform(tuple(scale), tuple(shift), self.source, self.target)

    def inverse(self) -> AxisTransform:
        """Return the transform from target back to source coordinates."""
        scale = tuple(1 / s for s in self.scale)
        shift = tuple(-t / s for s, t in zip(self.scale, self.shift, strict=True))
        return AxisTransform(scale, shift, self.target, self.source)

    def then(self, after: AxisTransform) -> AxisTransform:
        """Return the transform that applies this one and then `after`."""
        if self.target != after.source:
            raise ValueError(f"cannot chain: target {self.target} is not source {after.source}")
        scale = tuple(a * b for a, b in zip(self.scale, after.scale, strict=True))
        shift = tuple(s * b + t for s, b, t in zip(self.shift, after.scale, after.shift, strict=True))
        return AxisTransform(scale, shift, self.source, after.target)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Map 2D boxes `(n, 4)`, xyxy in [0, 1] of the source, to xyxy in [0, 1] of the target, without clipping."""
        height, width = self.source
        (sy, sx), (ty, tx) = self.scale, self.shift
        factor = boxes.new_tensor([sx * width / self.target[1], sy * height / self.target[0]] * 2)
        mapped = boxes * factor + boxes.new_tensor([tx / self.target[1], ty / self.target[0]] * 2)
        low, high = torch.minimum(mapped[..., :2], mapped[..., 2:]), torch.maximum(mapped[..., :2], mapped[..., 2:])
        return torch.cat([low, high], dim=-1)

    def warp(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Resample one array `(C, *source)` to `(C, *target)`; float in, float out.

        Returns:
            The array, zero outside the source, and a bool mask `target`-shaped, True inside the source.
        """
        ndim = len(self.source)
        back = self.inverse()
        # grid_sample wants, per target axis in reverse order, the normalised [-1, 1] source position.
        axes = []
        for axis in range(ndim):
            centres = torch.arange(self.target[axis], dtype=image.dtype, device=image.device) + 0.5
            axes.append((back.scale[axis] * centres + back.shift[axis]) / self.source[axis])
        inside = [(a >= 0) & (a <= 1) for a in axes]
        mesh = torch.meshgrid(*axes, indexing="ij")
        grid = torch.stack(mesh[::-1], dim=-1) * 2 - 1
        mode = "bilinear"
        out = F.grid_sample(image[None], grid[None], mode=mode, padding_mode="border", align_corners=False)[0]
        valid = inside[0]
        for axis in range(1, ndim):
            valid = valid[..., None] & inside[axis]
        return out * valid, valid
