"""Turns the parser's long messages into four lines: what, where, the nearest valid name, the next command."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

from jsonargparse._common import default_import_path_denylist
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from medvl.cli.words import options_of
from medvl.errors import ConfigError, MedvlError, nearest

KEY = re.compile(r'Parser key "([^"]+)"')
CLASS = re.compile(r"Problem with given class_path '([^']+)'")
GIVEN = re.compile(r"(?:Given value: |Got value: )(.+)")
EXPECTED = re.compile(r"Expected a (?!<class 'NoneType'>|path |dot )([^\n]+?)(?:\. Got value|\n|$)")
CALLABLES: dict[str, type] = {"optimizer": Optimizer, "scheduler": LRScheduler}
EXAMPLE = "medvl fit --config configs/quickstart/grounding.yaml"


def explain(error: Exception, options: Iterable[str], words: list[str]) -> ConfigError:
    """Return the mistake behind a parser's error.

    Args:
        error: What the parser raised.
        options: Dotted names that the sub-command takes.
        words: The command line, beginning with the sub-command.
    """
    message = str(error)
    for pattern, tell in RULES:
        if match := re.search(pattern, message):
            return tell(match, message, sorted(options), words)
    line = next((line.strip() for line in message.splitlines() if line.strip()), type(error).__name__)
    return ConfigError(line[:160], where=place(keys_of(message), words), command=f"medvl {words[0]} --help")


def mistake_behind(error: BaseException) -> MedvlError | None:
    """Return the first of our own errors in the chain that led to `error`."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, MedvlError):
        behind = behind.__cause__ or behind.__context__
    return behind


