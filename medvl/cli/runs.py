"""Run folders: `runs/<task>/<name>/<time>/`, and which checkpoint `best` or `last` means."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import datetime
from pathlib import Path

from medvl.errors import CheckpointError

CHECKPOINTS = "checkpoints"
STAMP = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-(\d+))?$")


def new_run(root: Path, task: str, name: str) -> Path:
    """Make a run folder that no other run has, and point `latest` at it."""
    parent = root / task / name
    parent.mkdir(parents=True, exist_ok=True)
    folder = make_free(parent, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    link = parent / f".latest-{os.getpid()}"
    try:
        link.symlink_to(folder.name)
        os.replace(link, parent / "latest")
    except OSError:  # a file system without links, or a folder of that name: the link is a convenience only
        link.unlink(missing_ok=True)
    return folder


def make_free(parent: Path, stem: str) -> Path:
    """Make `parent/stem`, or `parent/stem-2`, `-3`, ... when it is taken; `mkdir` decides between two processes."""
    count = 1
    while True:
        folder = parent / (stem if count == 1 else f"{stem}-{count}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            count += 1


def free_file(folder: Path, stem: str, suffix: str) -> Path:
    """Return `folder/stem.suffix`, numbered from 2 when it is taken."""
    path, count = folder / f"{stem}{suffix}", 2
    while path.exists():
        path, count = folder / f"{stem}-{count}{suffix}", count + 1
    return path


def runs_of(root: Path, task: str, name: str) -> list[Path]:
    """Return the run folders of one task and name, newest first."""
    parent = root / task / name
    found = {path: STAMP.fullmatch(path.name) for path in parent.iterdir()} if parent.is_dir() else {}
    stamps = {path: (match[1], int(match[2] or 1)) for path, match in found.items() if match}
    return sorted(stamps, key=lambda path: stamps[path], reverse=True)


def newest_trained(root: Path, task: str, name: str) -> Path | None:
    """Return the newest run folder of one task and name that holds a checkpoint."""
    return next((run for run in runs_of(root, task, name) if any(run.glob(f"{CHECKPOINTS}/*.ckpt"))), None)


def run_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, None when it lies elsewhere."""
    folder = checkpoint.resolve().parent.parent
    return folder if checkpoint.resolve().parent.name == CHECKPOINTS and (folder / "fit.yaml").is_file() else None


def named_checkpoint(run: Path, name: str) -> tuple[Path, str | None]:
    """Find `best` or `last` in a run folder.

    Returns:
        The file, and a warning when another one had to stand in because the one asked for is damaged.

    Raises:
        CheckpointError: The run has no such checkpoint, or no whole one.
    """
    wanted = run / CHECKPOINTS / f"{name}.ckpt"
    if not wanted.is_file():
        have = sorted(path.stem for path in (run / CHECKPOINTS).glob("*.ckpt"))
        raise CheckpointError(
            f"this run has no checkpoint {name!r}",
            where=str(wanted),
            hint=f"it has {', '.join(have)}: --ckpt_path {have[0]}" if have else "it ended before its first checkpoint",
        )
    if intact(wanted):
        return wanted, None
    other = wanted.with_name("best.ckpt" if name == "last" else "last.ckpt")
    if other.is_file() and intact(other):
        return other, f"{wanted} is damaged (its checksum differs): {other.name} stands in for it"
    raise CheckpointError("the checkpoint is damaged (its checksum differs)", where=str(wanted))


def sidecar(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's checksum."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def intact(checkpoint: Path) -> bool:
    """Tell whether a checkpoint matches its checksum; one without a checksum passes."""
    note = sidecar(checkpoint)
    return not note.is_file() or note.read_text().split()[0] == checksum(checkpoint)
