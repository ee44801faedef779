"""`medvl ontology mine`: entities in, a table of triplets out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from medvl.cli.plain import Parser
from medvl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ontology.mining import Settings, Triplets
    from ontology.studies import Studies

COLUMNS = ("anchor", "positive", "negative", "positive_score", "negative_score")


def run(words: list[str]) -> int:
    """Mine triplets."""
    parser = Parser(
        prog="medvl ontology mine",
        description="Mine (anchor, positive, negative) triplets of studies by their entities, as MedTrim does. "
        "Never two studies of one patient, never across splits; ties are broken at random by --seed and --epoch.",
    )
    parser.add_argument(
        "--entities", type=Path, required=True, help="JSON lines, as medvl ontology extract writes them"
    )
    parser.add_argument("--output", type=Path, required=True, help=f"Parquet file: {', '.join(COLUMNS)}")
    parser.add_argument(
        "--gamma", type=float, nargs=3, default=(0.85, 0.10, 0.05), metavar=("DISEASES", "ADJECTIVES", "DIRECTIONS"),
        help="weights of the score (.85 .10 .05)",
    )  # fmt: skip
    parser.add_argument("--symmetric", action="store_true", help="mean of the scores both ways round")
    parser.add_argument("--tau-min", type=float, default=0.25, help="least score of a negative (.25)")
    parser.add_argument("--tau-max", type=float, default=0.6, help="what its score stays below (.6)")
    parser.add_argument("--scope", choices=("dataset", "batch"), default="dataset", help="where to look (dataset)")
    parser.add_argument("--batch-size", type=int, default=32, help="studies in a batch, for --scope batch (32)")
    parser.add_argument(
        "--negatives", choices=("hardest", "random", "least"), default="hardest",
        help="the most similar in the range, any, or the least similar (hardest)",
    )  # fmt: skip
    parser.add_argument(
        "--fallback", choices=("skip", "below"), default="skip",
        help="without a negative in the range: no triplet, or the most similar below it (skip)",
    )  # fmt: skip
    parser.add_argument(
        "--gap", type=float, default=0.0, help="by how much a positive is more similar than its negative at least (0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (0)")
    parser.add_argument("--epoch", type=int, default=0, help="which re-mining: ties are drawn anew for each (0)")
    given = parser.parse_args(words)
    if given.output.suffix != ".parquet":
        raise ConfigError("triplets are written as Parquet", where=f"--output {given.output}", hint="name it *.parquet")
    if given.epoch < 0:
        raise ConfigError(f"--epoch is {given.epoch}", hint="expected 0 or more")

    from ontology.mining import Settings

    names = {field.name for field in dataclasses.fields(Settings)}
    chosen = {name: value for name, value in vars(given).items() if name in names}
    return _mine(given.entities, given.output, Settings(**chosen | {"gamma": tuple(given.gamma)}), given.epoch)


def _mine(entities: Path, output: Path, settings: Settings, epoch: int) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from ontology.mining import Miner
    from ontology.studies import read_studies

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading entities", total=None)
        studies = read_studies(entities)
        steps = 3 if settings.fallback == "below" else 2
        progress.update(task, description="mining triplets", total=steps * len(studies))
        found = Miner(studies, settings).mine(epoch, lambda served: progress.advance(task, served))
    _print(studies, found, settings)
    if not len(found):
        raise DataError(f"no triplet among {len(studies):,} studies", where=str(entities), hint=_why(studies, found))
    print(write_triplets(output, studies, found, settings, epoch))
    return 0


def write_triplets(path: Path, studies: Studies, found: Triplets, settings: Settings, epoch: int) -> Path:
    """Write triplets by the ids of their studies, whole or not at all; return `path`.

    The settings and the counts stand in the file's own metadata, under `medvl`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from medvl.io.atomic import replacing

    ids = pa.array(studies.ids)
    columns = [ids.take(pa.array(rows)) for rows in (found.anchor, found.positive, found.negative)]
    columns += [pa.array(scores) for scores in (found.positive_score, found.negative_score)]
    told = dataclasses.asdict(settings) | {"epoch": epoch, "counts": dict(found.counts)}
    table = pa.table(dict(zip(COLUMNS, columns, strict=True))).replace_schema_metadata({"medvl": json.dumps(told)})
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd")
    return path


def _print(studies: Studies, found: Triplets, settings: Settings) -> None:
    counts = found.counts
    splits = len(set(studies.splits.tolist()))
    normal = sum(not one for one in studies.profiles)
    print(
        f"{counts['studies']:,} studies, {normal:,} without a finding, {counts['distinct']:,} distinct, {splits} splits"
    )
    print(f"{len(found):,} triplets; anchors by case:")
    span = f"[{settings.tau_min:g}, {settings.tau_max:g})"
    cases = {
        "in range": f"negative in {span}",
        "below": f"none in {span}: the most similar below",
        "no negative": "no negative: no triplet",
        "no positive": "no study of another patient shares anything: no triplet",
    }
    for case, text in cases.items():
        print(f"  {counts[case]:>9,}  {text}")
    print(f"of the triplets, {counts['positive below tau_max']:,} have a positive below {settings.tau_max:g}", end=", ")
    print(f"{counts['equal scores']:,} a negative as similar as it")
    for name, use in found.reuse().items():
        print(f"{name}s: {use['studies']:,} studies, in {use['mean']:.2f} triplets each, {use['max']:,} at most")


def _why(studies: Studies, found: Triplets) -> str:
    """Return what is missing."""
    if len(studies) < 3 or len(set(studies.patients.tolist())) < 3:
        return "expected at least three studies, of different patients and of one split"
    if not any(studies.profiles):
        return "no study has a present finding; is this the output of medvl ontology extract?"
    if found.counts["distinct"] == 1:
        return "all studies have the same entities: there is no negative"
    return "try --fallback below, a smaller --tau-min or a larger --tau-max"