def unknown_option(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A key or flag that the sub-command does not have."""
    name = match[1].lstrip("-").split("=")[0]
    if not match[1].startswith("-") and match[0].startswith("unrec"):
        return ConfigError(f"a word too many: {name!r}", where="command line", command=f"medvl {words[0]} --help")
    if CLASS.search(message):  # within a class block: the first part is an argument of that class
        return unknown_argument(re.match(r"([^.]+)", name) or match, message, options, words)
    known = {prefix for option in options for prefix in prefixes(option)}
    name = next((prefix for prefix in prefixes(name) if prefix not in known), name)
    return ConfigError(f"no option {name!r}", where=place([name], words), hint=closest(name, alike(name, known)))


def unknown_argument(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A key that the class does not take."""
    owner = CLASS.findall(message)[-1]
    given = list(inspect.signature(found).parameters) if (found := loaded(owner)) else []
    keys, short = keys_of(message), owner.rpartition(".")[2]
    command = f"medvl {words[0]} --{keys[0]}.help {short}" if len(keys) == 1 else None
    where = place([*keys, match[1]], words)
    return ConfigError(f"{short} takes no {match[1]!r}", where=where, hint=closest(match[1], given), command=command)


def unknown_class(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A short class name that no loaded class of the right kind has."""
    key = keys_of(message)[-1]
    bases = [found for path in re.findall(r"<class '([\w.]+\.\w+)'>", message) if (found := loaded(path))]
    bases = [kind for kind in bases if not kind.__module__.startswith("jsonargparse")]
    bases += [CALLABLES[key]] if key in CALLABLES else kinds_taken(message, key)
    names = {kind.__name__ for base in bases[-1:] for kind in (base, *descendants(base))}
    return ConfigError(f"no class {match[1]!r}", where=place(keys_of(message), words), hint=closest(match[1], names))


def unknown_attribute(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A dotted class path whose module has no such class."""
    names = [name for name, kind in vars(sys.modules[match[1]]).items() if inspect.isclass(kind)]
    where = place(keys_of(message), words)
    return ConfigError(f"{match[1]} has no class {match[2]!r}", where=where, hint=closest(match[2], names))


def denied(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A class path outside the allow-list, or a file that does not exist."""
    where, package = place(keys_of(message), words), match[1].partition(".")[0]
    if match[1].endswith((".yaml", ".yml", ".json")):
        return ConfigError(f"no such file: {match[1]}", where=where, hint=neighbour(Path(match[1])))
    command = None if package in default_import_path_denylist else f"--allow-import {package}, if you trust that code"
    return ConfigError(f"{match[1]} is not allowed in a config or checkpoint", where=where, command=command)


def no_module(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A class path in a package that is not there."""
    return ConfigError(f"no module {match[1]!r}", where=place(keys_of(message), words), hint="is it installed?")


def no_file(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A config that does not exist."""
    return ConfigError("no such config", where=match[1], hint=neighbour(Path(match[1])))


def broken_yaml(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A config that is not YAML."""
    lines = re.findall(r"line (\d+), column (\d+)", message)
    where = ", ".join(options_of(words, "--config", "-c")) + (f", line {lines[-1][0]}" if lines else "")
    return ConfigError("the config is not valid YAML", where=where, hint=match[1].strip())


def missing(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """No model or data given."""
    keys = match[1].replace(f"{words[0]}.", "")
    return ConfigError(f"{words[0]} needs a config that names: {keys}", command=EXAMPLE.replace("fit", words[0]))


def wrong_type(match: re.Match[str], message: str, options: list[str], words: list[str]) -> ConfigError:
    """A value of another type than the key takes."""
    given = [value for value in GIVEN.findall(message) if not value.startswith("NestedArg")]
    kinds = " or ".join(dict.fromkeys(readable(kind) for kind in EXPECTED.findall(message)))
    value = given[0][:60] if given else ""
    choices = re.findall(r"'([^']+)'", kinds) if "Literal" in match[0] else []
    hint = closest(value, choices) if choices else f"expected {kinds}"
    return ConfigError(f"wrong value {value!r}", where=place(keys_of(message), words), hint=hint)


Rule = Callable[[re.Match[str], str, list[str], list[str]], ConfigError]
RULES: list[tuple[str, Rule]] = [
    (r"Importing '([^']+)' is not allowed", denied),
    (r"File does not exist: '?([^'\n]+)", no_file),
    (r"Problems parsing config: ([^\n]+)", broken_yaml),
    (r"arguments are required: (.+)", missing),
    (r"does not accept option '([^']+)'", unknown_option),
    (r"unrecognized arguments: (\S+)", unknown_option),
    (r"Option '([^']+)' is not accepted", unknown_argument),
    (r"Expected a dot import path string: (\S+)", unknown_class),
    (r"module '([\w.]+)' has no attribute '(\w+)'", unknown_attribute),
    (r"No module named '([\w.]+)'", no_module),
    (EXPECTED.pattern, wrong_type),
]


def keys_of(message: str) -> list[str]:
    """Return the keys on the way to the innermost trouble."""
    return KEY.findall(message)


def place(keys: list[str], words: list[str]) -> str | None:
    """Return where a key stands: its dotted name, and the line of the config or the flag that gave it."""
    if not keys:
        return None
    dotted = ".".join(keys)
    if any(word.partition("=")[0] == f"--{dotted}" for word in words):
        return f"--{dotted}"
    leaf = re.compile(rf"(?:^|[\s{{,]){re.escape(dotted.rpartition('.')[2])}\s*:")
    files = [name for name in options_of(words, "--config", "-c") if "\n" not in name and Path(name).is_file()]
    for config in reversed(files):
        lines = Path(config).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            if leaf.search(line):
                return f"{config}:{number} ({dotted})"
    return dotted


def closest(name: str, options: Iterable[str]) -> str | None:
    """Return the nearest of `options` as a hint, None when there are none."""
    known = list(options)
    return nearest(name, known) if known else None


def prefixes(name: str) -> list[str]:
    """Return `a`, `a.b`, `a.b.c` for `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def alike(name: str, known: Iterable[str]) -> list[str]:
    """Return the names in the same group as `name`."""
    group = name.rpartition(".")[0]
    return [option for option in known if option.rpartition(".")[0] == group]


def readable(kind: str) -> str:
    """Return a type's name as a person writes it."""
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind).replace("typing.", "")


def loaded(path: str) -> type | None:
    """Return a class by its dotted path if its module is loaded; nothing is imported."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if inspect.isclass(found) else None


def kinds_taken(message: str, key: str) -> list[type]:
    """Return the classes that the innermost class block of `message` takes for its argument `key`."""
    owner = loaded(CLASS.findall(message)[-1]) if CLASS.search(message) else None
    taken = inspect.signature(owner, eval_str=True).parameters if owner else {}
    kind = taken[key].annotation if key in taken else None
    return [found for found in (kind, *get_args(kind)) if inspect.isclass(found) and found is not type(None)]


def descendants(base: type) -> Iterator[type]:
    """Yield the public classes below `base`."""
    kinds: list[type] = type.__subclasses__(base)
    for kind in kinds:
        if not kind.__name__.startswith("_") and not kind.__module__.startswith(("lightning", "torch.nn.modules")):
            yield kind
        yield from descendants(kind)


def neighbour(path: Path) -> str | None:
    """Return a hint that names the file closest to one that does not exist."""
    folder = path.parent
    names = [found.name for found in folder.iterdir() if found.suffix == path.suffix] if folder.is_dir() else []
    return (
        nearest(path.name, names[:12] if len(names) > 12 else names) if names else f"no {path.suffix} file in {folder}"
    )
