"""`medvl data mine-snippets`: reports in, sentences with the images that they point to out."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvl.cli.plain import Parser
from medvl.errors import DataError

if TYPE_CHECKING:
    from datamodules.snippets.reports import Snippet

SHOWN = 5  # problems told one by one


def run(words: list[str]) -> int:
    """Mine the snippets of reports; count what was found, and what was not taken and why."""
    from rich.console import Console
    from rich.progress import track

    given = _parser().parse_args(words)
    from datamodules.snippets.reports import Miner
    from medvl.io.atomic import replacing
    from ontology.entities import read_reports

    miner, console = Miner(given.language), Console(stderr=True)
    counts, links, problems = Counter[str](), Counter[str](), list[str]()
    with replacing(given.output) as draft, draft.open("w", encoding="utf-8") as file:
        reports = read_reports(given.input, sections=False)
        for row, report in enumerate(track(reports, "reading", console=console, disable=not console.is_terminal), 1):
            snippets, found = miner.report(report.text, given.whole)
            counts.update(found)
            counts["reports"] += 1
            counts["snippets"] += len(snippets)
            for snippet in snippets:
                line: dict[str, Any] = {"id": report.id, **report.passed_on, **snippet.as_dict()}
                if given.series is not None:
                    line["intervals"] = _linked(given.series, report.id, snippet, row, links, problems)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if not counts["reports"]:  # inside, so that no empty file is left
            raise DataError("no report", where=str(given.input), hint='expected lines of {"id", "text"}')
    _tell(given.output, counts, links, problems)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="medvl data mine-snippets",
        description="Find the sentences of CT reports that point to images (series 4, image 38); take that out.",
    )
    parser.add_argument("--input", type=Path, required=True, help="lines of id and text, or id, findings, impression")
    parser.add_argument("--output", type=Path, required=True, help="a line per sentence that points to images")
    parser.add_argument("--language", choices=("en", "de", "auto"), default="auto", help="of the reports (auto)")
    parser.add_argument("--whole", action="store_true", help="read a text's every section")
    parser.add_argument(
        "--series", type=Path, metavar="PATH", help="sidecar (JSON) or DICOM folder, or a folder of them by report id:"
        " adds weighted intervals in mm",
    )  # fmt: skip
    return parser


def _linked(
    path: Path, name: str | int, snippet: Snippet, row: int, links: Counter[str], problems: list[str]
) -> list[dict[str, float]]:
    """Return the intervals of a snippet in mm; take note of what could not be linked."""
    from datamodules.snippets.link import link

    depths = _depths(path, name)
    if depths is None:
        links["no series of this report"] += len(snippet.references)
        return []
    intervals, found, told = link(snippet.references, depths)
    links.update(found)
    problems += [f"report {row}: {problem}" for problem in told[: SHOWN - len(problems)]]
    return [asdict(interval) for interval in intervals]


_KEPT: dict[tuple[Path, str | int], Any] = {}


def _depths(path: Path, name: str | int) -> Any:
    """Return the series of a report; those read last are kept, for a report has several snippets."""
    from datamodules.snippets.link import read_depths

    key = (path, "") if path.is_file() else (path, name)
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = read_depths(path, name)
    return _KEPT[key]


def _tell(output: Path, counts: Counter[str], links: Counter[str], problems: list[str]) -> None:
    refused = {name: n for name, n in counts.most_common() if name not in ("reports", "snippets", "references")}
    told = f"{counts['references']:,} references in {counts['snippets']:,} sentences"
    print(f"{output}: {counts['reports']:,} reports, {told}")
    if refused:
        print("  not taken: " + ", ".join(f"{n:,} {name}" for name, n in refused.items()))
    if links:
        print("  " + ", ".join(f"{n:,} {name}" for name, n in links.most_common()))
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
