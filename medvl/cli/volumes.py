"""CT volumes in `medvl data`: into the chunks that training crops, and drawn with their snippets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from medvl.errors import DataError

if TYPE_CHECKING:
    from datamodules.records import VolumeRecord
    from datamodules.sources.volumes import VolumeSource
    from medvl.io.convert import Summary, VolumeItem
    from medvl.io.workers import Engine

FORMAT = "volumes"  # beside the sources' names: any folder of NIfTI files and DICOM series


def holds(class_path: str) -> bool:
    """Whether a source of `medvl data list` is one of volumes."""
    from datamodules.sources.volumes import VolumeSource

    module, _, name = class_path.rpartition(".")
    return issubclass(getattr(import_module(module), name), VolumeSource)


def convert(root: str, workers: int | None, engine: Engine, output: Path | None) -> int:
    """Convert the volumes below `root`; 1 if some could not be read."""
    from medvl.io.convert import find_volumes

    if not Path(root).is_dir():
        raise DataError("no such folder", where=root, hint="expected NIfTI files or DICOM series below it")
    if not (items := find_volumes(Path(root))):
        raise DataError("no volume below this folder", where=root, hint="expected .nii, .nii.gz or DICOM files")
    return _convert(Path(root), items, workers, engine, output)


def convert_source(source: VolumeSource, workers: int | None, engine: Engine, output: Path | None) -> int:
    """Convert the volumes of a data set's usable studies, with what its tables declare; 1 if some could not be read."""
    paths = list(dict.fromkeys(path for record in source.load().records for path in record.volumes))
    return _convert(source.root, source.items(paths), workers, engine, output)


def _convert(root: Path, items: Sequence[VolumeItem], workers: int | None, engine: Engine, output: Path | None) -> int:
    from medvl.io.convert import convert_volumes
    from medvl.io.volume_store import VolumeStore

    start = time.perf_counter()
    summary = convert_volumes(root, items, workers=workers, engine=engine)
    seconds = time.perf_counter() - start
    print_summary(summary, seconds, VolumeStore(root).folder)
    failed = [one for one in summary.outcomes if one.problems]
    if output:
        from datamodules.check import write_quarantine
        from datamodules.records import Problem

        problems = [Problem(code, one.path, text, True, one.path) for one in failed for code, text in one.problems]
        print(f"{output}: {write_quarantine(output, problems)} volumes to leave out")
    return int(bool(failed))


def print_summary(summary: Summary, seconds: float, folder: Path) -> None:
    """Print what became of the volumes, what was mended, and what is left out with its first place."""
    from rich.console import Console
    from rich.table import Table

    counts, outcomes = summary.counts, summary.outcomes
    read, wrote = (sum(sizes) / 1e6 for sizes in zip(*((one.read, one.wrote) for one in outcomes), strict=True))
    states = ", ".join(f"{counts[state]} {state}" for state in ("written", "kept", "failed") if state in counts)
    print(f"{counts['volumes']} volumes ({states}) in {seconds:.1f} s: {read:.1f} MB became {wrote:.1f} MB in {folder}")
    for code, count in Counter(note for one in outcomes for note in one.notes).most_common(10):
        print(f"  {count} x {code}")
    found = [(code, one.path, text) for one in outcomes for code, text in one.problems]
    if not found:
        return
    table = Table("problem", "volumes", "first at", "what")
    firsts = {code: (path, text) for code, path, text in reversed(found)}
    for code, count in Counter(code for code, _, _ in found).most_common():
        table.add_row(code, str(count), *firsts[code])
    Console().print(table)


def show(source: VolumeSource, records: Sequence[VolumeRecord], output: Path, n: int) -> int:
    """Draw the first volume of `n` studies, those with snippets first."""
    from medvl.io.convert import read_item
    from medvl.io.volume import VolumeError
    from medvl.viz.overlay import grid
    from medvl.viz.snippets import Band, study_panel

    panels = []
    for record in sorted(records, key=lambda record: not any(one.present for one in record.snippets))[:n]:
        (item,) = source.items(record.volumes[:1])
        _, volume = next(read_item(source.root / item.path, item))
        if isinstance(volume, VolumeError):
            raise volume
        bands = [
            Band(one.text, tuple((low, high) for low, high, _ in one.intervals))
            for one in record.snippets_of(item.path)
        ]
        panels.append(study_panel(volume, bands, record.study_id, record.impression or record.text))
    output.parent.mkdir(parents=True, exist_ok=True)
    grid(panels, columns=2, legend=False).save(output)
    print(output)
    return 0
