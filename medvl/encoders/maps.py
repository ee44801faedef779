"""What wrapping a foreign image network takes: its token layout, any input size, its norms, its idle parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvl.encoders.base import Features
from medvl.encoders.blocks import Normalise, grid_mask, masked_mean
from medvl.errors import ConfigError

Run = Callable[[Tensor], Tensor]
Norm = Literal["auto", "frozen", "group", "batch"]


@dataclass(frozen=True)
class Layout:
    """How a network lays out its tokens.

    Attributes:
        stride: Pixels per token.
        prefix: Class and register tokens ahead of the map.
        width: Channels.
        size: `(H, W)` of the only input that the network takes; None when it takes any.
    """

    stride: int
    prefix: int
    width: int
    size: tuple[int, int] | None = None


def find_layout(run: Run, channels: int, unit: int, native: tuple[int, int]) -> tuple[Layout, set[int]]:
    """Run a network on small blank images and see what comes out.

    Args:
        run: Maps `(B, channels, H, W)` to `(B, C, h, w)` or `(B, N, C)`; the network is in eval mode.
        channels: Input channels.
        unit: A multiple of the network's stride.
        native: `(H, W)` that it was made for, tried when it does not take other sizes.

    Returns:
        The layout, and the ids of the parameters that the features depend on.
    """
    sizes: tuple[tuple[int, int], ...] = ((2 * unit, 3 * unit), (3 * unit, 4 * unit))
    with torch.enable_grad():
        try:
            small, large = (run(torch.zeros(1, channels, *size)) for size in sizes)
            if small.ndim == 4 and 3 * small.shape[2] != 2 * small.shape[3]:
                raise ValueError("it rounds the sizes of its maps")
        except (AssertionError, RuntimeError, ValueError):
            only = run(torch.zeros(1, channels, *native))
            count = only.shape[-2] if only.ndim == 4 else math.isqrt(only.shape[1])  # a class token more or less
            prefix = 0 if only.ndim == 4 else only.shape[1] - count**2
            return Layout(native[0] // count, prefix, _width(only), native), reached(only)
    if small.ndim == 4:
        return Layout(sizes[0][0] // small.shape[2], 0, _width(small)), reached(small)
    per_unit = (large.shape[1] - small.shape[1]) // 6  # 6 = 3 * 4 - 2 * 3
    stride = unit // math.isqrt(per_unit)
    return Layout(stride, small.shape[1] - 6 * per_unit, _width(small)), reached(small)


def _width(output: Tensor) -> int:
    return output.shape[1] if output.ndim == 4 else output.shape[2]


def reached(output: Tensor) -> set[int]:
    """Return the ids of the parameters that an output depends on, read off its autograd graph."""
    stack, seen, found = [output.grad_fn], set(), set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.add(id(getattr(node, "variable", None)))
        stack += [following for following, _ in node.next_functions]
    return found


def park_idle(model: nn.Module, used: set[int]) -> None:
    """Freeze the parameters that the features do not use (heads, mask tokens): DDP waits for every other gradient."""
    for parameter in model.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


def encode_map(run: Run, normalise: Normalise, layout: Layout, image: Tensor, valid: Tensor | None) -> Features:
    """Normalise, pad to whole tokens, run, and hand back `Features`; raises ConfigError on a size it cannot take."""
    height, width = image.shape[-2:]
    if layout.size not in (None, (height, width)):
        takes = "×".join(map(str, layout.size or ()))
        raise ConfigError(
            f"this image encoder takes {takes} pixels only, not {height}×{width}",
            where="image_encoder",
            hint=f"give the encoder `img_size`, let the data have `image_size: {takes.split('×')[0]}`, or take another",
        )
    x = normalise(image, valid)
    if layout.size is None:
        x = F.pad(x, (0, -width % layout.stride, 0, -height % layout.stride))
    output = run(x)
    if output.ndim == 4:
        grid, tokens = (output.shape[2], output.shape[3]), output.flatten(2).transpose(1, 2)
    else:
        grid, tokens = (x.shape[2] // layout.stride, x.shape[3] // layout.stride), output[:, layout.prefix :]
    mask = grid_mask(valid, len(image), grid, layout.stride, image.device)
    return Features(tokens, mask, masked_mean(tokens, mask), grid)


def settle_norms(model: nn.Module, norm: Norm, pretrained: bool) -> nn.Module:
    """Choose what becomes of BatchNorm, whose statistics small or packed batches spoil.

    `frozen` keeps the trained statistics, `group` puts GroupNorm in its place, `batch` leaves it, and `auto` freezes
    trained nets and gives GroupNorm to those that start from random weights.
    """
    if norm == "frozen" or (norm == "auto" and pretrained):
        frozen: nn.Module = import_module("timm.layers").freeze_batch_norm_2d(model)
        _freeze_volume_norms(frozen)
        return frozen
    if norm in ("group", "auto"):
        _to_group_norm(model)
    return model


def _to_group_norm(model: nn.Module) -> None:
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            group = nn.GroupNorm(math.gcd(32, child.num_features), child.num_features)
            after = [part for part in (getattr(child, "drop", None), getattr(child, "act", None)) if part is not None]
            setattr(model, name, nn.Sequential(group, *after) if after else group)
        else:
            _to_group_norm(child)


class FrozenBatchNorm3d(nn.Module):
    """BatchNorm of volumes at rest: what it learnt becomes a factor and an offset per channel, which are buffers."""

    def __init__(self, norm: nn.BatchNorm3d) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("expected BatchNorm with running statistics")
        factor = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight.detach())
        offset = (0 if norm.bias is None else norm.bias.detach()) - norm.running_mean * factor
        self.register_buffer("factor", factor[:, None, None, None])
        self.register_buffer("offset", offset[:, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, D, H, W)` to the same shape."""
        return torch.addcmul(self.get_buffer("offset"), x, self.get_buffer("factor"))


def _freeze_volume_norms(model: nn.Module) -> None:
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(model, name, FrozenBatchNorm3d(child))
        else:
            _freeze_volume_norms(child)
