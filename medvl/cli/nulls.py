"""Lets `null` reach the arguments of a class within a class on the command line."""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from medvl.text.untrusted import parse_yaml

_load = get_loader("yaml")


def read_none_as_null() -> None:
    """Make the parser read `None` as YAML's `null`.

    jsonargparse 4.53 reads the null of `--model.postprocess.fusion_iou null` at once and hands it to the parser of the
    inner class as Python prints it, `None`, which to YAML is a word like any other. YAML that is made to do harm is
    refused on the way (`parse_yaml`). Calling this twice does no harm.
    """
    set_loader("yaml", lambda text: _without_none(parse_yaml(text, _load)), (yaml.YAMLError,))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_none(inner) for inner in value]
    return None if value == "None" else value
