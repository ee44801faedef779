"""`medvl compare A B`: whether two models differ, on the same sentences."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvl.cli.plain import Parser
from medvl.errors import DataError

if TYPE_CHECKING:
    from medvl.metrics.bootstrap import Interval
    from medvl.metrics.comparison import Row
    from medvl.metrics.pairing import Pairs

FILES = ("test.jsonl", "predictions.jsonl")
LEVEL, WIDTH = 0.95, 180  # the table takes what it needs: figures are never cut


def run(words: list[str]) -> int:
    """Compare two runs or predictions files."""
    parser = Parser(
        prog="medvl compare", description="Compare two models on the same sentences; patients are resampled in pairs."
    )
    parser.add_argument("first", type=Path, metavar="A", help="a run folder, latest, or a predictions file")
    parser.add_argument("second", type=Path, metavar="B", help="another, of the same sentences")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder that holds all runs (runs)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--shared", action="store_true", help="compare the sentences in both where not all are")
    parser.add_argument("--draws", type=int, default=2000, help="draws of patients (2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    given = parser.parse_args(words)

    from medvl.metrics.comparison import compare
    from medvl.metrics.pairing import pair
    from medvl.outputs import read_predictions

    paths = [predictions_of(one, given.runs) for one in (given.first, given.second)]
    first, second = map(read_predictions, paths)
    pairs = pair(first, second, where=" | ".join(map(str, paths)), shared=given.shared)
    rows = compare(pairs, n=given.draws, seed=given.seed, level=LEVEL)
    print_rows(paths, pairs, rows)
    if given.json:
        write_rows(given.json, paths, pairs, rows, given)
        print(given.json)
    return 0


def predictions_of(path: Path, runs: Path = Path("runs")) -> Path:
    """Return the predictions file that `path` is, or that its run folder holds.

    Args:
        path: A file or a run folder; `latest` is the newest trained run of any task and name.
        runs: The folder of all runs.

    Raises:
        DataError: There is none.
    """
    from medvl.cli.runs import LATEST, newest_trained

    if path.is_file():
        return path
    if path == Path(LATEST) and not path.exists():
        newest = newest_trained(runs, "*/*/*")
        if newest is None:
            raise DataError("no run has a checkpoint yet", where=str(runs), command="medvl fit")
        path = newest
    found = [file for name in FILES if (file := path / "predictions" / name).is_file()]
    if not found:
        known = path.is_dir()
        raise DataError(
            "this run has no predictions yet" if known else "no such run folder or predictions file",
            where=str(path),
            command=f"medvl test --run {path}" if known else None,
        )
    return found[0]


def print_rows(paths: list[Path], pairs: Pairs, rows: list[Row]) -> None:
    """Print the table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in ("metric", "sentences", "patients", "A", "B", "B - A", "B is"):
        table.add_column(name, justify="right" if name in ("sentences", "patients") else "left", no_wrap=True)
    group = ""
    for row in rows:
        if row.group != group:
            table.add_section()
            group = row.group
        name = f"{row.metric} [{row.group}]" if row.group else row.metric
        counts = f"{row.sentences:,}", f"{row.patients:,}"
        figures = [shown(row.first), shown(row.second), shown(row.difference, "+")]
        table.add_row(name.replace("[", r"\["), *counts, *figures, row.verdict)
    print(f"A: {paths[0]}\nB: {paths[1]}")
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(table)
    print(
        f"{LEVEL:.0%} intervals, patients resampled in pairs; rows are not corrected for their number.\n"
        "better, worse: the interval of B - A leaves out 0; ece is better when lower."
    )
    if pairs.by_image:
        print(f"{pairs.by_image:,} sentences name no patient: they were resampled by image, so intervals may be narrow")


def shown(interval: Interval, sign: str = "") -> str:
    """Return a figure with its interval."""
    if math.isnan(interval.mean):
        return "-"
    bounds = "" if math.isnan(interval.low) else f" ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"
    return f"{interval.mean:{sign}.3f}{bounds}"


def write_rows(path: Path, paths: list[Path], pairs: Pairs, rows: list[Row], given: Any) -> None:
    """Write the figures as JSON; what is not defined is null."""
    from medvl.io.atomic import write_text

    def plain(interval: Interval) -> dict[str, float | None]:
        values = interval._asdict().items()
        return {name: None if math.isnan(value) else round(value, 6) for name, value in values}

    content = {
        "a": str(paths[0]),
        "b": str(paths[1]),
        "sentences": len(pairs.first),
        "patients": len(set(pairs.patients.tolist())),
        "by_image": pairs.by_image,
        "draws": given.draws,
        "seed": given.seed,
        "level": LEVEL,
        "rows": [
            {
                "metric": row.metric,
                "group": row.group,
                "sentences": row.sentences,
                "patients": row.patients,
                "a": plain(row.first),
                "b": plain(row.second),
                "difference": plain(row.difference),
                "verdict": row.verdict,
            }
            for row in rows
        ],
    }
    write_text(path, [json.dumps(content, indent=2, allow_nan=False), "\n"])
