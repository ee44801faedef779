from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from medvl.encoders import Tiny3D, TinyConv, TinyText
from medvl.errors import ConfigError
from medvl.optim import parameter_groups
from tasks.grounding import GroundingTask
from tasks.grounding.model import GroundingModel


def make_model() -> GroundingModel:
    return GroundingModel(TinyConv(width=64), TinyText(width=32, buckets=64), width=32, heads=2, fusion_layers=1)


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = make_model()
    model.image_encoder.stem.requires_grad_(False)
    grouped = [id(p) for group in parameter_groups(model, {}) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_only_matrices_decay() -> None:
    model = make_model()
    free = {id(p) for group in parameter_groups(model, {}) if group.get("weight_decay") == 0.0 for p in group["params"]}
    for name, parameter in model.named_parameters():
        spared = parameter.ndim < 2 or "text_encoder.words" in name or "text_encoder.grams" in name
        assert (id(parameter) in free) == spared, name


def test_the_longest_prefix_scales() -> None:
    model = make_model()
    scales = {"image_encoder": 0.1, "image_encoder.level8": 0.5, "text_encoder": 0.0}
    scale_of = {id(p): group["scale"] for group in parameter_groups(model, scales) for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = next((scales[prefix] for prefix in sorted(scales, key=len)[::-1] if name.startswith(prefix)), 1.0)
        assert scale_of[id(parameter)] == expected, name


def test_an_encoder_sets_the_pace_of_its_parts() -> None:
    model = nn.ModuleDict({"image": Tiny3D(pace=3.0), "text": TinyText(width=32, buckets=64, pace=5.0)})
    groups = parameter_groups(model, {"text": 0.5, "image.cells.0": 2.0})
    scale_of = {id(p): group["scale"] for group in groups for p in group["params"]}
    expected = {"text.words.weight": 2.5, "text.grams.weight": 2.5, "image.cells.0.vectors.weight": 18.0}
    expected |= {"image.cells.1.plane.weight": 3.0, "image.down.weight": 1.0, "text.norm.weight": 0.5}
    named = dict(model.named_parameters())
    assert {name: scale_of[id(named[name])] for name in expected} == expected
    alone = parameter_groups(TinyText(width=32, buckets=64, pace=5.0), {})
    assert sorted({group["scale"] for group in alone}) == [1.0, 5.0]


def test_a_prefix_of_nothing_is_told() -> None:
    with pytest.raises(ConfigError, match=r"lr_scale\.image_encode[^r]") as caught:
        parameter_groups(make_model(), {"image_encodes": 0.1})
    assert "image_encoder" in str(caught.value)


def test_groups_fit_any_optimiser_and_keep_its_decay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Embedding(3, 2))
    groups = [{k: v for k, v in group.items() if k != "scale"} for group in parameter_groups(model, {"0": 0.5})]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=0.3)
    assert sorted(group["weight_decay"] for group in optimizer.param_groups) == [0.0, 0.0, 0.3]


def test_the_task_scales_the_rate() -> None:
    task = GroundingTask(
        TinyConv(width=64), TinyText(width=32, buckets=64), width=32, heads=2, fusion_layers=0,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=2.0, weight_decay=0.1), lr_scale={"image_encoder": 0.1},
    )  # fmt: skip
    task.trainer = Trainer(accelerator="cpu", max_steps=100, logger=False, enable_checkpointing=False)
    optimizer = task.configure_optimizers()["optimizer"]
    of = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {of[id(p)] for p in task.model.image_encoder.parameters()} == {0.2}
    assert {of[id(p)] for p in task.model.text_encoder.parameters()} == {2.0}
