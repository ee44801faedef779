"""The optimiser of every task: rates by part, no weight decay where it does harm, a schedule over the whole run."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from medvl.errors import ConfigError, nearest
from medvl.schedule import Schedule


def parameter_groups(model: nn.Module, lr_scale: dict[str, float]) -> list[dict[str, Any]]:
    """Group the trainable parameters of `model`.

    Vectors (biases, norm weights) and embeddings get no weight decay. Each group carries its multiple as `scale`.

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
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        fitting = [prefix for prefix in lr_scale if name.startswith(prefix)]
        scale = lr_scale[max(fitting, key=len)] if fitting else 1.0
        decays = parameter.ndim > 1 and id(parameter) not in tables
        group = groups.setdefault((scale, decays), {"params": [], "scale": scale})
        if not decays:
            group["weight_decay"] = 0.0
        group["params"].append(parameter)
    return list(groups.values())


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
