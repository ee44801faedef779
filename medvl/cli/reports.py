"""`medvl predict --report`: whole reports grounded, each in one pass over its image."""

from __future__ import annotations

import sys
from argparse import ArgumentError, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from datamodules.catalog import SOURCES
from medvl.cli.data import data_set, load
from medvl.cli.plain import Parser, add_options, pairs
from medvl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datamodules.studies import Study
    from medvl.cli.grounder import Generator
    from medvl.grounded import GroundedReport
    from medvl.outputs import PhrasePrediction

RESULTS = "reports.jsonl"
DATASETS = ("mimic-cxr", "chexpert", "padchest", "openi")  # those of `medvl data list` that hold reports
OWN = {"root", "columns"}  # of a data set's options, what `--report` and `--columns` say here


def run(words: list[str]) -> int:
    """Ground reports: a page and a line of JSON for each study, COCO results for all."""
    parser = _parser()
    named = _options_of_dataset(parser, words)
    if {"-h", "--help"} & set(words):
        parser.print_help()
        return 0
    given, rest = parser.parse_known_args(words)
    if foreign := [word for word in rest if word.startswith("-") and not word.startswith("--generator.")]:
        parser.unknown(foreign[0])
    if not (given.report or given.image):
        raise ConfigError("nothing to predict on", hint="--report and --image, or --generator and --image")

    studies = _studies(given, named)

    from medvl.cli.grounder import Grounder
    from medvl.cli.quiet import quieten
    from medvl.cli.restore import restore
    from medvl.cli.runs import output_folder
    from tasks.grounding.task import PhraseTask

    quieten()
    restored = restore(given.run, given.ckpt_path, given.runs, given.allow_import)
    if not isinstance(restored.model, PhraseTask):
        raise ConfigError("this run's model does not ground phrases", where=str(restored.run or given.ckpt_path))
    generator = load_generator(given.generator, rest) if given.generator else None
    grounder = Grounder(restored.model, restored.data, given.device)
    if given.threshold is not None:
        grounder.task.postprocess = replace(grounder.task.postprocess, threshold=given.threshold)
    folder = output_folder(given.output, restored.run, "reports")
    reports = _each(lambda study: grounder.ground(study, generator, given.generator or ""), studies)
    try:
        pages = write_reports(folder, reports, grounder.window)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    print(f"{folder}  next: look at {pages[0]}" + (f" (and {len(pages) - 1} more)" if pages[1:] else ""))
    return 0


def _options_of_dataset(parser: Parser, words: list[str]) -> list[str]:
    """Add the options of the data set that `--format` names; return their names."""
    first = Parser(prog=parser.prog, add_help=False)
    first.add_argument("--format", choices=DATASETS)
    name = first.parse_known_args(words)[0].format
    if name is None:
        return []
    known = set(vars(parser.parse_args([])))
    add_options(parser, load(SOURCES[name].class_path), OWN)
    return [option for option in vars(parser.parse_args([])) if option not in known]


def _studies(given: Namespace, named: list[str]) -> list[Study]:
    """Return the studies to ground, none of their images opened yet."""
    from datamodules.studies import read_studies, studies_of

    if given.format is None:
        if given.only:
            raise ConfigError("only a data set has splits", where="--only", hint="add --format mimic-cxr, for example")
        report = Path(given.report) if given.report else None
        return read_studies(report, [Path(name) for name in given.image], given.columns)
    if given.image or not given.report:
        raise ConfigError("a data set brings its own images", where="--format", hint="expected --report FOLDER alone")
    return studies_of(data_set(given.format, given.report, {name: getattr(given, name) for name in named}), given.only)


def write_reports(folder: Path, reports: Iterable[GroundedReport], window: tuple[float, float]) -> list[Path]:
    """Write `00001.html`, ... (a page per study), `reports.jsonl`, `coco_results.json` and `coco_images.json`.

    Pages are numbered, since the name of a study may tell who the patient is.

    Returns:
        The pages.
    """
    from medvl.io.atomic import write_text
    from medvl.outputs import write_coco
    from medvl.viz.grounded import write_page

    pages: list[Path] = []
    lines: list[str] = []
    predictions: list[PhrasePrediction] = []
    for number, report in enumerate(reports, start=1):
        pages.append(write_page(folder / f"{number:05d}.html", report, window))
        lines.append(report.to_json(page=pages[-1].name) + "\n")
        predictions += report.predictions()
    write_text(folder / RESULTS, lines)
    write_coco(folder, predictions)
    return pages


def load_generator(name: str, words: Sequence[str]) -> Generator:
    """Return what writes reports.

    Args:
        name: Dotted path of a function `image -> text`, or of a class whose objects are such functions.
        words: The command line, where `--generator.ARGUMENT VALUE` is for that class.

    Raises:
        ConfigError: It is not there, or not allowed (`--allow-import`).
    """
    from jsonargparse import ArgumentParser
    from PIL import Image

    from medvl.cli.mistakes import explain, mistake_behind

    parser = ArgumentParser(exit_on_error=False, prog="medvl")
    parser.add_argument("--generator", type=Callable[[Image.Image], str])
    try:
        found = parser.instantiate_classes(parser.parse_args(["--generator", name, *words])).generator
    except (ArgumentError, ImportError, TypeError, ValueError, KeyError) as error:
        raise (mistake_behind(error) or explain(error, ["generator"], ["predict", "--generator", name])) from error
    return cast("Generator", found)


def _parser() -> Parser:
    parser = Parser(
        prog="medvl predict --report",
        description="Ground whole reports: sentences, boxes, and a page where both are tied by colour.",
        epilog="--generator.NAME VALUE passes arguments to a generator that is a class. See docs/grounded-reports.md.",
    )
    parser.add_argument(
        "--report",
        help="a text file, a folder of them, a table with columns image and report, or, with --format, a data set",
    )
    parser.add_argument("--format", choices=DATASETS, help="--report is a data set in this layout (medvl data list)")
    parser.add_argument("--only", choices=("train", "val", "test"), help="a single split of the data set")
    parser.add_argument("--image", nargs="+", default=[], help="the report's images; of several reports, their folder")
    parser.add_argument("--columns", type=pairs, default={}, metavar="A=B,...", help="names of image, report, study_id")
    parser.add_argument("--generator", help="what writes the report where none is given: a function image -> text")
    parser.add_argument("--run", help="run folder of the model; latest for the newest")
    parser.add_argument("--ckpt_path", default="best", help="best, last or a file (best)")
    parser.add_argument("--runs", default="runs", help="folder that holds all runs (runs)")
    parser.add_argument("--output", help="an empty or new folder (reports/TIME in the run)")
    parser.add_argument("--threshold", type=float, help="show boxes that score above this (as calibrated)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (an accelerator where there is one)")
    parser.add_argument("--allow-import", action="append", default=[], metavar="PACKAGE", help="open it to --generator")
    return parser


def _each(ground: Callable[[Study], GroundedReport], studies: Sequence[Study]) -> Iterator[GroundedReport]:
    """Yield the studies grounded; leave out, and tell of, those that cannot be where there are others."""
    from rich.console import Console
    from rich.progress import track

    faults = []
    for study in track(studies, "Reports", console=Console(stderr=True), disable=len(studies) < 2):
        try:
            yield ground(study)
        except DataError as error:
            faults.append(error)
    if len(faults) == len(studies):
        raise faults[0]
    if faults:
        first = f"{faults[0].where}: {faults[0].what}"
        print(f"warning: {len(faults)} of {len(studies)} studies are left out; first {first}", file=sys.stderr)
