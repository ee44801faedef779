"""Files that are whole or absent: written beside their final name, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

DRAFTS = ".*.tmp"  # what a killed writer leaves behind
ABANDONED = 3600  # seconds without a write, after which a draft is nobody's, whoever began it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a draft, which takes the place of `path` when the block ends well and vanishes otherwise.

    Whoever reads `path` meanwhile, or after a kill at any moment, sees the old file or the whole new one. Two writers
    at once need no lock: each has a draft of its own, and the later one stays. The folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name[:80]}.{_numbering()}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
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
    """Remove the drafts that killed writers left in `folder`, sparing those of one that may still run.

    A writer whose process is gone is known by the draft's name; of others, on another machine or in another container,
    nothing is known but when they wrote last.
    """
    for left in folder.glob(DRAFTS):
        with contextlib.suppress(OSError):
            if _orphaned(left.name) or time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def _orphaned(draft: str) -> bool:
    """Whether the process that began a draft runs no more, as far as its number tells."""
    *_, numbering, process = draft.rsplit(".", 4)[:3]
    if not numbering or numbering != _numbering():
        return False
    try:
        os.kill(int(process), 0)  # asks only
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


@functools.cache
def _numbering() -> str:
    """Return a name for what numbers processes here: a kernel since it was booted, and its container.

    Host names do not tell: they may be shared. Empty where there is no such name, which is everywhere but on Linux.
    """
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        return hashlib.sha256(kernel + os.readlink("/proc/self/ns/pid").encode()).hexdigest()[:12]
    except OSError:
        return ""
