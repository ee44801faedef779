"""Volumes kept as chunks of int16, written once and cropped ever after; beside each source file its record in JSON.

Chunks are compressed by zstd after the two bytes of each voxel are parted and differences taken, which leaves a CT
smaller than gzip does (on real ones .73 to .81 of it) and unpacks a GB a second. The record names size, time and
sha256 of what was read and the sha256 of what was written. It is written last: a volume without one does not exist.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import blosc2
import numpy as np
from numpy.typing import NDArray

from medvl.errors import DataError
from medvl.io.atomic import replacing
from medvl.io.cache import outside
from medvl.io.hounsfield import BLACK
from medvl.io.sidecar import Sidecar
from medvl.io.volume import Affine, DepthAxis, Volume, depth_of, spacing_of

LAYOUT = "medvl-volume-1"  # part of the folder's name, so what an older layout wrote is left alone
CHUNK, BLOCK = (32, 128, 128), (8, 64, 64)  # voxels (D, H, W): read at once from disk; unpacked at once
_CODING: dict[str, Any] = {
    "codec": blosc2.Codec.ZSTD,
    "clevel": 1,  # 5 saves 0.5 % more and takes seven times longer to write
    "filters": [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA],
    "filters_meta": [0, 2],
    "typesize": 2,
    "nthreads": 1,
}


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """One volume on disk; holds no open file, so it travels to data workers.

    Attributes:
        file: The chunks.
        shape: `(D, H, W)`.
        affine: `(4, 4)` from `(w, h, d, 1)` to RAS mm.
        sidecar: The slices as they were stored.
        notes: As in `Volume`.
        sha256: Of `file`.
    """

    file: Path
    shape: tuple[int, int, int]
    affine: Affine
    sidecar: Sidecar
    notes: tuple[str, ...]
    sha256: str

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along `(D, H, W)`."""
        return spacing_of(self.affine)

    @property
    def depth(self) -> DepthAxis:
        """The depths of its slices."""
        return depth_of(self.affine, self.shape)

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[np.int16]:
        """Return the voxels from `start` to `stop` `(D, H, W)` in HU; beyond the volume there is air (-1024).

        Raises:
            DataError: The file is missing or damaged.
        """
        inside = [
            (min(max(a, 0), size), max(min(b, size), 0)) for a, b, size in zip(start, stop, self.shape, strict=True)
        ]
        found = self._read(tuple(slice(a, max(a, b)) for a, b in inside))
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        if found.shape == shape:
            return found
        out = np.full(shape, BLACK, np.int16)
        places = tuple(slice(a - s, a - s + n) for (a, _), s, n in zip(inside, start, found.shape, strict=True))
        if found.size:
            out[places] = found
        return out

    def whole(self) -> NDArray[np.int16]:
        """Return all voxels; errors as in `crop`."""
        return self._read((slice(None),) * 3)

    def load(self) -> Volume:
        """Return it as the reader gave it; errors as in `crop`."""
        return Volume(self.whole(), self.affine, self.sidecar, self.notes)

    def verify(self) -> None:
        """Compare the file's bytes with their hash.

        Raises:
            DataError: They differ.
        """
        if not self.file.is_file() or file_hash(self.file) != self.sha256:
            raise self._damaged()

    def _read(self, window: tuple[slice, ...]) -> NDArray[np.int16]:
        mapped = {} if os.name == "nt" else {"mmap_mode": "r"}  # blosc2 maps no files there
        try:
            array = blosc2.open(str(self.file), mode="r", dparams={"nthreads": 1}, **mapped)
            return cast(NDArray[np.int16], array[window])
        except Exception:  # blosc2 raises RuntimeError, ValueError and more for damaged bytes
            raise self._damaged() from None

    def _damaged(self) -> DataError:
        hint = "remove it and convert the data set again: only this one is written anew"
        return DataError("a converted volume is missing or damaged", where=str(self.file), hint=hint)


class VolumeStore:
    """The converted volumes of one data set, by the path of their source relative to its root.

    A folder that holds one DICOM series is named by its path; where it holds several, each is `path#SeriesNumber`.

    Args:
        root: The data set's folder; nothing is written to it.
        folder: Where caches live; `$MEDVL_CACHE` or the platform's folder by default.

    Raises:
        ConfigError: The cache would lie inside the data set.
    """

    def __init__(self, root: str | Path, folder: Path | None = None) -> None:
        self.root = Path(root)
        key = hashlib.sha256(json.dumps([LAYOUT, str(self.root.resolve())]).encode()).hexdigest()[:16]
        self.folder = outside(self.root, folder) / "volumes" / key

    def __getitem__(self, name: str) -> StoredVolume:
        """Return a volume.

        Raises:
            DataError: It was not converted, or could not be.
        """
        record = self.record(str(name).partition("#")[0])
        for entry in record["volumes"] if record else ():
            if entry["name"] == str(name):
                return self._stored(entry)
        raise DataError(
            "this volume is not converted", where=str(name), hint="medvl data convert names what it left out"
        )

    def __contains__(self, name: object) -> bool:
        record = self.record(str(name).partition("#")[0])
        return record is not None and any(entry["name"] == str(name) for entry in record["volumes"])

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the volumes, sorted."""
        records = [_loaded(path) for path in self.folder.glob("*.json")]
        yield from sorted(entry["name"] for record in records if record for entry in record["volumes"])

    def record(self, path: str) -> dict[str, Any] | None:
        """Return the record of one source file or folder; None where it was not converted."""
        return _loaded(self.file(path, ".json"))

    def file(self, name: str, suffix: str) -> Path:
        """Return where something lies; names are hashed, for paths may hold patients' names."""
        return self.folder / (hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:24] + suffix)

    def write(self, name: str, volume: Volume) -> dict[str, Any]:
        """Write the chunks of one volume; return its entry for the record."""
        file = self.file(name, ".b2nd")
        shape = volume.hu.shape
        chunks = tuple(map(min, CHUNK, shape))
        with replacing(file) as draft:
            blosc2.asarray(
                volume.hu,
                urlpath=str(draft),
                mode="w",
                chunks=chunks,
                blocks=tuple(map(min, BLOCK, chunks)),
                cparams=_CODING,
            )
        return {
            "name": name,
            "file": file.name,
            "bytes": file.stat().st_size,
            "sha256": file_hash(file),
            "shape": list(shape),
            "affine": volume.affine.tolist(),
            "notes": list(volume.notes),
            "sidecar": volume.sidecar.as_dict(),
        }

    def _stored(self, entry: dict[str, Any]) -> StoredVolume:
        depth, height, width = entry["shape"]
        return StoredVolume(
            self.folder / entry["file"],
            (depth, height, width),
            np.asarray(entry["affine"], np.float64),
            Sidecar.from_dict(entry["sidecar"]),
            tuple(entry["notes"]),
            entry["sha256"],
        )


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _loaded(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("layout") == LAYOUT else None
