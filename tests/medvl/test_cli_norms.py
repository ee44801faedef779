"""BatchNorm on several ranks is warned of, and no config of ours has any."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from medvl import encoders
from medvl.cli.norms import NormCheck, training_norms
from medvl.encoders.base import ImageEncoder

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LARGE = ("resnet101", "vit_base", "vit_small_3d")  # built as their smaller kin are


def start(model: nn.Module, ranks: int) -> None:
    trainer: Any = SimpleNamespace(world_size=ranks)
    module: Any = model
    NormCheck().on_train_start(trainer, module)


def test_it_warns_and_names_what_helps() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm1d(2)))
    assert training_norms(net) == ["1", "2.0"]
    with pytest.warns(UserWarning, match=r"2 BatchNorm layers .* 3 ranks .* --trainer\.sync_batchnorm true"):
        start(net, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start(net, 1)
        start(nn.SyncBatchNorm.convert_sync_batchnorm(net), 3)
        net[1].eval()
        start(nn.Sequential(net[0], net[1], nn.GroupNorm(1, 4)), 3)


def built(path: Path) -> nn.Module | None:
    """Return the image encoder of a config, from random weights; None where a download says what it is."""
    spec = yaml.safe_load(path.read_text())
    kind, given = getattr(encoders, spec["class_path"]), dict(spec["init_args"])
    if not issubclass(kind, ImageEncoder) or isinstance(given.get("pretrained"), str):
        return None  # text towers, too: transformers all of them
    inner = given.get("image_encoder")
    if inner is not None:
        if isinstance(inner["init_args"]["pretrained"], str):
            return None
        given["image_encoder"] = getattr(encoders, inner["class_path"])(**(inner["init_args"] | {"pretrained": False}))
    if "pretrained" in given:
        given["pretrained"] = False
    model: nn.Module = kind(**given)
    return model.train()


def test_no_config_has_a_batch_norm_that_trains() -> None:
    torch.manual_seed(0)
    names = []
    for path in sorted((CONFIGS / "encoders").glob("*.yaml")):
        if path.stem not in LARGE and (model := built(path)) is not None:
            assert training_norms(model) == [], path.name
            names.append(path.stem)
    assert {"resnet18", "resnet50", "resnet18_3d", "slices_resnet18", "swin_unetr", "tiny_conv"} <= set(names)


@pytest.mark.parametrize("norm", ["frozen", "auto"])
def test_trained_networks_have_frozen_ones(norm: str) -> None:
    """As in a config with `pretrained: true`, which needs a download."""
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm3d(4))
    assert training_norms(encoders.maps.settle_norms(net, norm, pretrained=True).train()) == []  # type: ignore[arg-type]


def test_no_config_asks_for_batch_norm() -> None:
    """The one word that would leave them in, whatever weights there are."""
    files = sorted(CONFIGS.rglob("*.yaml"))
    assert len(files) > 40
    assert [path.name for path in files if "norm: batch" in path.read_text()] == []
