"""`medvl bench`: runs `benchmarks/<name>.py` and prints ours beside its peers."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import medvl
from medvl.cli.plain import Parser, add_options
from medvl.errors import ConfigError, nearest

ROOT = Path(medvl.__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"


def run(words: list[str]) -> int:
    """Run the named benchmarks; without a name, list them with what was last measured."""
    parser = Parser(prog="medvl bench", description="Re-measure the project's claims beside their peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="see `medvl bench`; `all` for every one")
    parser.epilog = "A benchmark may have options of its own: medvl bench NAME --help."
    cut = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    names, rest = words[:cut], words[cut:]
    if len(names) != 1 or names == ["all"]:
        names, rest = parser.parse_args(words).names, []
    known = benchmarks()
    for name in names:
        if name not in known and name != "all":
            raise ConfigError(f"no benchmark {name!r}", hint=nearest(name, known), command="medvl bench")
    for name in known if "all" in names else names:
        call = load(known[name])
        if "all" in names and (needed := needs(call)):
            print(f"{name}: left out, it needs --{needed[0]}")
            continue
        options = own_options(name, call, rest)
        print(f"{name} ...", flush=True)
        call(**options)
    print_results(names if names and "all" not in names else list(known))
    return 0


def benchmarks() -> dict[str, Path]:
    """Return the benchmarks of this checkout by name, hyphens for underscores.

    Raises:
        ConfigError: This is an installed package without them.
    """
    if not FOLDER.is_dir():
        raise ConfigError("benchmarks come with a checkout only", where=str(FOLDER), hint="git clone, then make setup")
    files = sorted(path for path in FOLDER.glob("*.py") if "\ndef run(" in path.read_text(encoding="utf-8"))
    return {path.stem.replace("_", "-"): path for path in files}


def load(path: Path) -> Callable[..., Any]:
    """Return `run` of one benchmark, which writes `benchmarks/results/<name>.json`."""
    for folder in (str(ROOT), str(FOLDER)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    spec = spec_from_file_location(f"benchmarks.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError("cannot load the benchmark", where=str(path))
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # worker processes find their functions by this name
    spec.loader.exec_module(module)
    call: Callable[..., Any] = module.run
    return call


def needs(call: Callable[..., Any]) -> list[str]:
    """Return the parameters that have no default."""
    parameters = inspect.signature(call).parameters.values()
    return [one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]


def own_options(name: str, call: Callable[..., Any], words: list[str]) -> dict[str, Any]:
    """Read the options of one benchmark: the parameters of its `run`."""
    parser = Parser(prog=f"medvl bench {name}", description=(call.__doc__ or "").partition("\n")[0])
    add_options(parser, call, set())
    options: dict[str, Any] = vars(parser.parse_args(words))
    return options


def print_results(names: list[str]) -> None:
    """Print the last results of these benchmarks."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("benchmark", no_wrap=True, min_width=max(map(len, names), default=0))  # it is what to type
    for title in ("unit", "ours", "peers", "ratio", "machine", "commit"):
        table.add_column(title, overflow="fold")
    for name in names:
        path = FOLDER / "results" / f"{name}.json"
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        peers = "\n".join(f"{peer} {number(value)}" for peer, value in result.get("peers", {}).items())
        cells = [number(result.get("ours")), peers, number(result.get("ratio"))]
        table.add_row(name, result.get("unit", "not measured yet"), *cells, *_where(result))
    Console().print(table)


def number(value: Any) -> str:
    """Return a figure, or several by name, as they are read in a table."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {number(part)}" for name, part in value.items())
    return f"{value:.3g}" if isinstance(value, int | float) else str(value or "")


def _where(result: dict[str, Any]) -> tuple[str, str]:
    machine = result.get("machine", "")
    text = ", ".join(str(part) for part in machine.values()) if isinstance(machine, dict) else str(machine)
    return text, str(result.get("commit", ""))[:9]
