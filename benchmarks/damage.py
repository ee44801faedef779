"""What can befall the files of a data set: damages by name, each done at a place that chance picks.

Only what a reader can notice is here. What it cannot: a plausible number, word or split that is wrong, bytes of pixels
without a checksum (JPEG, plain DICOM) that decode all the same, two images or two texts that changed places, a table
cut between two rows, or in the last cell of one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Rng = np.random.Generator


@dataclass(frozen=True)
class Spot:
    """A table, and what its columns are for.

    Attributes:
        pattern: Its file below the root; the first that fits.
        roles: Columns by what they hold: `image`, `patient`, `study`, `split`, `text`, `boxes` (JSON), `sides` (numbers
            of a box, parted by blanks), `label` (a number) or `labels` (JSON).
        optional: Roles that a table of this format may lack, so that nobody can tell.
    """

    pattern: str
    roles: dict[str, str]
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of a data set lie below its root; glob patterns.

    Attributes:
        kind: Of its images: `png`, `jpeg`, `dicom` or `nifti`.
        images: The images.
        tables: The tables.
        documents: JSON files, JSON lines, XML and plain reports.
        shaped: Whether a file or table beside an image says how large it is, so that another shape is a fault.
        optional: Documents that may be missing, so that nobody can tell.
    """

    kind: str
    images: str
    tables: tuple[Spot, ...] = ()
    documents: tuple[str, ...] = ()
    shaped: bool = False
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patient:
    """The copy of a data set that a damage is done to.

    Attributes:
        root: Its folder. Files are hard links: `rewrite` parts them from the clean ones.
        anatomy: What lies where.
        used: The images that the clean data set trains on.
        rng: Picks places.
    """

    root: Path
    anatomy: Anatomy
    used: Sequence[Path]
    rng: Rng

    def image(self) -> Path:
        """Return some image that is used."""
        return self.root / self.used[int(self.rng.integers(len(self.used)))]

    def some(self, pattern: str) -> Path:
        """Return some file that fits."""
        found = sorted(path for path in self.root.glob(pattern) if path.is_file())
        return found[int(self.rng.integers(len(found)))]


def rewrite(path: Path, content: bytes) -> None:
    """Put new content in place of a file, which may be a link."""
    path.unlink()
    path.write_bytes(content)


Deed = Callable[[Patient, Path], None]
"""Damages a file."""


def cut(share: float) -> Deed:
    """Keep the first part of a file."""

    def deed(patient: Patient, path: Path) -> None:
        content = path.read_bytes()
        rewrite(path, content[: int(len(content) * share)])

    return deed


def _zeros(patient: Patient, path: Path) -> None:
    rewrite(path, bytes(path.stat().st_size))


def _noise(patient: Patient, path: Path) -> None:
    rewrite(path, patient.rng.bytes(path.stat().st_size))


def _page(patient: Patient, path: Path) -> None:
    rewrite(path, b"<!DOCTYPE html>\n<html><body>403 Forbidden, <b>sign in</b></body></html>\n")


def _folder(patient: Patient, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(patient: Patient, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def _loop(patient: Patient, path: Path) -> None:
    path.unlink()
    path.symlink_to(path)  # opening it fails for root too, as a file without permission does for others


def _outside(patient: Patient, path: Path) -> None:
    other = patient.root.parent / f"outside-{patient.root.name}"
    shutil.copyfile(path, other)
    path.unlink()
    path.symlink_to(other)


def _gone(patient: Patient, path: Path) -> None:
    path.unlink()


def _renamed(patient: Patient, path: Path) -> None:
    path.rename(path.with_name(path.name.upper() + ".part"))


def _pipe(patient: Patient, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _head(patient: Patient, path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = 128 if patient.anatomy.kind == "dicom" and path in map(patient.root.__truediv__, patient.used) else 0
    content[start : start + 8] = bytes(255 - byte for byte in content[start : start + 8])
    rewrite(path, bytes(content))


def _hole(patient: Patient, path: Path) -> None:
    content = bytearray(path.read_bytes())
    first = int(len(content) * patient.rng.uniform(0.3, 0.7))
    content[first : first + 64] = bytes(64)
    rewrite(path, bytes(content))


def _flip(patient: Patient, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * patient.rng.uniform(0.3, 0.7))] ^= 1 << int(patient.rng.integers(8))
    rewrite(path, bytes(content))


def _twice(patient: Patient, path: Path) -> None:
    rewrite(path, path.read_bytes() * 2)


ANY: dict[str, Deed] = {
    "empty": cut(0),
    "zeros": _zeros,
    "noise": _noise,
    "an error page": _page,
    "a folder in its place": _folder,
    "a dangling link": _dangling,
    "a link to itself": _loop,
    "gone": _gone,
    "renamed": _renamed,
    "its first bytes inverted": _head,
}
"""What can befall every file."""

IMAGE: dict[str, Deed] = ANY | {
    **{f"cut to {share:.0%}": cut(share) for share in (0.001, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)},
    "a link out of the folder": _outside,
    "a pipe": _pipe,
}
"""What can befall every image and volume."""

CHECKED: dict[str, Deed] = {"a hole of zeros": _hole, "one bit flipped": _flip}
"""What can befall images whose files hold a checksum: PNG and gzip."""

AGAIN: dict[str, Deed] = {"its bytes twice over": _twice}
"""What readers may take or refuse, but not misread."""


def damages(anatomy: Anatomy) -> dict[str, Callable[[Patient], None]]:
    """Return every damage that a data set of this form can take, by name."""
    from benchmarks.damage_pixels import PIXELS
    from benchmarks.damage_tables import document_damages, table_damages

    deeds = IMAGE | AGAIN | (CHECKED if anatomy.kind in ("png", "nifti") else {}) | PIXELS[anatomy.kind]
    if not anatomy.shaped:
        deeds = {name: deed for name, deed in deeds.items() if name != "another shape"}
    found: dict[str, Callable[[Patient], None]] = {f"image: {name}": _at_image(deed) for name, deed in deeds.items()}
    for spot in anatomy.tables:
        found |= table_damages(spot)
    for pattern in anatomy.documents:
        found |= document_damages(pattern, missing=pattern not in anatomy.optional)
    return found


def _at_image(deed: Deed) -> Callable[[Patient], None]:
    return lambda patient: deed(patient, patient.image())
