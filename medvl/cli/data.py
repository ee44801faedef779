"""`medvl data list|twin|check|clean|convert|show|reports|mine-snippets`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from datamodules.catalog import SOURCES
from datamodules.twins import TWINS
from medvl.cli import clean as cleaning
from medvl.cli import volumes
from medvl.cli.plain import Parser, add_options, names
from medvl.errors import ConfigError, DataError, visible

if TYPE_CHECKING:
    from datamodules.check import Report
    from datamodules.records import PhraseRecord, ReportRecord
    from datamodules.sources.base import PhraseSource, Source
    from datamodules.sources.volumes import VolumeSource
    from medvl.io.workers import Engine

TABLES = ("table", "ct-slices")  # twins that are nobody's format but a table
TWIN_COMMON = {"folder", "studies", "seed", "difficulty", "workers"}
NOT_OPTIONS = {"twin": TWIN_COMMON, "clean": {"root", "subset", "clean"}}  # parameters that have no option of their own


def run(words: list[str]) -> int:
    """Run one `medvl data` command."""
    if words[:1] == ["mine-snippets"]:
        from medvl.cli import snippets

        return snippets.run(words[1:])
    # The formats' own options come from their constructors, which are imported only when one is named.
    parser, commands = build_parser()
    if words[:1] and words[0] in commands and {"-h", "--help"} & set(words[2:]):
        _add_own_options(commands[words[0]], words[0], words[1])  # parsing prints the help and leaves
    found, _ = parser.parse_known_args(words)
    if "format" in found:
        _add_own_options(commands[found.command], found.command, found.format)
    found, rest = parser.parse_known_args(words)
    if rest:
        commands[found.command].unknown(rest[0])
    given = vars(found)
    command: Callable[..., int] = given.pop("run")
    given.pop("command")
    return command(**given)


def _add_own_options(parser: Parser, command: str, format: str) -> None:
    if command == "twin" and format in TWINS:
        add_options(parser, load(TWINS[format]), NOT_OPTIONS["twin"])
    elif command != "twin" and format in SOURCES:
        add_options(parser, load(SOURCES[format].class_path), NOT_OPTIONS.get(command, {"root"}))


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser and those of its commands, by name."""
    parser = Parser(prog="medvl data", description="Data sets on disk and their synthetic twins.")
    parser.epilog = "Formats have options of their own: medvl data COMMAND FORMAT --help, as in twin imagenome --help."
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    commands = {
        "list": add("list", help="the formats that medvl reads"),
        "twin": add("twin", help="write a synthetic data set in a format's exact layout"),
        "check": add("check", help="find everything wrong before training does"),
        "clean": add("clean", help="mend weak labels: pairs in, kept pairs and an audit out"),
        "convert": add("convert", help="shrink images, or chunk CT volumes, once, into the cache that training reads"),
        "show": add("show", help="draw images with their phrases and boxes, or CTs with their snippets"),
        "reports": add("reports", help="write the reports for medvl ontology extract"),
    }
    functions = {"list": show_list, "twin": twin, "check": check, "clean": clean, "convert": convert, "show": show}
    functions["reports"] = reports
    add("mine-snippets", help="sentences of CT reports with the images that they point to", add_help=False)
    for name, function in functions.items():
        commands[name].set_defaults(run=function)
        if name != "list":
            commands[name].epilog = f"Formats have options of their own: medvl data {name} FORMAT --help."
    cleaning.add_arguments(commands["clean"])
    _twin_arguments(commands["twin"])
    for name in ("check", "convert", "show", "reports"):
        others = [volumes.FORMAT] if name == "convert" else []
        commands[name].add_argument("format", choices=[*SOURCES, *others], help="see `medvl data list`")
        commands[name].add_argument("root", help="its folder; for `table` the table file")
    commands["check"].add_argument(
        "--queries", type=int, default=8, help="count sentences with more boxes than this (8)"
    )
    commands["check"].add_argument("--output", type=Path, help="write the unusable rows to this quarantine list")
    commands["check"].add_argument(
        "--guard", type=names, default=[], metavar="TABLE,...", help="tables whose patients may not be trained on"
    )
    commands["check"].add_argument("--no-decode", dest="decode", action="store_false", help="leave the pixels unread")
    _convert_arguments(commands["convert"])
    commands["show"].add_argument("--output", type=Path, default=Path("data.png"), help="picture to write")
    commands["show"].add_argument("--only", choices=("train", "val", "test"), help="a single split")
    commands["show"].add_argument("--n", type=int, help="how many phrases (9), or CT studies (4)")
    commands["reports"].add_argument("--output", type=Path, required=True, help="JSON lines to write")
    return parser, commands


