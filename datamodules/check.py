"""Find everything that is wrong with a dataset before training does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.leaks import Guard, held_out_problems
from datamodules.records import AnyRecord, PhraseRecord, Problem, leaks
from datamodules.sources.base import Source
from datamodules.sources.files import resolve_inside
from datamodules.sources.volumes import VolumeSource
from medvl.errors import DataError
from medvl.io.atomic import write_text
from medvl.io.workers import run_all
from medvl.text.untrusted import parse_json

if TYPE_CHECKING:
    from medvl.io.convert import VolumeItem

_PROBE_SIZE = 64  # side to decode to: every byte is still read, the resampling costs nothing


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        problems: Everything wrong, fatal or not, in the order of the tables.
        counts: The source's `inventory` and one per split, of the usable rows, then `problem/CODE` per kind of problem.
    """

    problems: list[Problem]
    counts: dict[str, int]

    @property
    def fatal(self) -> list[Problem]:
        """The problems that make a row unusable."""
        return [problem for problem in self.problems if problem.fatal]


def check_source(
    source: Source[AnyRecord],
    decode: bool = True,
    max_boxes: int | None = None,
    workers: int | None = None,
    guards: Sequence[Guard] = (),
) -> Report:
    """Read a source's tables, compare them with themselves, and decode every image.

    Args:
        source: What to check.
        decode: Whether to decode the images (finds truncated ones and files that are no image).
        max_boxes: Number of queries; sentences with more boxes are counted as `too-many-boxes`.
        workers: Processes that decode; one per core by default, 0 for none.
        guards: What is evaluated on elsewhere: its patients may not be in train (`datamodules.leaks`).

    Raises:
        DataError: The tables cannot be read at all.
    """
    loaded = source.read()
    problems = loaded.problems + leaks(loaded.records)
    problems += held_out_problems(source, loaded.records, [*source.guards, *guards])
    if decode:
        broken = _undecodable(source, sorted({path for record in loaded.records for path in record.paths}), workers)
        problems += [
            Problem("image-unreadable", record.row, broken[path], record.without(broken) is None, path)
            for record in loaded.records
            for path in record.paths
            if path in broken
        ]
    if max_boxes is not None:
        problems += _crowded(loaded.records, max_boxes)
    lost = {problem.where for problem in problems if problem.fatal}
    return Report(problems, _counts(source, [r for r in loaded.records if r.row not in lost], problems))


def _crowded(records: Iterable[object], most: int) -> list[Problem]:
    return [
        Problem("too-many-boxes", r.row, f"{len(r.boxes)} boxes, but the model has {most} queries", fatal=False)
        for r in records
        if isinstance(r, PhraseRecord) and len(r.boxes) > most
    ]


def _counts(source: Source[AnyRecord], records: Sequence[AnyRecord], problems: Sequence[Problem]) -> dict[str, int]:
    counts = source.inventory(records)
    counts |= sorted(Counter(record.split for record in records).items())
    return counts | {f"problem/{code}": n for code, n in sorted(Counter(p.code for p in problems).items())}


def _undecodable(source: Source[AnyRecord], paths: Sequence[str], workers: int | None) -> dict[str, str]:
    """Return why, for each image or volume that does not decode."""
    if isinstance(source, VolumeSource):
        faults = run_all(
            _unpack, [(str(source.root), item) for item in source.items(paths)], workers, "reading volumes"
        )
    else:
        jobs = [(str(source.root), path, source.follow_links) for path in paths]
        faults = run_all(_decode, jobs, workers, "decoding images")
    return {path: fault for path, fault in zip(paths, faults, strict=True) if fault}


def _decode(root: str, path: str, follow_links: bool) -> str:
    """Decode one image; return why it failed, or ''."""
    from medvl.io.image import read_radiograph

    try:
        read_radiograph(resolve_inside(Path(root), path, follow_links), size=_PROBE_SIZE)
    except DataError as error:
        return f"{error.what}: {path}"
    return ""


def _unpack(root: str, item: VolumeItem) -> str:
    """Read one volume; return why it failed, or ''."""
    from medvl.io.convert import read_item
    from medvl.io.volume import VolumeError

    return "; ".join(
        f"{found.what}: {item.path}"
        for _, found in read_item(Path(root) / item.path, item)
        if isinstance(found, VolumeError)
    )


@dataclass(frozen=True)
class Quarantine:
    """Rows and images to leave out.

    Attributes:
        rows: Where they stand, as `PhraseRecord.row`.
        paths: Images, as `PhraseRecord.path`; every row of such an image is left out.
    """

    rows: frozenset[str]
    paths: frozenset[str]


def write_quarantine(path: str | Path, problems: Iterable[Problem]) -> int:
    """Write the fatal problems as JSON lines of `path`, `row`, `code`, `message`, atomically.

    Returns:
        How many lines were written.
    """
    fatal = [problem for problem in problems if problem.fatal]
    lines = [{"path": p.path or None, "row": p.where, "code": p.code, "message": p.message} for p in fatal]
    write_text(Path(path), (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines)


def read_quarantine(path: str | Path) -> Quarantine:
    """Read what `write_quarantine` wrote.

    Raises:
        DataError: The file is missing, or a line of it is not such a line; names it.
    """
    rows, paths = set(), set()
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(
            "the quarantine list cannot be read",
            where=str(path),
            command="medvl data check FORMAT FOLDER --output FILE, which writes one",
        ) from None
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            entry = parse_json(line)
            rows.add(str(entry["row"]))
            paths |= {str(entry["path"])} if entry.get("path") else set()
        except (JSONDecodeError, KeyError, TypeError, AttributeError):
            raise DataError(
                "this is no line of a quarantine list",
                where=f"{path}:{number}",
                hint='expected {"path": ..., "row": ..., "code": ..., "message": ...}',
            ) from None
    return Quarantine(frozenset(rows), frozenset(paths))
