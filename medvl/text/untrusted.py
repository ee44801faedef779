"""JSON and YAML that somebody else may have written to do harm: refused in words, never by running out of anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

MOST_VALUES = 1_000_000  # of a YAML once its aliases are written out; our largest configs have some hundred


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        json.JSONDecodeError: It is none, is nested too deeply, or holds a number of thousands of digits; nothing in the
            error but `msg` is of the text.
        UnicodeDecodeError: Bytes are no text.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise json.JSONDecodeError("a number is too long", "", 0) from None


def parse_yaml(text: str, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """Parse YAML.

    Args:
        text: What to parse.
        load: What does it; must build plain values alone, as `yaml.safe_load` does.

    Raises:
        yaml.YAMLError: It is none, names a Python object, is nested too deeply, or is a small text whose aliases stand
            for a huge value ("billion laughs") or for themselves.
    """
    try:
        value = load(text)
        count = _written_out(value, {}, set())
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
    return value


def _written_out(value: Any, known: dict[int, int], above: set[int]) -> int:
    """Return how many values there are with aliases written out; every container is looked into once."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) in above:
        raise yaml.YAMLError("an alias stands for what holds it")
    if id(value) not in known:
        above.add(id(value))
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_written_out(one, known, above) for one in inner)
        above.discard(id(value))
    return known[id(value)]
