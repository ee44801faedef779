"""Parts of a model that are not trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medvl.errors import ConfigError, nearest


def freeze(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Let the parameters whose name begins with a prefix have no gradient.

    Raises:
        ConfigError: A prefix names no parameter.
    """
    named = dict(model.named_parameters())
    for prefix in prefixes:
        found = [parameter for name, parameter in named.items() if name.startswith(prefix)]
        if not found:
            hint = nearest(prefix, {name.split(".")[0] for name in named})
            raise ConfigError("no parameter has this prefix", where=f"freeze: {prefix}", hint=hint)
        for parameter in found:
            parameter.requires_grad_(False)


def rest(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Put what is frozen in evaluation mode: its dropout and running means rest as well."""
    for name, module in model.named_modules():
        if any(name.startswith(prefix) for prefix in prefixes):
            module.eval()
