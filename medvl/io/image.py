"""Radiographs from JPEG, PNG (8 and 16 bit), TIFF, BMP and DICOM, as grey uint8 arrays of the size that is asked for.

The format is told by the content, not by the suffix. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is
still at least the size asked for, and without its colour planes: what remains is the entropy decoder. Images of 8 bits
keep their grey values; deeper ones are stretched between two percentiles, since their brightest pixel (a marker, a
defect) says nothing about the patient.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from medvl.errors import DataError
from medvl.io.pixels import ImageArray, fitted, guard, linear, percentile_window, shrink, to_uint8

__all__ = ["ImageArray", "image_size", "read_image", "read_radiograph"]

FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
WINDOW = (0.5, 99.5)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # Exif orientation to the turn that displays it


def read_image(
    path: str | os.PathLike[str], size: int | None = None, window: tuple[float, float] = WINDOW
) -> ImageArray:
    """Read an image as grey uint8, upright (Exif orientation applied, MONOCHROME1 inverted).

    Args:
        path: JPEG, PNG, TIFF, BMP or DICOM with one frame. Colour becomes luma (ITU-R 601); alpha is dropped.
        size: Longest side of the result in pixels; a smaller image is not enlarged. None keeps the original size.
        window: Percentiles (0 to 100) mapped to black and white; used only for more than 8 bits, and in DICOM only
            where the file names no window of its own.

    Returns:
        Pixels `(h, w)` and the original size `(H, W)`.

    Raises:
        DataError: The file is missing, empty, truncated, too large, not an image, or not decodable; names the file.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    with _opened(Path(path)) as (file, is_dicom):
        if is_dicom:
            from medvl.io.dicom import read_dicom

            return read_dicom(file, Path(path), size, window)
        return _read_picture(file, Path(path), size, window)


def read_radiograph(
    path: str | os.PathLike[str], size: int | None = None, window: tuple[float, float] = WINDOW
) -> ImageArray:
    """Read an image to learn from; arguments, result and errors as in `read_image`.

    Raises:
        DataError: Also where every pixel has one value: a black film is a failed export, and teaches what is not there.
    """
    image = read_image(path, size, window)
    if image.pixels.min() == image.pixels.max():
        raise DataError("this image is of one grey throughout", where=str(path))
    return image


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return `(H, W)` as displayed, from the header alone; raises `DataError` like `read_image`."""
    with _opened(Path(path)) as (file, is_dicom):
        if is_dicom:
            from medvl.io.dicom import dicom_size

            return dicom_size(file, Path(path))
        with Image.open(file, formats=FORMATS) as image:
            return guard(Path(path), _displayed(image)[0])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open `path`, tell whether it is DICOM, and turn whatever goes wrong with it into an error that names it."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError("this is a folder, not an image file", where=str(path))
        if not stat.S_ISREG(mode):  # opening a named pipe would wait for ever
            raise DataError("this is not a regular file", where=str(path))
        with path.open("rb") as file:
            head = file.read(132)
            if not head:
                raise DataError("this image file is empty (0 bytes)", where=str(path))
            file.seek(0)
            yield file, head[128:] == b"DICM"
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError("no such image file", where=str(path)) from error
    except Image.DecompressionBombError as error:
        raise DataError("this image is too large to decode", where=str(path)) from error
    except UnidentifiedImageError as error:
        hint = "expected JPEG, PNG, TIFF, BMP or DICOM content, whatever the suffix"
        raise DataError("this file is not an image, or its header is damaged", where=str(path), hint=hint) from error
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = (reason.splitlines() or [type(error).__name__])[0][:100]
        raise DataError(f"cannot read this image: {reason}", where=str(path)) from error


def _displayed(image: Image.Image) -> tuple[tuple[int, int], Image.Transpose | None]:
    """Return the size `(H, W)` as displayed and the turn that displays it, from the header.

    Pillow turns TIFF by itself. Exif behind the pixels of a PNG is not looked for: that would decode them.
    """
    tagged = image.format != "TIFF" and "exif" in image.info
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1)) if tagged else None
    width, height = image.size
    return ((width, height) if _swaps(turn) else (height, width)), turn


def _swaps(turn: Image.Transpose | None) -> bool:
    """Whether a turn exchanges height and width."""
    turns = Image.Transpose
    return turn in (turns.TRANSPOSE, turns.TRANSVERSE, turns.ROTATE_90, turns.ROTATE_270)


def _read_picture(file: BinaryIO, path: Path, size: int | None, window: tuple[float, float]) -> ImageArray:
    """Read what Pillow decodes: shrink first, turn last, so that the turn is cheap."""
    with Image.open(file, formats=FORMATS) as image:
        original, turn = _displayed(image)
        shape = fitted(guard(path, original), size)
        if _swaps(turn):
            shape = shape[::-1]
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise DataError(f"this TIFF holds {getattr(image, 'n_frames', 1)} pages; expected one", where=str(path))
        drafted = image.draft("L", shape[::-1])  # JPEG only: decode scaled, luma only
        small = shrink(_grey(image, path, window), shape, drafted[1] if drafted else None)
    return ImageArray(np.array(small if turn is None else small.transpose(turn)), original)


def _grey(image: Image.Image, path: Path, window: tuple[float, float]) -> Image.Image:
    """Decode to mode `L`."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        return Image.fromarray(to_uint8(values, linear(*percentile_window(values, window))))
    if any(";16" in str(tile.args) for tile in getattr(image, "tile", ())):  # Pillow would keep the high byte alone
        hint = "save it as 16-bit grey, or as 8-bit colour"
        raise DataError("16-bit colour images are not read", where=str(path), hint=hint)
    return image.convert("L")
