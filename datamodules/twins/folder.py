"""A folder that is whole or absent, and grey values that fit eight bits."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medvl.errors import DataError

MARKER = "twin.json"
EDITION = 1  # raise it whenever the same arguments write other pictures, sentences or tables than before
EDITIONS = {"ct-rate": 2, "padchest-gr": 2}  # of formats that changed alone: twins of the others stay as they are


@contextmanager
def twin_folder(folder: Path, arguments: dict[str, Any]) -> Iterator[Path | None]:
    """Yield an empty folder to write into, which takes its place when all is written; None when it is there already.

    Args:
        folder: Where the twin shall be.
        arguments: What made it; kept in `twin.json` with its edition, and compared with it on a repeated call.

    Raises:
        DataError: `folder` holds something else, were it the same twin as an older medvl drew it.
    """
    marker = {**arguments, "edition": EDITIONS.get(arguments.get("format", ""), EDITION)}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        _same_or_refuse(folder, marker)
        yield None
        return
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        (partial / MARKER).write_text(json.dumps(marker, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _same_or_refuse(folder: Path, marker: dict[str, Any]) -> None:
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found == marker:
        return
    if isinstance(found, dict) and found.get("edition") != marker["edition"]:
        raise DataError(
            "the folder holds a twin of another edition of medvl, which drew other pictures",
            where=str(folder),
            hint="nothing is overwritten",
            command=f"rm -r {shlex.quote(str(folder))}, then the same again",
        )
    what = "the folder is not empty" if found is None else "the folder holds a twin made with other arguments"
    raise DataError(what, where=str(folder), hint="name a new folder; nothing is overwritten")


def eight_bits(image: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return an image with its grey values spread over eight bits."""
    low, high = np.percentile(image, (0.5, 99.5))
    scaled: npt.NDArray[np.float64] = (image - low) * (255 / max(high - low, 1))
    return scaled.clip(0, 255).astype(np.uint8)
