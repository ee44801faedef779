"""Convert a data set's volumes once: in parallel, resumable, each whole or absent; what cannot be read is left out."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medvl.errors import MedvlError
from medvl.io.atomic import sweep, write_text
from medvl.io.dicom_series import dicom_files, list_series
from medvl.io.hounsfield import Rescale
from medvl.io.intensity import Units
from medvl.io.nifti import SUFFIXES, read_nifti
from medvl.io.npz import read_npz
from medvl.io.slab import SUFFIX, read_slab, slab_files
from medvl.io.volume import Volume, VolumeError
from medvl.io.volume_store import LAYOUT, VolumeStore, file_hash
from medvl.io.workers import Engine, cores, run_all


@dataclass(frozen=True)
class VolumeItem:
    """What to convert.

    Attributes:
        path: A NIfTI file, a folder of DICOM slices, a `.npz`, or the first PNG of a slab, relative to the root.
        rescale: Slope and intercept that a table declares (`medvl.io.hounsfield` decides whether they apply).
        affine: Of a `.npz` or slab, or what a table says in place of a NIfTI's own: four rows, `(i, j, k, 1)` to RAS.
        array: The name of the volume's array in a `.npz`.
        units: What the values of a NIfTI or of DICOM slices are to be (`medvl.io.intensity`).
    """

    path: str
    rescale: tuple[float, float] | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    array: str = ""
    units: Units = "hounsfield"


@dataclass(frozen=True)
class Outcome:
    """What became of one item.

    Attributes:
        path: As in `VolumeItem`.
        state: `written`, `kept` (converted before, unchanged since) or `failed` (some or all of it).
        volumes: Names of its volumes in the store.
        problems: Code and message of what could not be read; of several series in a folder, which one.
        notes: What was odd and mended, as in `Volume.notes`.
        read: Bytes of the source.
        wrote: Bytes of its volumes in the store.
    """

    path: str
    state: Literal["written", "kept", "failed"]
    volumes: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    read: int = 0
    wrote: int = 0


@dataclass(frozen=True)
class Summary:
    """What became of all items, in their order."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Items by state, `volumes`, then `problem/CODE` and `note/CODE`."""
        counts = dict(Counter(str(one.state) for one in self.outcomes))
        counts["volumes"] = sum(len(one.volumes) for one in self.outcomes)
        codes = Counter(f"problem/{code}" for one in self.outcomes for code, _ in one.problems)
        codes.update(f"note/{note.partition(':')[0]}" for one in self.outcomes for note in one.notes)
        return counts | dict(sorted(codes.items()))


def find_volumes(root: Path) -> list[VolumeItem]:
    """Return the NIfTI files below `root` and the folders that hold DICOM slices, by path.

    Links are not followed, and hidden files and folders not looked into.
    """
    found = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(folder)
        files = [name for name in names if not name.startswith(".") and not (here / name).is_symlink()]
        found += [(here / name).relative_to(root) for name in files if name.endswith(SUFFIXES)]
        if any(not name.endswith(SUFFIXES) for name in files) and next(dicom_files(here), None):
            found.append(here.relative_to(root))
    return [VolumeItem(path.as_posix()) for path in sorted(found)]


def convert_volumes(
    root: Path,
    items: Sequence[VolumeItem],
    folder: Path | None = None,
    workers: int | None = None,
    engine: Engine = "local",
) -> Summary:
    """Convert volumes into the store of `root`; what is there and unchanged stays as it is.

    Args:
        root: The data set's folder.
        items: What to convert; `find_volumes` finds all.
        folder: As in `VolumeStore`.
        workers: Processes on this machine; one per core by default.
        engine: `ray` spreads the items over a Ray cluster, whose machines all see `root` and the cache's folder.

    Raises:
        MedvlError: The store cannot be written.
        ConfigError: The cache would lie inside the data set, or ray is not installed.
    """
    store = VolumeStore(root, folder)
    sweep(store.folder)
    jobs = [(str(root), None if folder is None else str(folder), item) for item in items]
    # A volume takes as long as hundreds of pictures: processes pay from the second on.
    processes = cores() if workers is None else workers
    return Summary(run_all(convert_one, jobs, processes, "converting volumes", engine=engine))


