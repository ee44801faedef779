"""Image files below a dataset's folder: where they may lie, and what identifies them."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path, PurePosixPath

from medvl.errors import DataError

LINKED_OUT = "a symbolic link leaves the dataset's folder"


class OutsideError(DataError):
    """A path of a table leads out of the dataset's folder, or nowhere."""


def resolve_inside(root: Path, path: str, follow_links: bool = False) -> Path:
    """Return the file that `path` names below `root`.

    Raises:
        OutsideError: `path` is empty, absolute, a URL, climbs with `..`, or leaves `root` through a symbolic link
            (unless `follow_links`).
    """
    parts = PurePosixPath(path.replace("\\", "/"))
    if not parts.parts or "\0" in path:
        raise OutsideError("no usable path is given", where=str(root), hint="expected a path relative to this folder")
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:|[A-Za-z][\w+.-]*://", path):
        hint = "expected one relative to it, no '..' and no URL"
        raise OutsideError("a path leaves the dataset's folder", where=path, hint=hint)
    full = root / parts
    try:
        inside = follow_links or full.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # RuntimeError up to Python 3.12
        raise OutsideError("a symbolic link leads in a circle", where=path) from None
    if not inside:
        raise OutsideError(LINKED_OUT, where=path, hint="set follow_links: true to allow it")
    return full


def strays(root: Path, folder: Path) -> set[str]:
    """Return the names of what lies in a folder, if it is there, only because a symbolic link leaves `root`."""
    home = root.resolve()

    def away(path: Path) -> bool:
        try:
            return not path.resolve().is_relative_to(home)
        except (OSError, RuntimeError):  # a circle; RuntimeError up to Python 3.12
            return True

    if not folder.is_dir():
        return set()
    outside = away(folder)
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if outside or (entry.is_symlink() and away(Path(entry.path)))}


class ImageFolder:
    """The images below one folder: whether they are there, and what identifies their content cheaply.

    Args:
        root: The folder.
        follow_links: Whether symbolic links may leave it.
        series: Whether a folder counts as an image too: the slices of a DICOM series.
    """

    def __init__(self, root: Path, follow_links: bool = False, series: bool = False) -> None:
        self.root, self.follow_links, self.series = root, follow_links, series
        self._faults: dict[str, tuple[str, str] | None] = {}
        self._stamps: dict[str, tuple[int, int]] = {}

    def fault(self, path: str) -> tuple[str, str] | None:
        """Return code and message of why an image cannot be used, or None; nothing is decoded."""
        if path not in self._faults:
            self._faults[path] = self._look(path)
        return self._faults[path]

    def _look(self, path: str) -> tuple[str, str] | None:
        try:
            file = resolve_inside(self.root, path, self.follow_links)
            found = file.stat()
            if self.series and stat.S_ISDIR(found.st_mode) and not self.follow_links:
                self._guard_slices(file, path)
        except DataError as error:
            return "path-outside", f"{error.what}: {path}" + (f" ({error.hint})" if error.hint else "")
        except (OSError, ValueError):
            return "image-missing", f"the image is not there: {path}"
        if not stat.S_ISREG(found.st_mode) and not (self.series and stat.S_ISDIR(found.st_mode)):
            return "image-missing", f"this is no file: {path}"
        if not found.st_size:
            return "image-empty", f"the file is empty: {path}"
        self._stamps[path] = found.st_size, found.st_mtime_ns
        return None

    def _guard_slices(self, folder: Path, path: str) -> None:
        """Refuse a series with a slice that a link takes from elsewhere."""
        for name in sorted(strays(self.root, folder)):
            resolve_inside(self.root, f"{path}/{name}")

    def stamp(self) -> bytes:
        """Return path, size and time of every image that was found, in a fixed order."""
        return json.dumps(sorted(self._stamps.items())).encode()
