"""Entry of the `medvl` and `lightning` commands. Imports nothing heavy: each sub-command loads what it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

from medvl.cli.ranks import first_to_tell, is_first, left_alone
from medvl.errors import ConfigError, MedvlError, nearest

COMMANDS = {
    "fit": ("medvl.cli.lightning", "train a model"),
    "validate": ("medvl.cli.lightning", "measure a checkpoint on the validation split"),
    "test": ("medvl.cli.lightning", "measure a checkpoint on the test split"),
    "predict": ("medvl.cli.predict", "write a checkpoint's predictions, or ground whole reports"),
    "retrieve": ("medvl.cli.retrieve", "show what lies near a study, a text or an image, and why"),
    "calibrate": ("medvl.cli.calibrate", "choose threshold and fusion on the validation split"),
    "compare": ("medvl.cli.compare", "tell whether two models differ on the same sentences"),
    "data": ("medvl.cli.data", "list, check, convert and show data sets, or write a synthetic twin"),
    "ontology": ("medvl.cli.ontology", "find what reports say, and mine triplets of studies by it"),
    "features": ("medvl.cli.features", "keep what a frozen encoder finds in volumes"),
    "export": ("medvl.cli.export", "write a checkpoint's weights as safetensors"),
    "bench": ("medvl.cli.bench", "re-measure the project's claims beside their peers"),
    "doctor": ("medvl.cli.doctor", "tell what this machine, or a run folder, has to offer"),
}
INTERRUPTED, MISTAKE = 130, 2


def usage() -> str:
    """Return the text of `medvl --help`."""
    rows = "\n".join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: medvl COMMAND [options]\n\n"
        "Train medical vision-language models: a config in, a run folder out.\n\n"
        f"commands:\n{rows}\n\n"
        "Options of one command: medvl COMMAND --help. Example:\n"
        "  medvl fit --config configs/quickstart/grounding.yaml\n"
        "For research use only, not for diagnosis."
    )


def main(args: list[str] | None = None) -> int:
    """Run one command.

    Args:
        args: Words after the program's name; those of the process when None.

    Returns:
        The exit status: 0 done, 1 the check found problems, 2 a user's mistake (told in at most four lines), 130
        interrupted. With `MEDVL_DEBUG=1` a mistake raises instead.
    """
    words = sys.argv[1:] if args is None else list(args)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # when a rank leaves, the others get warnings with stacks
    try:
        return dispatch(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except MedvlError as error:
        if os.environ.get("MEDVL_DEBUG"):
            raise
        if first_to_tell():
            print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except Exception as error:
        if os.environ.get("MEDVL_DEBUG") or not left_alone(error):
            first_to_tell()  # so that ranks which it leaves alone say nothing
            raise
        if is_first() and first_to_tell():
            print("error: another process of this run ended without a word; out of memory, perhaps", file=sys.stderr)
        return MISTAKE


def dispatch(words: list[str]) -> int:
    """Hand `words` to the module of the command that the first of them names."""
    command = words[0] if words else "--help"
    if command in ("--help", "-h", "help"):
        print(usage())
        return 0
    if command == "--version":
        print(f"medvl {version('medvl')}")
        return 0
    if command not in COMMANDS:
        raise ConfigError(f"no command {command!r}", hint=nearest(command, COMMANDS), command="medvl --help")
    run: Callable[[list[str]], int] = import_module(COMMANDS[command][0]).run
    return run(words if COMMANDS[command][0] == "medvl.cli.lightning" else words[1:])
