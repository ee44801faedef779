"""The optimiser of every task: rates by part, no weight decay where it does harm, a schedule over the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from medvl.encoders.base import ImageEncoder, TextEncoder
from medvl.errors import ConfigError, nearest
from medvl.schedule import Schedule


def parameter_groups(model: nn.Module, lr_scale: dict[str, float]) -> list[dict[str, Any]]:
    """Group the trainable parameters of `model`.

    Vectors (biases, norm weights) and embeddings get no weight decay. Each group carries its multiple as `scale`: that
    of `lr_scale`, times that which an encoder asks for (`paces`), so that no configuration need know its parts.

    Args:
        model: The model.
        lr_scale: Multiples of the learning rate by prefix of the parameter's name; the longest prefix wins.

    Raises:
        ConfigError: A prefix names no parameter.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for prefix in lr_scale:
        if not any(name.startswith(prefix) for name, _ in named):
            known = {name.split(".")[0] for name, _ in named}
            raise ConfigError("no parameter has this prefix", where=f"lr_scale.{prefix}", hint=nearest(prefix, known))
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    encoders = [
        (f"{name}.".lstrip("."), m) for name, m in model.named_modules() if isinstance(m, ImageEncoder | TextEncoder)
    ]
    paces = {f"{name}{part}": pace for name, encoder in encoders for part, pace in encoder.paces.items()}
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        scale = _of_longest(lr_scale, name) * _of_longest(paces, name)
        decays = parameter.ndim > 1 and id(parameter) not in tables
        group = groups.setdefault((scale, decays), {"params": [], "scale": scale})
        if not decays:
            group["weight_decay"] = 0.0
        group["params"].append(parameter)
    return list(groups.values())


def _of_longest(scales: Mapping[str, float], name: str) -> float:
    fitting = [prefix for prefix in scales if name.startswith(prefix)]
    return scales[max(fitting, key=len)] if fitting else 1.0


def scheduled(
    groups: list[dict[str, Any]], optimizer: OptimizerCallable, schedule: Schedule, steps: int
) -> OptimizerLRSchedulerConfig:
    """Build the optimiser of some groups and a schedule in fractions of the run, as Lightning wants them.

    Args:
        groups: As `parameter_groups` returns them.
        optimizer: Called with the groups.
        schedule: Learning rate over the run.
        steps: Optimiser steps of the run.
    """
    built = optimizer([{k: v for k, v in group.items() if k != "scale"} for group in groups])
    for group, made in zip(groups, built.param_groups, strict=True):
        made["lr"] *= group["scale"]
    return {"optimizer": built, "lr_scheduler": {"scheduler": schedule(built, steps), "interval": "step"}}
