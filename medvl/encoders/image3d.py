"""Volume encoders: 3D ResNets and Swin UNETR's encoder from MONAI, and a 3D vision transformer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module  # MONAI takes seconds to import: only who uses it waits
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medvl.encoders import hub
from medvl.encoders.base import Features, ImageEncoder
from medvl.encoders.blocks import Block, FourierPositions, Normalise
from medvl.encoders.image2d import read_weights
from medvl.encoders.maps import Norm, park_idle, reached, settle_norms
from medvl.encoders.tiny import GREY
from medvl.encoders.volumes import SPAN, Size, depth_steps, encode_volume
from medvl.errors import ConfigError

_PROBE = 32  # voxels along the sides of the volume that shows a network's strides


class MonaiResNet(ImageEncoder):
    """A 3D ResNet of MONAI (Hara et al. 2018, arXiv 1711.09577), at any volume size.

    Args:
        depth: 10, 18, 34, 50, 101, 152 or 200 layers.
        pretrained: A weights file, a local folder or `hf-hub:owner/repo` with weights of MedicalNet's form (Chen et al.
            2019, arXiv 1904.00625); False starts from random weights.
        stride: Voxels per token in the plane: 8, 16 or 32; levels that are coarser are left out.
        depth_stride: Slices per token, a power of two; by default as in the plane.
        norm: What becomes of BatchNorm; see `settle_norms`.
    """

    ndim = 3

    def __init__(
        self,
        depth: int = 18,
        pretrained: str | Literal[False] = False,
        *,
        stride: int = 16,
        depth_stride: int | None = None,
        norm: Norm = "auto",
    ) -> None:
        super().__init__()
        known = (10, 18, 34, 50, 101, 152, 200)
        if depth not in known or stride not in (8, 16, 32):
            hint = f"depth is one of {', '.join(map(str, known))}, stride 8, 16 or 32"
            raise ConfigError(f"no such 3D ResNet: depth {depth}, stride {stride}", where="image_encoder", hint=hint)
        self.source, self.normalise = pretrained or "", Normalise(*GREY)
        make = getattr(import_module("monai.networks.nets"), f"resnet{depth}")
        # MedicalNet's form; its shortcut without parameters (A) passes no gradient, so that fresh nets take B.
        shortcut = {"shortcut_type": "A" if pretrained and depth in (18, 34) else "B"}
        net = make(
            spatial_dims=3, n_input_channels=1, conv1_t_stride=2, feed_forward=False, bias_downsample=False, **shortcut
        )
        self.levels = nn.Sequential(net.conv1, net.bn1, net.act, net.maxpool)
        self.levels += nn.Sequential(*(getattr(net, f"layer{level}") for level in range(1, int(math.log2(stride)))))
        missing = load_volume_net(net, self.source) if pretrained else {}
        settle_norms(self.levels, norm, bool(pretrained)).eval()
        stride_volume(self.levels, depth_stride or stride)
        self.stride, self.width = settle(self, self._run, missing)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1, D, H, W)` volumes in [0, 1]; see `ImageEncoder.forward`."""
        return encode_volume(self._run, self.normalise, self.stride, image, valid)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what building this encoder anew takes, as strings."""
        return hub.extra_state("image", self.source, {})

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Accept a checkpoint's state: an encoder that exists needs nothing of it."""

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        found: Tensor = self.levels(x)
        return found.movedim(1, -1)


