"""Folders of masks, a NIfTI per structure, as the depths that each structure covers; measured once, then kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.sources.files import LINKED_OUT, strays
from datamodules.sources.rex_masks import runs_of
from medvl.io.atomic import write_text
from medvl.io.cache import outside
from medvl.io.workers import run_all

Depths = list[tuple[float, float]]
SCAN = "/scan"  # the depths that the masks themselves reach over; no structure is called so
_SUFFIX = ".nii.gz"
_KEPT = "organ-masks-1"  # part of the cache's folder: what an older version measured is left alone
_SPECK = 0.1  # share of the longest stretch, below which another one is taken for noise of the segmentation


def measure_folders(
    root: Path, folders: Sequence[Path], workers: int | None, follow_links: bool = False
) -> list[dict[str, Depths | str]]:
    """Return the depths in mm of each structure, or what is wrong with its mask, for each folder of masks.

    Args:
        root: The data set, beside which nothing is written.
        folders: With `<structure>.nii.gz`; one that is not there has no structure.
        workers: Processes; one per core by default, 0 for none.
        follow_links: Whether symbolic links may leave `root`.

    Returns:
        By structure, an empty list where the mask is empty; `SCAN` holds the depths of the masks' grid.
    """
    cache, home = outside(root, None) / _KEPT, "" if follow_links else str(root)
    return run_all(measured, [(str(folder), str(cache), home) for folder in folders], workers, "measuring masks")


def measured(folder: str, cache: str, root: str = "") -> dict[str, Depths | str]:
    """Measure one folder, unless its masks are those that were measured before; none outside of `root` is read."""
    away = strays(Path(root), Path(folder)) if root else set()
    masks = sorted(path for path in Path(folder).glob(f"*{_SUFFIX}") if path.name not in away)
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in masks]
    key = hashlib.sha256(json.dumps([folder, states]).encode(errors="surrogateescape")).hexdigest()[:24]
    kept = Path(cache) / f"{key}.json"
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = _measure(masks)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, [json.dumps(found)])
    linked = [name.removesuffix(_SUFFIX) for name in away if name.endswith(_SUFFIX)]
    depths: dict[str, Depths | str] = {name: LINKED_OUT for name in linked}
    for name, told in found.items():
        depths[name] = told if isinstance(told, str) else [(low, high) for low, high in told]
    return depths


def _measure(masks: Sequence[Path]) -> dict[str, Depths | str]:
    from medvl.io.nifti import read_labels
    from medvl.io.volume import VolumeError, depth_of

    found: dict[str, Depths | str] = {}
    for path in masks:
        name = path.name.removesuffix(_SUFFIX)
        try:
            labels, affine = read_labels(path)
        except VolumeError as error:
            found[name] = error.what
            continue
        depth = depth_of(affine, labels.shape)
        shown = np.asarray((labels != 0).any((1, 2)))
        runs = runs_of(shown)
        longest = max((stop - start for start, stop in runs), default=0)
        found[name] = [
            (round(depth.z(start - 0.5), 3), round(depth.z(stop - 0.5), 3))
            for start, stop in runs
            if stop - start >= _SPECK * longest
        ]
        found.setdefault(SCAN, [(round(depth.z(-0.5), 3), round(depth.z(depth.count - 0.5), 3))])
    return found
