"""Argument parsing of the commands that are no LightningCLI: argparse, with our errors and options from signatures."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from medvl.errors import ConfigError, nearest


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations that raises `ConfigError` with the nearest valid name."""

    def __init__(self, prog: str | None = None, description: str | None = None, **kwargs: Any) -> None:
        super().__init__(prog, description=description, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong.

        Raises:
            ConfigError: Always.
        """
        hint = None
        if choice := re.search(r"invalid choice: '([^']*)' \(choose from (.+)\)", message):
            hint = nearest(choice[1], [name.strip(" '") for name in choice[2].split(",")])
            name = message.partition(": ")[0].removeprefix("argument ").lower()
            message = f"no {name} {choice[1]!r}"
        raise ConfigError(message, hint=hint, command=f"{self.prog} --help")

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse; of an unknown option, name the nearest one."""
        found, rest = self.parse_known_args(*args, **kwargs)
        if rest:
            self.unknown(rest[0])
        return found

    def unknown(self, word: str) -> NoReturn:
        """Raise for a word that this parser does not know.

        Raises:
            ConfigError: Always.
        """
        name = word.partition("=")[0]
        options = [option for option in self._option_string_actions if option.startswith("--")]
        hint = nearest(name, options) if name.startswith("-") else None
        raise ConfigError(f"unknown option {name!r}", hint=hint, command=f"{self.prog} --help")


def add_options(parser: argparse.ArgumentParser, call: Callable[..., Any], known: set[str]) -> None:
    """Add an option for each parameter of `call` that is not in `known`, with its type and default."""
    hints = get_type_hints(call.__init__ if inspect.isclass(call) else call)
    for name, parameter in inspect.signature(call).parameters.items():
        if name in known or parameter.kind is parameter.VAR_KEYWORD:
            continue
        kinds = [kind for kind in _members(hints.get(name, str)) if kind is not type(None)]
        literals = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
        flag = f"--{name.replace('_', '-')}"
        if bool in kinds:
            parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=parameter.default)
        elif any(get_origin(kind) is dict for kind in kinds):
            parser.add_argument(flag, dest=name, type=pairs, default=parameter.default, metavar="A=B,...")
        elif any(get_origin(kind) is list for kind in kinds):
            parser.add_argument(flag, dest=name, type=names, default=parameter.default, metavar="A,B,...")
        else:
            kind = next((kind for kind in kinds if kind in (int, float)), str)
            needed = parameter.default is parameter.empty
            default = None if needed else parameter.default
            parser.add_argument(flag, dest=name, type=kind, default=default, choices=literals or None, required=needed)


def pairs(text: str) -> dict[str, str]:
    """Read `a=b,c=d`."""
    found = dict(part.partition("=")[::2] for part in text.split(","))
    if not all(found.values()):
        raise argparse.ArgumentTypeError(f"expected name=column,name=column, not {text!r}")
    return found


def names(text: str) -> list[str]:
    """Read `a,b`."""
    return [word for word in text.split(",") if word]


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