def _twin_arguments(parser: Parser) -> None:
    parser.add_argument("format", choices=list(TWINS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=400, help="how many studies")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--difficulty", type=float, default=0.5, help="0 plain to 1 faint")
    parser.add_argument("--workers", type=int, help="processes that draw; one per core by default")


def _convert_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--config", type=Path, action="append", default=[], help="take size and window from a config of `medvl fit`"
    )
    parser.add_argument("--size", type=int, help="the image_size to train with (640)")
    parser.add_argument(
        "--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="percentiles of black and white (0.5 99.5)"
    )
    only = "volumes only: "
    parser.add_argument("--workers", type=int, help=only + "processes; one per core by default")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help=only + "this machine, or a Ray cluster (local)"
    )
    parser.add_argument("--output", type=Path, help=only + "write what could not be read to this quarantine list")


def load(path: str) -> Callable[..., Any]:
    """Import `module.name`."""
    module, _, name = path.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def show_list() -> int:
    """Print the formats."""
    for name, source in SOURCES.items():
        print(f"{name:<12} {source.description}\n{'':<12} licence: {source.licence}\n{'':<12} obtain:  {source.obtain}")
    print(f"\n{volumes.FORMAT:<12} any folder of CT volumes, NIfTI or DICOM series: medvl data convert volumes FOLDER")
    print(f"\ntwins: {', '.join(TWINS)}")
    return 0


def twin(format: str, folder: Path, studies: int, **options: Any) -> int:
    """Write a twin."""
    load(TWINS[format])(folder, studies, **options)
    source = "table" if format in TABLES else format.removesuffix("-0.1")
    root = folder / "table.csv" if source == "table" else folder
    print(f"{folder}: {studies} studies  next: medvl data check {source} {root}")
    return 0


def check(
    format: str, root: str, queries: int | None, output: Path | None, decode: bool, guard: list[str], **options: Any
) -> int:
    """Print everything wrong with a data set; 1 if a row cannot be used."""
    from datamodules.check import check_source, write_quarantine

    report = check_source(data_set(format, root, options), decode=decode, max_boxes=queries, guards=guard)
    print_report(report)
    if output:
        written = write_quarantine(output, report.problems)
        print(f"{output}: {written} rows to leave out  next: medvl fit ... --data.source.quarantine {output}")
    elif report.fatal:
        print("next: mend these rows, or list them with --output quarantine.jsonl and leave them out")
    return int(bool(report.fatal))


def clean(format: str, root: str, **options: Any) -> int:
    """Clean weak labels."""
    own = {name: value for name, value in options.items() if name in cleaning.OPTIONS}
    rest = {name: value for name, value in options.items() if name not in own}
    return cleaning.clean(cast("PhraseSource", data_set(format, root, rest)), own | {"root": root})


