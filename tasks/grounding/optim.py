"""Parameter groups: learning-rate multiples by part, and no weight decay where it does harm."""

from __future__ import annotations

from typing import Any

from torch import nn

from medvl.errors import ConfigError, nearest


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
