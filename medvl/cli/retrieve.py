"""`medvl retrieve`: a study, a text or an image, what an alignment model finds near it, and why, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medvl.cli.plain import Parser
from medvl.errors import ConfigError

if TYPE_CHECKING:
    from argparse import Namespace

    from datamodules.reports import ReportData
    from medvl.cli.gallery import Embedder
    from medvl.cli.search import Query

WAYS = ("i2t", "i2i", "t2i", "t2t")


def run(words: list[str]) -> int:
    """Search, and write the page."""
    parser = _parser()
    if {"-h", "--help"} & set(words):
        parser.print_help()
        return 0
    given, rest = parser.parse_known_args(words)
    if foreign := [word for word in rest if word.startswith("-") and not word.startswith("--data.")]:
        parser.unknown(foreign[0])
    if sum(one is not None for one in (given.query, given.study, given.image)) != 1:
        raise ConfigError("what to search for?", hint="one of --query TEXT, --study ID and --image FILE")
    if given.k < 1 or given.query == "" or (given.query or "x").isspace():
        what = f"--k {given.k}" if given.k < 1 else "the query is empty"
        raise ConfigError(what, hint="expected at least one neighbour, and words to search for")

    from medvl.cli.gallery import Embedder, build_data, read_gallery
    from medvl.cli.quiet import quieten
    from medvl.cli.restore import restore
    from medvl.cli.search import Search, query_of
    from medvl.cli.why import Reader
    from medvl.io.image import WINDOW
    from medvl.viz.retrieved import write_page
    from tasks.alignment import AlignmentTask

    quieten()
    restored = restore(given.run, given.ckpt_path, given.runs, given.allow_import)
    if not isinstance(restored.model, AlignmentTask):
        raise ConfigError("this run's model aligns no images with texts", where=str(restored.run or given.ckpt_path))
    if restored.model.model.image_encoder.ndim != 2:
        hint = "its neighbours are in predictions/neighbours.jsonl after medvl test"
        raise ConfigError("a page of volumes cannot be drawn", where=str(restored.run or given.ckpt_path), hint=hint)
    reader = Reader(given.language)
    low, high = restored.data.get("window", WINDOW)
    data, embedder = build_data(restored.data, rest), Embedder(restored.model, (low, high), given.device)
    query = _query(given, embedder, data)  # before what takes long
    stored = Path(given.embeddings) if given.embeddings else None
    gallery = read_gallery(stored, data, given.split) if stored else embedder.gallery(data, given.split)
    search = Search(gallery, reader, query or query_of(gallery, given.study), data.root)
    wanted = [way for way in WAYS if way in (given.ways or WAYS)]
    ways = [way for way in wanted if way[0] in search.query.vectors and gallery.present[way[2]].any()]
    if not ways:
        raise ConfigError("the query, or the split, has nothing to search with", where=f"--ways {' '.join(wanted)}")
    rankings = [search.ranking(way, given.k) for way in ways]
    facts = f"{data.source.name} · {given.split} · {len(gallery.records):,} studies"
    path = _output(given.output, restored.run)
    print(f"{write_page(path, search.asked(), rankings, facts, search.notes(), (low, high))}  next: look at it")
    return 0


def _query(given: Namespace, embedder: Embedder, data: ReportData) -> Query | None:
    """Return the text or the image that is searched for."""
    from medvl.cli.search import Query

    if given.study is not None:
        return None
    if given.query is not None:
        return Query(given.query, given.query, {"t": embedder.text(given.query)})
    path = Path(given.image)
    return Query("An image", "", {"i": embedder.image(path, data.image_size)}, path)


def _output(named: str | None, run: Path | None) -> Path:
    """Return the page's file, in a folder that exists."""
    from medvl.cli.runs import new_run

    if named is None:
        return new_run((run or Path()) / "retrieval") / "neighbours.html"
    path = Path(named)
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError("--output is no page", where=named, hint="expected a file such as neighbours.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _parser() -> Parser:
    parser = Parser(
        prog="medvl retrieve",
        description="Search a split with an alignment model: a page with the nearest studies, and what they share.",
        epilog="--data.NAME VALUE searches other data than the run's, for example --data.source.root FOLDER.",
    )
    parser.add_argument("--query", help="a text to search with: 'small left pleural effusion'")
    parser.add_argument("--study", help="a study of the split to search with, by its id")
    parser.add_argument("--image", help="an image file to search with")
    parser.add_argument("--k", type=int, default=5, help="neighbours of each kind (5)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="image to text, ... (all that the query has)")
    parser.add_argument("--split", default="test", choices=("train", "val", "test", "all"), help="to search (test)")
    parser.add_argument("--embeddings", help="embeddings.parquet of the run, instead of embedding the split anew")
    parser.add_argument("--run", help="run folder of the model; latest for the newest")
    parser.add_argument("--ckpt_path", default="best", help="best, last or a file (best)")
    parser.add_argument("--runs", default="runs", help="folder that holds all runs (runs)")
    parser.add_argument("--output", help="the page (retrieval/TIME/neighbours.html in the run)")
    parser.add_argument("--language", default="en", help="of the lexicon, or the folder of one (en)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (an accelerator where there is one)")
    parser.add_argument("--allow-import", action="append", default=[], metavar="PACKAGE", help="open it to the model")
    return parser