def print_report(report: Report) -> None:
    """Print the counts and a table of the problems by code, each with its first place."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    print(", ".join(f"{n} {name}" for name, n in report.counts.items() if not name.startswith("problem/")))
    if not report.problems:
        print("no problem found")
        return
    table = Table("problem", "rows", "unusable", "first at", "what")
    counts = Counter(problem.code for problem in report.problems)
    firsts = {problem.code: problem for problem in reversed(report.problems)}
    for code, count in counts.most_common():
        first = firsts[code]
        told = (visible(first.where), visible(first.message))  # as plain text: brackets in a path are no markup
        table.add_row(code, str(count), "yes" if first.fatal else "no", *map(Text, told))
    Console().print(table)


def convert(
    format: str,
    root: str,
    config: list[Path],
    size: int | None,
    window: list[float] | None,
    workers: int | None,
    engine: Engine,
    output: Path | None,
    **options: Any,
) -> int:
    """Fill the image cache that `fit` with the same image size and window reads, or the store of volumes."""
    if format == volumes.FORMAT or volumes.holds(SOURCES[format].class_path):
        if config or size or window:
            raise ConfigError("--config, --size and --window are for images", hint="volumes keep every voxel")
        if format == volumes.FORMAT:
            return volumes.convert(root, workers, engine, output)
        scans = cast("VolumeSource", data_set(format, root, options))
        return volumes.convert_source(scans, workers, engine, output)
    if workers is not None or engine != "local" or output:
        raise ConfigError("--workers, --engine and --output are for volumes", command="medvl data convert volumes ROOT")
    from datamodules.pixels import IMAGE_SIZE, Pixels
    from datamodules.records import SPLITS
    from medvl.io.cache import cache_root
    from medvl.io.image import WINDOW

    kept = _data_settings(config)
    size = size or kept.get("image_size", IMAGE_SIZE)
    low, high = _percentiles(window or kept.get("window", WINDOW))
    source = data_set(format, root, options)
    records, start = source.load().records, time.perf_counter()
    pixels = Pixels(source.root, size, (low, high), "disk")
    unreadable: dict[str, str] = {}
    for split in SPLITS:  # one cache per split, as the datamodule asks for them
        if paths := list(dict.fromkeys(path for r in records if r.split == split for path in r.paths)):
            unreadable |= pixels.prepare(paths)
    count = len({path for record in records for path in record.paths}) - len(unreadable)
    seconds = time.perf_counter() - start
    print(f"{count} images for image_size {size}, window {low:g} {high:g}, in {seconds:.1f} s in {cache_root()}")
    for path, reason in list(unreadable.items())[:5]:
        print(visible(f"  unreadable: {path}: {reason}"))
    return int(bool(unreadable))


def _percentiles(window: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = map(float, window)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 <= low < high <= 100:
        raise ConfigError(f"wrong window {window}", hint="expected two percentiles, 0 <= LOW < HIGH <= 100")
    return low, high


def _data_settings(configs: list[Path]) -> dict[str, Any]:
    """Return the arguments that configs give the datamodule; of each, the last one given."""
    import yaml

    from medvl.text.untrusted import parse_yaml

    found: dict[str, Any] = {}
    for path in configs:
        try:
            content = parse_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError("cannot read the config", where=str(path)) from error
        block = content.get("data") if isinstance(content, dict) else None
        found |= (block.get("init_args") or {}) if isinstance(block, dict) else {}
    return found


def show(format: str, root: str, output: Path, only: str | None, n: int | None, **options: Any) -> int:
    """Draw `n` phrases of different images, those with boxes first; or reports; or CT studies."""
    source = data_set(format, root, options)
    records = [record for record in source.load().records if only in (None, record.split) and record.paths]
    if not records:
        raise DataError(f"no usable row in split {only}", where=root)
    if volumes.holds(SOURCES[format].class_path):
        return volumes.show(cast("VolumeSource", source), records, output, n or 4)
    from medvl.io.image import read_image
    from medvl.viz.overlay import caption, draw_boxes, grid

    order = sorted(records, key=lambda record: not _shown(record)[1])
    chosen = list({record.paths[0]: record for record in reversed(order)}.values())[::-1]
    chosen = sorted(chosen, key=lambda record: not _shown(record)[1])[: n or 9]
    panels = []
    for record in chosen:
        text, boxes = _shown(record)
        pixels, (height, width) = read_image(source.path_of(record), size=480)
        gold = [(a * width, b * height, c * width, d * height) for a, b, c, d in boxes]
        panels.append(caption(draw_boxes(pixels, gold, scale=max(pixels.shape) / max(height, width)), text))
    output.parent.mkdir(parents=True, exist_ok=True)
    grid(panels, legend=any(_shown(record)[1] for record in chosen)).save(output)
    print(output)
    return 0


def reports(format: str, root: str, output: Path, **options: Any) -> int:
    """Write the reports of a data set, a line per study."""
    from medvl.cli import texts

    return texts.reports(data_set(format, root, options), output)


def _shown(record: PhraseRecord | ReportRecord) -> tuple[str, tuple[tuple[float, float, float, float], ...]]:
    """Return what is written under an image, and the boxes in it."""
    from datamodules.records import ReportRecord

    return (record.text, ()) if isinstance(record, ReportRecord) else (record.phrase, record.boxes)


def data_set(format: str, root: str, options: dict[str, Any]) -> Source[Any]:
    """Return a data set of `medvl data list` with its own options.

    Raises:
        DataError: There is nothing at `root`.
    """
    if not Path(root).exists():
        command = f"medvl data twin {format} FOLDER writes a synthetic one" if format in TWINS else "medvl data list"
        raise DataError("no such data set", where=root, command=command)
    source: Source[Any] = load(SOURCES[format].class_path)(root, **options)
    return source
