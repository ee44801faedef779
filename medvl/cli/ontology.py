"""`medvl ontology check|extract|mine|show`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medvl.cli import mine
from medvl.cli.plain import Parser
from medvl.errors import DataError

if TYPE_CHECKING:
    from ontology.entities import Entity, Report

TERMINAL = {"present": "bold red", "absent": "green", "uncertain": "yellow", "historical": "magenta"}


def run(words: list[str]) -> int:
    """Run one `medvl ontology` command."""
    if words[:1] == ["mine"]:
        return mine.run(words[1:])
    given = vars(build_parser().parse_args(words))
    command: Callable[..., int] = given.pop("run")
    given.pop("command")
    return command(**given)


def build_parser() -> Parser:
    """Return the parser of the commands but `mine`, which has its own."""
    parser = Parser(prog="medvl ontology", description="What reports say: findings, their status, how and where.")
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    command = add("extract", help="reports in, entities out (JSON lines)")
    command.set_defaults(run=extract)
    command.add_argument("--input", type=Path, required=True, help="lines of id and text, or id, findings, impression")
    command.add_argument("--output", type=Path, required=True, help="a line per report, in the same order")
    command.add_argument("--workers", type=int, default=1, help="processes (1)")
    command.add_argument("--whole", dest="sections", action="store_false", help="read a text's every section")
    _language(command)
    command = add("check", help="find what is wrong with a lexicon")
    command.set_defaults(run=check)
    _language(command, every=True)
    command = add("show", help="colour a report's findings, here or as a page")
    command.set_defaults(run=show)
    command.add_argument("report", type=Path, help="a text file")
    command.add_argument("--html", type=Path, help="page to write")
    _language(command)
    add("mine", help="entities in, triplets of studies out", add_help=False)
    return parser


def _language(parser: Parser, every: bool = False) -> None:
    default = None if every else "en"
    told = "every one" if every else "en"
    parser.add_argument("--language", default=default, help=f"of the lexicon, or the folder of one ({told})")


def extract(input: Path, output: Path, workers: int, sections: bool, language: str) -> int:
    """Write the entities of reports; count what came in and what came out."""
    from rich.console import Console
    from rich.progress import track

    from medvl.io.atomic import replacing
    from ontology.entities import read_reports, write_entities
    from ontology.extract import extract_all
    from ontology.lexicon import denials_elsewhere

    foreign = denials_elsewhere(language)
    console, counts = Console(stderr=True), Counter[str]()
    found = extract_all(read_reports(input, sections), language=language, workers=workers)
    with replacing(output) as draft, draft.open("w", encoding="utf-8") as file:
        rows = write_entities(file, found)
        for report, entities in track(rows, "reading reports", console=console, disable=not console.is_terminal):
            _count(counts, report, entities, foreign)
    if not counts["reports"]:
        raise DataError("no report", where=str(input), hint='expected lines of {"id", "text"}')
    told = ", ".join(f"{counts[status]:,} {status}" for status in TERMINAL)
    print(f"{output}: {counts['reports']:,} reports, {counts['entities']:,} entities ({told})")
    for case in ("without text", "with text but no entity"):
        if counts[case]:
            print(f"  {counts[case]:,} {case}")
    if 2 * counts["with text but no entity"] > counts["reports"]:
        print(f"  most reports have none: are they in another language than {language}?", file=sys.stderr)
    if counts["foreign"]:
        told = f"{counts['foreign']:,} deny in another language than {language}"
        print(f"  {told}: what they deny may be taken for present", file=sys.stderr)
    return 0


def _count(counts: Counter[str], report: Report, entities: list[Entity], foreign: frozenset[str]) -> None:
    counts["reports"] += 1
    counts["entities"] += len(entities)
    counts.update(entity.status for entity in entities)
    counts["foreign"] += not foreign.isdisjoint(report.text.lower().split())
    if not entities:
        counts["with text but no entity" if report.text.strip() else "without text"] += 1


def check(language: str | None) -> int:
    """Print what is wrong with one lexicon or all; 1 if anything is."""
    from ontology.check import check as problems_of
    from ontology.lexicon import languages, load

    wrong = 0
    for name in [language] if language else languages():
        lexicon = load(name)
        problems = problems_of(lexicon)
        wrong += len(problems)
        diseases = len({term.disease for term in lexicon.terms})
        print(f"{name}: {diseases} findings in {len(lexicon.terms):,} wordings, {len(problems)} problems")
        for problem in problems:
            print(f"  {problem.code}: {problem.file}: {problem.word!r} {problem.message}")
    return int(wrong > 0)


def show(report: Path, html: Path | None, language: str) -> int:
    """Colour a report's findings."""
    from medvl.text.sections import readable
    from ontology.entities import Report
    from ontology.extract import Ober

    try:
        text = report.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=str(report), hint="save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", where=str(report)) from error
    entities = Ober(language).extract(Report(report.name, text, readable(text)))
    if html is None:
        _print(text, entities)
        return 0
    from medvl.io.atomic import write_text
    from medvl.viz.entities import Mark, entity_page

    marks = [Mark(*entity.span, entity.status, label(entity)) for entity in entities]
    print(write_text(html, [entity_page(report.name, text, marks)]))
    return 0


def label(entity: Entity) -> str:
    """Return what was understood, in a line: `small left pleural effusion`, with its status unless present."""
    words = " ".join((*entity.adjectives, *entity.directions, entity.disease))
    return words if entity.status == "present" else f"{words} ({entity.status})"


def _print(text: str, entities: list[Entity]) -> None:
    from rich.console import Console
    from rich.text import Text

    shown = Text(text)
    for entity in entities:
        shown.stylize(TERMINAL[entity.status], *entity.span)
    console = Console(highlight=False)
    console.print(shown)
    console.print()
    for entity in entities:
        console.print(Text(f"{entity.status:<11}", TERMINAL[entity.status]) + Text(f"{label(entity)}"))
