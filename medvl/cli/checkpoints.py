"""Checkpoint files: each has a checksum beside it, and `last` a predecessor that can stand in for it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from medvl.io.atomic import write_text

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
STAND_INS = {LAST: (PREVIOUS, BEST), BEST: (LAST, PREVIOUS)}


def sidecar(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's checksum."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sidecar(checkpoint: Path, digest: str) -> None:
    """Write a checkpoint's checksum beside it, as `sha256sum --check` reads it."""
    write_text(sidecar(checkpoint), [f"{digest}  {checkpoint.name}\n"])


def noted(checkpoint: Path) -> str | None:
    """Return the checksum that stands beside a checkpoint, None where there is none."""
    words = sidecar(checkpoint).read_text(encoding="utf-8").split() if sidecar(checkpoint).is_file() else []
    return words[0] if words else None


def intact(checkpoint: Path) -> bool:
    """Tell whether a checkpoint is as it was written: by its checksum, or without one by those within the archive."""
    if digest := noted(checkpoint):
        return digest == checksum(checkpoint)
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return False


def stand_in(checkpoint: Path) -> Path | None:
    """Return the newest whole checkpoint that can take the place of a damaged or missing `last` or `best`."""
    others = (checkpoint.with_name(name) for name in STAND_INS.get(checkpoint.name, ()))
    return next((other for other in others if other.is_file() and intact(other)), None)


def keep_predecessor(last: Path) -> None:
    """Let `previous.ckpt` be what `last.ckpt` is, for that is about to be replaced; one of them is always whole."""
    previous, digest = last.with_name(PREVIOUS), noted(last)
    sidecar(previous).unlink(missing_ok=True)
    link = last.with_name(f".{PREVIOUS}.{os.getpid()}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(last, link)  # no byte is copied
        os.replace(link, previous)
    except OSError:  # a file system without hard links
        os.replace(last, previous)
    if digest:
        write_sidecar(previous, digest)
