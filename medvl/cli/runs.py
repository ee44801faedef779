"""Run folders: `runs/<task>/<name>/<time>/`, and which checkpoint `best` or `last` means."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from datetime import datetime
from pathlib import Path

from medvl.cli.checkpoints import intact, sidecar, stand_in
from medvl.errors import CheckpointError, ConfigError

CHECKPOINTS, LATEST = "checkpoints", "latest"
STAMP = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-(\d+))?$")


def new_run(parent: Path) -> Path:
    """Make a folder `parent/<time>` that no other run has."""
    parent.mkdir(parents=True, exist_ok=True)
    return make_free(parent, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))


def point_latest(folder: Path) -> None:
    """Let the link `latest` beside a run folder name it."""
    link = folder.with_name(f".latest-{os.getpid()}")
    try:
        link.symlink_to(folder.name)
        os.replace(link, folder.with_name(LATEST))
    except OSError:  # a file system without links, or a folder of that name: the link is a convenience only
        link.unlink(missing_ok=True)


def discard_unbegun(folder: Path) -> None:
    """Remove a run folder that this process made, if the run never began; and those made for it above."""
    if any(folder.glob("*.yaml")):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for above in list(folder.parents)[: 3 if STAMP.fullmatch(folder.name) else 0]:
        with contextlib.suppress(OSError):  # it holds something
            above.rmdir()


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


def empty_folder(folder: Path) -> Path:
    """Make `folder`, which may exist but hold nothing.

    Raises:
        ConfigError: It holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("this folder is not empty", where=str(folder), command="--ckpt_path last goes on in a run")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def output_folder(output: str | None, run: Path | None, kind: str) -> Path:
    """Return the folder to write to, which holds nothing yet: `output`, else `kind/<time>` in the run.

    Raises:
        ConfigError: There is something already.
    """
    folder = Path(output) if output else new_run((run or Path()) / kind)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("there is something already", where=str(folder), hint="--output names a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_newest(path: Path, text: str) -> None:
    """Write `fit.yaml`; what it held before, if anything else, becomes `fit-1.yaml`, `fit-2.yaml`, ..."""
    count = 1
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        while (older := path.with_stem(f"{path.stem}-{count}")).exists():
            count += 1
        path.rename(older)
    path.write_text(text, encoding="utf-8")


def runs_of(parent: Path, pattern: str = "*") -> list[Path]:
    """Return the run folders `<time>` among what `pattern` finds below `parent`, newest first."""
    found = {path: STAMP.fullmatch(path.name) for path in parent.glob(pattern)}
    stamps = {path: (match[1], int(match[2] or 1)) for path, match in found.items() if match}
    return sorted(stamps, key=lambda path: stamps[path], reverse=True)


def newest_trained(parent: Path, pattern: str = "*") -> Path | None:
    """Return the newest of `runs_of` that holds a checkpoint."""
    return next((run for run in runs_of(parent, pattern) if any(run.glob(f"{CHECKPOINTS}/*.ckpt"))), None)


def named_run(named: str | None, parent: Path) -> Path | None:
    """Return the run folder that `--run` names; `latest` is the newest one below `parent` that holds a checkpoint.

    Raises:
        CheckpointError: There is no such run.
    """
    if named != LATEST or Path(named).exists():
        return Path(named) if named else None
    run = newest_trained(parent)
    if run is None:
        raise CheckpointError("no run has a checkpoint yet", where=str(parent), command="medvl fit")
    return run


def no_checkpoint(command: str, parent: Path) -> CheckpointError:
    """Return the refusal to `command` random weights, with what to do instead."""
    run = newest_trained(parent)
    hint = (
        f"the newest run is {run}: --ckpt_path best" if run else f"no run in {parent} has one yet: medvl fit makes it"
    )
    return CheckpointError(
        f"{command} needs a checkpoint", hint=hint, command="--untrained true permits random weights"
    )


def find_checkpoint(named: str, run: Path | None, parent: Path) -> Path:
    """Return the file that `best`, `last` or a path names.

    Args:
        named: `best`, `last` or a file.
        run: The run folder to look in; the newest trained one below `parent` when None.
        parent: Folder of the runs of this task and name.

    Raises:
        CheckpointError: There is none, or none that is whole.
    """
    if named not in ("best", "last"):
        if not Path(named).is_file():
            raise CheckpointError("no such checkpoint", where=named, hint="expected best, last or a file")
        return Path(named)
    run = run or newest_trained(parent)
    if run is None:
        raise CheckpointError(f"no run has a checkpoint {named!r}", where=str(parent), command="medvl fit")
    path, warning = named_checkpoint(run, named)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    return path


def find_start(named: str) -> Path:
    """Return the file whose weights to start from: a checkpoint, or the best one of a run folder.

    Raises:
        CheckpointError: There is none, or none that is whole.
    """
    if Path(named).is_dir():
        return find_checkpoint("best", Path(named), Path())
    path = Path(named)
    if not path.is_file() or (sidecar(path).is_file() and not intact(path)):
        what = "the checkpoint is damaged (its checksum differs)" if path.is_file() else "no such checkpoint"
        raise CheckpointError(what, where=named, hint="--init_from expects a run folder or a checkpoint")
    return path


def run_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, None when it lies elsewhere."""
    inside = checkpoint.parent.name == CHECKPOINTS and (checkpoint.parent.parent / "fit.yaml").is_file()
    return tidy(checkpoint.parent.parent) if inside else None


def tidy(folder: Path) -> Path:
    """Return a folder without links on the way, relative to where we stand if it lies below."""
    real = folder.resolve()
    return real.relative_to(Path.cwd()) if real.is_relative_to(Path.cwd()) else real


def named_checkpoint(run: Path, name: str) -> tuple[Path, str | None]:
    """Find `best` or `last` in a run folder.

    Returns:
        The file, and a warning when another one had to stand in because the one asked for is damaged.

    Raises:
        CheckpointError: The run has no such checkpoint, or no whole one.
    """
    wanted = run / CHECKPOINTS / f"{name}.ckpt"
    if wanted.is_file() and intact(wanted):
        return wanted, None
    other = stand_in(wanted)
    if other and (wanted.is_file() or name == "last"):
        fault = "is damaged (its checksum differs)" if wanted.is_file() else "is missing"
        return other, f"{wanted} {fault}: {other.name} stands in for it"
    if not wanted.is_file():
        have = sorted(path.stem for path in (run / CHECKPOINTS).glob("*.ckpt"))
        other = newest_trained(run.resolve().parent)
        ended = "it ended before its first checkpoint" + (
            f"; the newest with one: --run {tidy(other)}" if other else ""
        )
        raise CheckpointError(
            f"this run has no checkpoint {name!r}",
            where=str(wanted),
            hint=f"it has {', '.join(have)}: --ckpt_path {have[0]}" if have else ended,
        )
    raise CheckpointError("the checkpoint is damaged (its checksum differs)", where=str(wanted))
