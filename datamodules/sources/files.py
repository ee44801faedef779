"""Image files below a dataset's folder: where they may lie, and what identifies them."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path, PurePosixPath

from medvl.errors import DataError


def resolve_inside(root: Path, path: str, follow_links: bool = False) -> Path:
    """Return the file that `path` names below `root`.

    Raises:
        DataError: `path` is empty, absolute, climbs with `..`, or leaves `root` through a symbolic link (unless
            `follow_links`).
    """
    parts = PurePosixPath(path.replace("\\", "/"))
    if not parts.parts or "\0" in path:
        raise DataError("no usable path is given", where=str(root), hint="expected a path relative to this folder")
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", path):
        raise DataError("a path leaves the dataset's folder", where=path, hint="expected one relative to it, no '..'")
    full = root / parts
    if not follow_links and not full.resolve().is_relative_to(root.resolve()):
        raise DataError(
            "a symbolic link leaves the dataset's folder", where=path, hint="set follow_links: true to allow it"
        )
    return full


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
            found = resolve_inside(self.root, path, self.follow_links).stat()
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

    def stamp(self) -> bytes:
        """Return path, size and time of every image that was found, in a fixed order."""
        return json.dumps(sorted(self._stamps.items())).encode()