class SwinUNETREncoder(ImageEncoder):
    """The encoder of MONAI's Swin UNETR (Hatamizadeh et al. 2022, arXiv 2201.01266), at any volume size.

    Args:
        feature_size: Channels of the first level; those of stride s are `feature_size * s / 2`.
        stride: Voxels per token: 4, 8, 16 or 32; levels that are coarser are left out.
        pretrained: A weights file, a local folder or `hf-hub:owner/repo` with weights of the whole net, or of its
            encoder alone (Tang et al. 2022, arXiv 2111.14791); False starts from random weights.
        depths: Blocks per level.
        heads: Attention heads per level.
        window: Side of the attention windows, in tokens.
        drop_path: Stochastic depth rate.
    """

    ndim = 3

    def __init__(
        self,
        feature_size: int = 48,
        stride: int = 16,
        pretrained: str | Literal[False] = False,
        *,
        depths: tuple[int, int, int, int] = (2, 2, 2, 2),
        heads: tuple[int, int, int, int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if stride not in (4, 8, 16, 32):
            raise ConfigError(f"no level of stride {stride}", where="image_encoder.stride", hint="4, 8, 16 or 32")
        self.source, self.normalise, self.level = pretrained or "", Normalise(*GREY), int(math.log2(stride)) - 1
        self.net: Any = import_module("monai.networks.nets.swin_unetr").SwinTransformer(
            in_chans=1,
            embed_dim=feature_size,
            window_size=(window,) * 3,
            patch_size=(2, 2, 2),
            depths=depths,
            num_heads=heads,
            drop_path_rate=drop_path,
        )
        for level in range(self.level + 1, 5):
            setattr(self.net, f"layers{level}", nn.ModuleList([nn.Identity()]))
        missing = load_volume_net(self.net, self.source) if pretrained else {}
        self.net.eval()
        self.stride, self.width = settle(self, self._run, missing)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1, D, H, W)` volumes in [0, 1]; see `ImageEncoder.forward`."""
        return encode_volume(self._run, self.normalise, self.stride, image, valid)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what building this encoder anew takes, as strings."""
        return hub.extra_state("image", self.source, {})

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Accept a checkpoint's state: an encoder that exists needs nothing of it."""

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        levels: list[Tensor] = self.net(x)
        return levels[self.level].movedim(1, -1)


class ViT3D(ImageEncoder):
    """A vision transformer over blocks of voxels, its attention fused, its positions for any grid.

    MONAI's own has a table of positions for one grid and attention that writes out every pair of tokens.

    Args:
        width: Channels of the features.
        depth: Transformer blocks.
        heads: Attention heads.
        patch: Voxels of a token along `(D, H, W)`, or along each of them.
        dropout: Dropout after attention and feed-forward nets.
    """

    ndim = 3

    def __init__(
        self,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch: int | tuple[int, int, int] = (8, 16, 16),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width, self.normalise = width, Normalise(*GREY)
        self.stride: Size = (patch, patch, patch) if isinstance(patch, int) else patch
        self.embed = nn.Conv3d(1, width, self.stride, stride=self.stride)
        self.positions = FourierPositions(width, axes=3, span=SPAN)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1, D, H, W)` volumes of any size in [0, 1]; see `ImageEncoder.forward`."""
        return encode_volume(self._run, self.normalise, self.stride, image, valid)

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        patches: Tensor = self.embed(x)
        grid = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2) + self.positions(tuple(grid))
        for block in self.blocks:
            tokens = block(tokens, mask)
        normed: Tensor = self.norm(tokens)
        return normed.view(len(x), *grid, self.width)


def load_volume_net(net: nn.Module, path: str) -> dict[str, Tensor]:
    """Load weights whose names may carry the prefixes and old names of published files.

    Returns:
        The parameters that the weights lacked.
    """
    with hub.opened("image", path) as source:
        if not source.weights:
            return {}
        given = {_renamed(name): value for name, value in read_weights(source.path).items()}
        result = net.load_state_dict(given, strict=False)
        return {name: value for name, value in net.named_parameters() if name in set(result.missing_keys)}


def _renamed(name: str) -> str:
    for prefix in ("module.", "swinViT."):
        name = name.removeprefix(prefix)
    return name.replace(".fc1.", ".linear1.").replace(".fc2.", ".linear2.")


def stride_volume(model: nn.Module, depth_stride: int) -> None:
    """Let a 3D network divide depth by no more than `depth_stride`, its kernels unchanged."""
    blank = torch.zeros(1, 1, _PROBE, _PROBE, _PROBE)
    for name, step in depth_steps(model, lambda: model(blank), _PROBE, depth_stride).items():
        layer: Any = model.get_submodule(name)
        stride = layer.stride if isinstance(layer.stride, tuple) else (layer.stride,) * 3
        layer.stride = (step, *stride[1:])


def settle(
    encoder: ImageEncoder, run: Callable[[Tensor, Tensor | None], Tensor], missing: Mapping[str, Tensor]
) -> tuple[Size, int]:
    """Run an encoder in evaluation mode on a small blank volume, freeze what it does not use, and let it train.

    Returns:
        Voxels per token along each axis, and channels.
    """
    with torch.enable_grad():
        found = run(torch.zeros(1, 1, _PROBE, _PROBE, _PROBE), None)
    used = reached(found)
    hub.check_loaded(missing, used, str(encoder.source))
    park_idle(encoder, used)
    encoder.train()
    depth, height, width = (_PROBE // n for n in found.shape[1:4])
    return (depth, height, width), found.shape[-1]
