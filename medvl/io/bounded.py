"""What is packed, unpacked up to a limit: a few kilobytes can stand for a terabyte ("decompression bombs")."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import Any

SMALL = 64 << 20  # bytes that anything may unpack to
LARGE = 4 << 30  # bytes that nothing may, and that no table read whole may have
RATIO = 200  # times that tables and reports shrink at most; real ones 3 to 30 times, bombs a thousand times
_CHUNK = 1 << 20


class BombError(OSError):
    """A file unpacks to more than any honest one would."""


def limit_of(packed: int) -> int:
    """Return how many bytes may come out of so many."""
    return min(LARGE, max(SMALL, RATIO * packed))


class BoundedGzip(gzip.GzipFile):
    """A gzip file to read, which raises `BombError` once more has come out of it than `limit_of` its size.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._left = limit_of(path.stat().st_size)
        super().__init__(path, "rb")

    def read1(self, size: int | None = -1) -> bytes:
        """Read as `GzipFile` does; text wrappers read through this."""
        return self._counted(super().read1(_CHUNK if size is None or size < 0 else size))

    def read(self, size: int | None = -1) -> bytes:
        """Read as `GzipFile` does, but nothing beyond the limit."""
        asked = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        return self._counted(super().read(asked))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise BombError("it unpacks to more than any honest table does")
        return data


def read_gzip(path: Path) -> bytes:
    """Return what a gzip file unpacks to.

    Raises:
        BombError: It is too much.
    """
    with BoundedGzip(path) as file:
        return file.read()


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo | str) -> bytes:
    """Return what a file in a zip unpacks to; the sizes that the zip declares are not believed.

    Raises:
        BombError: It is too much.
        zipfile.BadZipFile: It is damaged.
    """
    info = member if isinstance(member, zipfile.ZipInfo) else archive.getinfo(member)
    limit = limit_of(info.compress_size)
    if info.file_size > limit:
        raise BombError("it unpacks to more than any honest file does")
    return archive.read(info)


def inflated_size(data: bytes, most: int) -> int:
    """Return how many bytes a raw deflate stream unpacks to; `most + 1` if more than `most`, without going on.

    Raises:
        zlib.error: It is none.
    """
    stream: Any = zlib.decompressobj(-zlib.MAX_WBITS)
    size, rest = 0, data
    while rest and not stream.eof:
        size += len(stream.decompress(rest, _CHUNK))
        rest = stream.unconsumed_tail
        if size > most:
            return most + 1
    return size
