"""2D image encoders from timm and from Hugging Face."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from importlib import import_module  # timm and transformers take seconds to import: only who uses them waits
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medvl.encoders import hub
from medvl.encoders.base import Features, ImageEncoder
from medvl.encoders.blocks import Normalise
from medvl.encoders.maps import Norm, encode_map, find_layout, park_idle, settle_norms
from medvl.errors import ConfigError, nearest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TimmEncoder(ImageEncoder):
    """Any timm network: CNN, ViT or hybrid, at any input size where it permits.

    Args:
        name: timm's name, with or without a tag: `resnet50`, `vit_small_patch16_224.augreg_in21k`.
        pretrained: True takes the weights that go with the name; a string names `hf-hub:owner/repo`, a local folder
            (weights and, if there, timm's `config.json`) or a weights file. False starts from random weights.
        img_size: `(H, W)` or side in pixels, for networks that are built for one size.
        in_chans: Input channels; 1 sums trained colour filters into grey ones.
        stride: Take the feature level of this stride in place of the last one.
        drop_path: Stochastic depth rate.
        norm: What becomes of BatchNorm; see `settle_norms`.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        *,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        stride: int | None = None,
        drop_path: float = 0.0,
        norm: Norm = "auto",
    ) -> None:
        super().__init__()
        timm = import_module("timm")
        if not timm.is_model(name):
            hint = nearest(name.split(".")[0], timm.list_models())
            raise ConfigError(f"timm has no model {name!r}", where="image_encoder.name", hint=hint)
        options = {"img_size": img_size, "in_chans": in_chans, "drop_path_rate": drop_path or None}
        registered = timm.get_pretrained_cfg(name).hf_hub_id if pretrained is True else ""
        self.source = pretrained if isinstance(pretrained, str) else registered or name if pretrained else ""
        self.files: hub.Files = {}
        missing: Mapping[str, Tensor] = {}
        if isinstance(pretrained, str):
            model, missing = self._from_source(name, pretrained, options)
        elif pretrained:
            with hub.opened("image", self.source) as source:
                model = _create(name, options, pretrained=source.weights)
        else:
            model = _create(name, options)
        config = model.pretrained_cfg
        self.model: Any = settle_norms(model, norm, bool(pretrained)).eval()
        self.nhwc = str(getattr(model, "output_fmt", "")).endswith("NHWC")
        self.level = None if stride is None else _level(model, name, stride)
        unit = model.feature_info[-1]["reduction"] if getattr(model, "feature_info", None) else 32
        native = (img_size, img_size) if isinstance(img_size, int) else img_size or config["input_size"][1:]
        self.layout, used = find_layout(self._run, in_chans, unit, tuple(native))
        hub.check_loaded(missing, used, self.source)
        park_idle(self.model, used)
        self.model.train()
        self.width = self.layout.width
        self.normalise = Normalise(config["mean"], config["std"], in_chans)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1|3, H, W)` images in [0, 1]; see `ImageEncoder.forward`."""
        return encode_map(self._run, self.normalise, self.layout, image, valid)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what building this encoder anew takes, as strings."""
        return hub.extra_state("image", self.source, self.files)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Accept a checkpoint's files: an encoder that exists needs none of them."""

    def _run(self, x: Tensor) -> Tensor:
        if self.level is not None:
            maps: list[Tensor] = self.model.forward_intermediates(
                x, indices=[self.level], output_fmt="NCHW", intermediates_only=True, stop_early=True
            )
            return maps[-1]
        output: Tensor = self.model.forward_features(x)
        return output.permute(0, 3, 1, 2) if self.nhwc and output.ndim == 4 else output

    def _from_source(self, name: str, path: str, options: dict[str, Any]) -> tuple[Any, Mapping[str, Tensor]]:
        with hub.opened("image", path) as source:
            config, arguments = self._read_config(name, source.path)
            merged = arguments | {key: value for key, value in options.items() if value is not None}
            model = _create(name, merged, pretrained_cfg=config or None)
            if not source.weights:
                return model, {}
            lost: list[str] = []
            handle = model.register_load_state_dict_post_hook(lambda _, keys: lost.extend(keys.missing_keys))
            weights = {**model.pretrained_cfg, "source": "", "state_dict": read_weights(source.path)}
            adapt = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None)
            import_module("timm.models").load_pretrained(
                model, weights, num_classes=0, in_chans=options["in_chans"], filter_fn=adapt
            )
            handle.remove()
            return model, {key: value for key, value in model.named_parameters() if key in lost}

    def _read_config(self, name: str, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
        if path.startswith("hf-hub:"):
            read = import_module("timm.models").load_model_config_from_hf
            config, made, arguments = read(path.removeprefix("hf-hub:"))
            content = {"architecture": made, "pretrained_cfg": config, "model_args": arguments}
        elif (Path(path) / "config.json").is_file():
            content = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        else:
            return {}, {}
        made = content.get("architecture", name)
        if made != name.split(".")[0]:
            raise ConfigError(f"{self.source!r} holds {made!r}, not {name!r}", where="image_encoder.name")
        self.files = {"config.json": json.dumps(content)}
        return dict(content.get("pretrained_cfg", {})), dict(content.get("model_args", {}))


class HFImageEncoder(ImageEncoder):
    """A Hugging Face vision model (ViT, DINOv2/v3, SigLIP, CLIP, RAD-DINO, Swin, ConvNeXt, …).

    Of a model with two towers (CLIP, SigLIP) the vision tower is kept. Normalisation is what the model's
    `preprocessor_config.json` says, else ImageNet's.

    Args:
        pretrained: Hub id or local folder.
        config: In place of `pretrained`: a configuration with its `model_type`, for random weights.
        norm: What becomes of BatchNorm; see `settle_norms`.
    """

    def __init__(
        self, pretrained: str | None = None, config: dict[str, Any] | None = None, *, norm: Norm = "auto"
    ) -> None:
        super().__init__()
        if (pretrained is None) == (config is None):
            raise ConfigError("HFImageEncoder takes either `pretrained` or `config`", where="image_encoder")
        self.source, self.files = pretrained or "", dict[str, str]()
        preprocessing: dict[str, Any] = {}
        missing: Mapping[str, Tensor] = {}
        if config is not None:
            transformers = import_module("transformers")
            with hub.explained(str(config.get("model_type"))):
                settings = transformers.AutoConfig.for_model(**config)
                tower = _pick_tower(transformers.AutoModel.from_config(settings), "vision")
        else:
            with hub.opened("image", self.source) as source:
                preprocessing = hub.read_json(source.path, "preprocessor_config.json")
                tower, whole, missing = load_tower(source, "vision")
            self.files = {"config.json": whole, "preprocessor_config.json": json.dumps(preprocessing)}
        self.tower: Any = settle_norms(tower, norm, pretrained is not None).eval()
        settings = tower.config
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
        patch, side = getattr(settings, "patch_size", None), getattr(settings, "image_size", 224)
        unit = patch if isinstance(patch, int) and not hasattr(settings, "depths") else 32
        native = (side, side) if isinstance(side, int) else tuple(side)
        channels = getattr(settings, "num_channels", 3)
        with hub.explained(self.source or settings.model_type):
            self.layout, used = find_layout(self._run, channels, unit, native)
        hub.check_loaded(missing, used, self.source)
        park_idle(self.tower, used)
        self.tower.train()
        self.width = self.layout.width
        plain = preprocessing.get("do_normalize", True) is False
        mean = (0.0,) if plain else preprocessing.get("image_mean") or IMAGENET_MEAN
        std = (1.0,) if plain else preprocessing.get("image_std") or IMAGENET_STD
        self.normalise = Normalise(mean, std, channels)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Features:
        """Encode `(B, 1|3, H, W)` images in [0, 1]; see `ImageEncoder.forward`."""
        return encode_map(self._run, self.normalise, self.layout, image, valid)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what building this encoder anew takes, as strings."""
        return hub.extra_state("image", self.source, self.files)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Accept a checkpoint's files: an encoder that exists needs none of them."""

    def _run(self, x: Tensor) -> Tensor:
        options = {"interpolate_pos_encoding": True} if self.interpolates else {}
        output: Tensor = self.tower(pixel_values=x, **options).last_hidden_state
        return output


def load_tower(source: hub.Source, side: str) -> tuple[Any, str, dict[str, Tensor]]:
    """Load a Hugging Face model, or its `vision` or `text` tower, in float32.

    Returns:
        The tower, the whole model's configuration as JSON, and the parameters that the weights lacked.
    """
    transformers = import_module("transformers")
    config = hub.load(transformers.AutoConfig.from_pretrained, source.path)
    if source.weights:
        loader = transformers.AutoModel.from_pretrained
        model, report = hub.load(loader, source.path, config=config, dtype=torch.float32, output_loading_info=True)
        missing = {name: value for name, value in model.named_parameters() if name in set(report["missing_keys"])}
    else:
        model, missing = transformers.AutoModel.from_config(config), {}
    return _pick_tower(model, side), config.to_json_string(use_diff=False), missing


def _pick_tower(model: Any, side: str) -> Any:
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    tower = getattr(model, f"{side}_model", None)
    return tower if isinstance(tower, nn.Module) else model


def _create(name: str, options: Mapping[str, Any], **more: Any) -> Any:
    refused: TypeError | None = None
    given = {key: value for key, value in options.items() if value is not None}
    for dynamic in ({"dynamic_img_size": True}, {}):  # ViT and Swin families take it, others refuse it
        try:
            return import_module("timm").create_model(name, num_classes=0, **given, **dynamic, **more)
        except TypeError as error:
            refused = error
    raise ConfigError(f"timm's {name} refuses an option", where="image_encoder", hint=str(refused)[:160])


def _level(model: Any, name: str, stride: int) -> int:
    strides = [int(info["reduction"]) for info in model.feature_info]
    if stride not in strides or not hasattr(model, "forward_intermediates"):
        hint = f"it has {sorted(set(strides))}"
        raise ConfigError(f"{name} has no features of stride {stride}", where="image_encoder.stride", hint=hint)
    return len(strides) - 1 - strides[::-1].index(stride)


def read_weights(path: str) -> dict[str, Tensor]:
    """Read weights from a file, a folder or `hf-hub:owner/repo`; nothing is unpickled."""
    if path.startswith("hf-hub:"):
        fetch = import_module("timm.models").load_state_dict_from_hf
        remote: dict[str, Tensor] = fetch(path.removeprefix("hf-hub:"), weights_only=True)
        return remote
    place = Path(path)
    if place.is_dir():
        kinds = ("*.safetensors", "*.pth", "*.pt", "*.bin")
        files = [file for kind in kinds for file in sorted(place.glob(kind))]
        if not files:
            raise ConfigError(f"no weights in {path!r}", where="pretrained", hint=f"expected one of {', '.join(kinds)}")
        place = files[0]
    local: dict[str, Tensor] = import_module("timm.models").load_state_dict(str(place), weights_only=True)
    return local
