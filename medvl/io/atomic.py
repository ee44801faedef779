"""Files that are whole or absent: written beside their final name, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

DRAFTS = ".*.tmp"  # what a killed writer leaves behind
ABANDONED = 3600  # seconds without a write, after which a draft is nobody's


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a draft, which takes the place of `path` when the block ends well and vanishes otherwise.

    Whoever reads `path` meanwhile, or after a kill at any moment, sees the old file or the whole new one. Two writers
    at once need no lock: each has a draft of its own, and the later one stays. The folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex}.tmp")
    try:
        yield draft
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, so that a rename in it outlasts a power cut; where folders can be opened."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_text(path: Path, parts: Iterable[str]) -> Path:
    """Write the parts one after another as UTF-8, whole or not at all; return `path`."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.writelines(parts)
    return path


def sweep(folder: Path) -> None:
    """Remove the drafts that killed writers left in `folder`, sparing those of one that may still run."""
    for left in folder.glob(DRAFTS):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()
