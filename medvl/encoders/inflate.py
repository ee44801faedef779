"""2D networks of timm inflated to 3D: their convolutions look along depth, their trained weights stay.

A volume passes through the network as its slices, `(B * D, C, H, W)`, so that whatever timm's code does between the
convolutions goes on working. Only layers that shall mix or thin slices unfold the depth.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvl.encoders.base import Features, ImageEncoder
from medvl.encoders.blocks import FourierPositions
from medvl.encoders.image2d import TimmEncoder
from medvl.encoders.maps import Norm, park_idle, reached
from medvl.encoders.volumes import SPAN, Size, depth_steps, encode_volume
from medvl.errors import ConfigError

_KERNEL = 3  # slices that an inflated convolution sees, at most


class InflatedTimm(ImageEncoder):
    """A timm network that reads volumes; what it says of a volume of equal slices is what it says of one in 2D.

    Kernels are repeated along depth and divided by their number (Carreira and Zisserman 2017, arXiv 1705.07750, section
    3.1), patch embeddings too. In a plain vision transformer all tokens of a volume attend to each other; positions
    repeat over depth, and learnt ones of depth, at first 0, are added. Other layers (windows, squeeze-and-excitation)
    see slices one by one, as in 2D.

    Args:
        name: timm's name.
        pretrained: See `TimmEncoder`.
        depth_stride: Slices per token, a power of two.
        in_chans: Input channels; 1 sums trained colour filters into grey ones.
        stride: Take the feature level of this stride in place of the last one.
        drop_path: Stochastic depth rate.
        norm: What becomes of BatchNorm; see `settle_norms`.

    Raises:
        ConfigError: The network takes one image size only, has no plain convolution and no plain transformer's blocks,
            or its code between the convolutions does not bear slices.
    """

    ndim = 3

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        *,
        depth_stride: int = 4,
        in_chans: int = 1,
        stride: int | None = None,
        drop_path: float = 0.0,
        norm: Norm = "auto",
    ) -> None:
        super().__init__()
        self.flat = TimmEncoder(name, pretrained, in_chans=in_chans, stride=stride, drop_path=drop_path, norm=norm)
        if self.flat.layout.size is not None:
            hint = "put it into a SliceEncoder, or choose another"
            raise ConfigError(f"timm's {name} is made for one image size and cannot be inflated", hint=hint)
        self.width, self.volumes = self.flat.width, _Volumes()
        model = self.flat.model.eval()
        side = self.flat.layout.stride * max(2, math.ceil(64 / self.flat.layout.stride))
        blank = torch.zeros(1, in_chans, side, side)
        inflate(model, depth_steps(model, lambda: self.flat._run(blank), side, depth_stride), self.volumes)
        self.joint = hasattr(model, "blocks") and hasattr(model, "_pos_embed") and self.flat.level is None
        if not self.joint and not any(isinstance(module, InflatedConv) for module in model.modules()):
            hint = "put it into a SliceEncoder: its convolutions are of a kind of their own"
            raise ConfigError(f"timm's {name} cannot be inflated", where="image_encoder.name", hint=hint)
        self.depth = FourierPositions(self.width, axes=1, span=SPAN) if self.joint else None
        if self.depth is not None:
            nn.init.zeros_(self.depth.project.weight)
            nn.init.zeros_(self.depth.project.bias)
        self.stride = self._settle(name, in_chans, depth_stride)

    def _settle(self, name: str, channels: int, depth_stride: int) -> Size:
        plane = self.flat.layout.stride
        with torch.enable_grad():
            try:
                found = self._run(torch.zeros(1, channels, 4 * depth_stride, 2 * plane, 2 * plane), None)
            except (RuntimeError, ValueError, AssertionError, AttributeError, TypeError) as error:
                hint = "put it into a SliceEncoder: " + " ".join(str(error).split())[:120]
                raise ConfigError(f"timm's {name} cannot be inflated", where="image_encoder.name", hint=hint) from error
        park_idle(self, reached(found))
        self.train()
        return 4 * depth_stride // found.shape[1], plane, plane

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1, D, H, W)` volumes of any size in [0, 1]; see `ImageEncoder.forward`."""
        return encode_volume(self._run, self._normalise, self.stride, image, valid)

    def _normalise(self, image: Tensor, valid: Tensor | None) -> Tensor:
        flat = self.flat.normalise(fold(image), None if valid is None else valid.flatten(0, 1))
        return unfold(flat, len(image))

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        self.volumes.count = len(x)
        if self.joint:
            return self._attend(fold(x), mask)
        output = self.flat._run(fold(x))
        if output.ndim == 3:
            height, width = (n // self.flat.layout.stride for n in x.shape[3:])
            output = output[:, self.flat.layout.prefix :].transpose(1, 2)
            output = output.reshape(len(output), -1, height, width)
        return unfold(output, len(x)).movedim(1, -1)

    def _attend(self, slices: Tensor, mask: Tensor | None) -> Tensor:
        """Run a vision transformer's blocks on the tokens of all slices of a volume together."""
        model: Any = self.flat.model
        patches = model.patch_embed(slices)  # (B * d, h, w, C)
        height, width = patches.shape[1:3]
        placed = model._pos_embed(patches)  # class tokens come with every slice: they keep their share of attention
        tokens = placed.view(self.volumes.count, -1, *placed.shape[1:])
        depth, prefix = tokens.shape[1], self.flat.layout.prefix
        if self.depth is not None:
            tokens = tokens + self.depth((depth,))[:, None]
        x = model.norm_pre(tokens.flatten(1, 2))
        if mask is None:
            x = model.blocks(x)
        else:
            seen = mask.view(len(x), depth, -1)
            allowed = torch.cat([seen.any(dim=2, keepdim=True).expand(-1, -1, prefix), seen], dim=2).flatten(1)
            for block in model.blocks:
                x = block(x, attn_mask=allowed[:, None, None])
        normed: Tensor = model.norm(x).view_as(tokens)[:, :, prefix:]
        return normed.reshape(len(x), depth, height, width, -1)


class _Volumes:
    """How many volumes the slices in the network make up."""

    count = 1


class InflatedConv(nn.Module):
    """A 2D convolution that also looks along depth; edge slices are repeated there, so that nothing fades.

    Args:
        conv: Whose weights are kept.
        step: Stride in depth.
        volumes: Told the number of volumes before each run.
    """

    def __init__(self, conv: nn.Conv2d, step: int, volumes: _Volumes) -> None:
        super().__init__()
        self.volumes, self.step, self.groups, self.dilation = volumes, step, conv.groups, conv.dilation
        self.flat_stride, self.flat_padding = conv.stride, conv.padding
        self.kernel_size = conv.kernel_size  # some networks ask, to pad the plane
        centred = conv.kernel_size[0] > 1 and conv.kernel_size[0] % 2 == 1 and conv.padding[0] != 0
        self.size = _KERNEL if centred else step
        self.edge = _KERNEL // 2 if centred else 0
        inflated = conv.weight.detach()[:, :, None].repeat(1, 1, self.size, 1, 1) / self.size
        self.weight = nn.Parameter(inflated, requires_grad=conv.weight.requires_grad)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map slices `(B * D, C, H, W)` to `(B * d, c, h, w)`."""
        volumes = unfold(x, self.volumes.count)
        if self.edge:
            volumes = F.pad(volumes, (0, 0, 0, 0, self.edge, self.edge), mode="replicate")
        stride, padding = (self.step, *self.flat_stride), (0, *self.flat_padding)
        return fold(F.conv3d(volumes, self.weight, self.bias, stride, padding, (1, *self.dilation), self.groups))


class InflatedPool(nn.Module):
    """A 2D pooling followed by the same pooling of neighbouring slices."""

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d, step: int, volumes: _Volumes) -> None:
        super().__init__()
        self.pool, self.step, self.volumes = pool, step, volumes

    def forward(self, x: Tensor) -> Tensor:
        """Map slices `(B * D, C, H, W)` to `(B * d, C, h, w)`."""
        volumes = unfold(self.pool(x), self.volumes.count)
        reduce = F.max_pool3d if isinstance(self.pool, nn.MaxPool2d) else F.avg_pool3d
        return fold(reduce(volumes, (self.step, 1, 1)))


def inflate(model: nn.Module, steps: dict[str, int], volumes: _Volumes) -> None:
    """Put inflated layers in place of a 2D network's convolutions and poolings that mix or thin slices.

    Args:
        model: The network.
        steps: Strides in depth, by module name.
        volumes: What the layers read the number of volumes from.
    """
    for name, module in list(model.named_modules()):
        parent, _, own = name.rpartition(".")
        step = steps.get(name, 1)
        if (
            type(module) is nn.Conv2d
            and (step > 1 or module.kernel_size[0] > 1)
            and not isinstance(module.padding, str)
        ):
            setattr(model.get_submodule(parent), own, InflatedConv(module, step, volumes))
        elif step > 1 and isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            setattr(model.get_submodule(parent), own, InflatedPool(module, step, volumes))


def fold(x: Tensor) -> Tensor:
    """Turn volumes `(B, C, D, H, W)` into slices `(B * D, C, H, W)`."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x: Tensor, batch: int) -> Tensor:
    """Turn slices back into volumes."""
    return x.reshape(batch, -1, *x.shape[1:]).transpose(1, 2)