def convert_one(root: str, folder: str | None, item: VolumeItem) -> Outcome:
    """Convert one item, unless it was converted before and neither it nor what is declared of it has changed."""
    store = VolumeStore(Path(root), None if folder is None else Path(folder))
    source = store.root / item.path
    try:
        stamp, size = _stamp(source, item)
    except OSError:
        return Outcome(item.path, "failed", problems=(("missing", "no such volume"),))
    if (record := _kept(store, item.path, stamp)) is not None:
        return _outcome(item.path, "kept", record["volumes"], (), size)
    entries: list[dict[str, Any]] = []
    problems: list[tuple[str, str]] = []
    try:
        for name, volume in read_item(source, item):
            if isinstance(volume, VolumeError):
                series = f"series {name.rpartition('#')[2]}: " if name != item.path else ""
                problems.append((volume.code, series + _told(volume, source)))
            else:
                entries.append(store.write(name, volume))
        if entries:
            record = {"layout": LAYOUT, "path": item.path, "stamp": stamp, "whole": not problems}
            record |= {"source_sha256": _source_hash(source), "volumes": entries}
            write_text(store.file(item.path, ".json"), [json.dumps(record)])
        else:
            store.file(item.path, ".json").unlink(missing_ok=True)  # of a source that was whole once
    except OSError as error:
        hint = "set MEDVL_CACHE to a folder with room that you may write to"
        what = f"cannot write the converted volumes: {error.strerror or type(error).__name__}"
        raise MedvlError(what, where=str(store.folder), hint=hint) from error
    return _outcome(item.path, "failed" if problems else "written", entries, tuple(problems), size)


def read_item(source: Path, item: VolumeItem) -> Iterator[tuple[str, Volume | VolumeError]]:
    """Yield the name of each volume of an item, and the volume or what is wrong with it."""
    if source.is_dir():
        try:
            found = list_series(source)
        except VolumeError as error:
            yield item.path, error
            return
        seen: Counter[str] = Counter()
        for series in found:
            name = item.path if len(found) == 1 else f"{item.path}#{'none' if series.number is None else series.number}"
            seen[name] += 1
            yield name if seen[name] == 1 else f"{name}.{seen[name]}", _tried(partial(series.load, item.units))
        return
    declared = [] if item.rescale is None else [Rescale(*item.rescale)]
    affine = None if item.affine is None else np.asarray(item.affine, np.float64)
    if source.suffix == SUFFIX and affine is not None and declared:
        yield item.path, _tried(partial(read_slab, source, affine, declared[0]))
    elif item.array and affine is not None:
        yield item.path, _tried(partial(read_npz, source, item.array, affine, declared))
    else:
        yield item.path, _tried(partial(read_nifti, source, declared, affine, item.units))


def _tried(load: Callable[[], Volume]) -> Volume | VolumeError:
    """Return the volume, or what is wrong with it: one file's damage must not end a long conversion."""
    try:
        return load()
    except VolumeError as error:
        return error
    except Exception as error:
        return VolumeError("unreadable", f"cannot be read ({type(error).__name__})")


def _told(error: VolumeError, source: Path) -> str:
    """Return the message of an error, with the slice's file where it names one."""
    hint = f" ({error.hint})" if error.hint else ""
    within = error.where and source.is_dir() and Path(error.where) != source
    return f"{error.what}{hint}" + (f": {Path(error.where or '').name}" if within else "")


def _stamp(source: Path, item: VolumeItem) -> tuple[str, int]:
    """Return a hash of the names, sizes and times of an item's files and of what is declared of it, and its bytes."""
    files = _files(source)
    states = [path.stat() for path in files]
    seen = [[path.name, state.st_size, state.st_mtime_ns] for path, state in zip(files, states, strict=True)]
    units = [] if item.units == "hounsfield" else [item.units]  # what was converted before there were others is kept
    text = json.dumps([seen, item.rescale, item.affine, item.array, *units])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest(), sum(state.st_size for state in states)


def _files(source: Path) -> list[Path]:
    """Return the files of an item."""
    if source.is_dir():
        return sorted(path for path in source.iterdir() if path.is_file())
    return (slab_files(source) if source.suffix == SUFFIX else []) or [source]


def _source_hash(source: Path) -> str:
    """Return the sha256 of a file, or of the hashes of a slab's or a folder's DICOM files in their order."""
    files = list(dicom_files(source)) if source.is_dir() else _files(source)
    if len(files) == 1 and not source.is_dir():
        return file_hash(source)
    return hashlib.sha256("".join(map(file_hash, files)).encode()).hexdigest()


def _kept(store: VolumeStore, path: str, stamp: str) -> dict[str, Any] | None:
    """Return the record of an item that needs no converting."""
    record = store.record(path)
    if record is None or record["stamp"] != stamp or not record["whole"]:
        return None
    sizes = [(store.folder / entry["file"], entry["bytes"]) for entry in record["volumes"]]
    return record if all(file.is_file() and file.stat().st_size == size for file, size in sizes) else None


def _outcome(
    path: str,
    state: Literal["written", "kept", "failed"],
    entries: Sequence[dict[str, Any]],
    problems: tuple[tuple[str, str], ...],
    size: int,
) -> Outcome:
    names = tuple(entry["name"] for entry in entries)
    notes = tuple(note for entry in entries for note in entry["notes"])
    return Outcome(path, state, names, problems, notes, size, sum(entry["bytes"] for entry in entries))
