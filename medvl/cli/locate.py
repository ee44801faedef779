"""`medvl predict --volume`: sentences placed along a CT volume, as JSON and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medvl.cli.plain import Parser
from medvl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from medvl.io.volume import Volume
    from medvl.located import LocatedSentence

RESULTS, PAGE = "sentences.jsonl", "page.html"


def run(words: list[str]) -> int:
    """Find sentences in one volume: a line of JSON for each, and a page for all."""
    parser = _parser()
    if {"-h", "--help"} & set(words):
        parser.print_help()
        return 0
    given = parser.parse_args(words)
    sentences = _sentences(given.sentence)
    if not given.volume:
        raise ConfigError("no volume to look into", hint="--volume names a NIfTI file or a folder of DICOM slices")
    path = Path(given.volume)
    if not path.exists():
        raise DataError("no such file or folder", where=str(path))
    if given.series is not None and path.is_file():
        raise ConfigError("--series is for a folder of DICOM slices; this is a file", where=str(path))

    from medvl.cli.locator import Locator
    from medvl.cli.quiet import quieten
    from medvl.cli.restore import restore
    from medvl.cli.runs import output_folder
    from medvl.io.atomic import write_text
    from medvl.viz.located import write_page
    from tasks.volume.task import VolumeTask

    quieten()
    restored = restore(given.run, given.ckpt_path, given.runs, given.allow_import)
    if not isinstance(restored.model, VolumeTask):
        where = str(restored.run or given.ckpt_path)
        raise ConfigError("this run's model finds no sentences in volumes", where=where, hint="expected a VolumeTask")
    locator = Locator(restored.model, restored.data, given.device)
    volume = _volume(path, given.series)
    folder = output_folder(given.output, restored.run, "located")
    located = locator.locate(volume, sentences, path.resolve().name)
    write_text(folder / RESULTS, (one.to_json() + "\n" for one in located.sentences))
    page = write_page(folder / PAGE, located, volume)
    for number, one in enumerate(located.sentences, start=1):
        print(f"{number}: {_told(one)}")
    print(f"{folder}  next: look at {page}")
    return 0


def _sentences(given: list[str]) -> list[str]:
    """Return the sentences without space around them.

    Raises:
        ConfigError: There is none, or one is empty.
    """
    if not given:
        raise ConfigError("nothing to look for", hint="--sentence TEXT, once for each sentence or with several texts")
    found = [text.strip() for text in given]
    for number, text in enumerate(found, start=1):
        if not any(letter.isalnum() for letter in text):
            raise ConfigError(f"sentence {number} of {len(found)} is empty", where="--sentence")
    return found


def _volume(path: Path, series: int | None) -> Volume:
    """Read the volume; of several series, say which option chooses."""
    from medvl.io.volume import VolumeError
    from medvl.io.volumes import read_volume

    try:
        return read_volume(path, series)
    except VolumeError as error:
        if error.code == "mixed-series":
            error.command = "the same with --series NUMBER"
        raise


def _told(one: LocatedSentence) -> str:
    """Say the answer without the sentence."""
    if not one.found:
        return f"not in this scan (probability that it is: {one.present:.2f})"
    series = "" if one.place.series is None else f"series {one.place.series}, "
    image = "" if one.place.image is None else f"image {one.place.image}, "
    return f"{series}{image}{one.mm:.1f} mm ({one.low_mm:.1f} to {one.high_mm:.1f})"


def _parser() -> Parser:
    parser = Parser(
        prog="medvl predict --volume",
        description="Find sentences in a CT: series, image, mm and an interval for each, as JSON and as a page.",
        epilog="See docs/volumes.md.",
    )
    parser.add_argument("--volume", help="a NIfTI file, or a folder of DICOM slices")
    parser.add_argument("--series", type=int, help="SeriesNumber of the one to read where a folder holds several")
    parser.add_argument("--sentence", nargs="+", action="extend", default=[], metavar="TEXT", help="what to look for")
    parser.add_argument("--run", help="run folder of the model; latest for the newest")
    parser.add_argument("--ckpt_path", default="best", help="best, last or a file (best)")
    parser.add_argument("--runs", default="runs", help="folder that holds all runs (runs)")
    parser.add_argument("--output", help="an empty or new folder (located/TIME in the run)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (an accelerator where there is one)")
    parser.add_argument("--allow-import", action="append", default=[], metavar="PACKAGE", help="open it to the run")
    return parser
