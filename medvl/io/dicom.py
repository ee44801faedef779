"""Single-frame DICOM images as they are meant to be displayed, in grey uint8.

The grey pipeline is that of DICOM PS3.3 C.11: stored value, modality transform (rescale), value-of-interest transform
(table or window), then the inversion of MONOCHROME1. pydicom's warnings are silenced: they quote values of the header,
which may identify the patient.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medvl.errors import DataError
from medvl.io.bounded import inflated_size
from medvl.io.pixels import MAX_PIXELS, Curve, ImageArray, fitted, guard, linear, percentile_window, shrink, to_uint8

logging.getLogger("pydicom").setLevel(logging.CRITICAL)
MAX_DEFLATED = 4 * MAX_PIXELS  # bytes
GREY = ("MONOCHROME1", "MONOCHROME2")


def read_dicom(file: BinaryIO, path: Path, size: int | None, window: tuple[float, float]) -> ImageArray:
    """Read an open DICOM file; arguments and errors as in `medvl.io.image.read_image`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = parsed(file, path, header_only=False)
        original = frame_shape(dataset, path)
        stored = decoded(dataset, path)
        if stored.ndim == 3:
            grey = Image.fromarray(stored).convert("L")
        else:
            grey = Image.fromarray(to_uint8(stored, _display_curve(dataset, stored, window)))
    return ImageArray(np.array(shrink(grey, fitted(original, size))), original)


def dicom_size(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Return `(H, W)` from the header of an open DICOM file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return frame_shape(parsed(file, path, header_only=True), path)


def parsed(file: BinaryIO, path: Path, header_only: bool) -> pydicom.Dataset:
    """Parse the file; pydicom's own text may quote the header, so it is not passed on."""
    try:
        _guard_deflated(file, path)
        return pydicom.dcmread(file, stop_before_pixels=header_only)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"this DICOM file is damaged ({type(error).__name__})", where=str(path)) from None


def _guard_deflated(file: BinaryIO, path: Path) -> None:
    """Refuse a deflated data set that holds more than any image: pydicom unpacks the whole of it at once."""
    file.seek(0)
    if file.read(132)[128:] == b"DICM":
        file.seek(0)
        pydicom.filereader.read_preamble(file, force=False)
        meta = pydicom.filereader._read_file_meta_info(file)
        deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        if deflated and inflated_size(file.read(), MAX_DEFLATED) > MAX_DEFLATED:
            hint = f"at most {MAX_DEFLATED:,} bytes are unpacked"
            raise DataError("this DICOM file is too large once unpacked", where=str(path), hint=hint)
    file.seek(0)


def frame_shape(dataset: pydicom.Dataset, path: Path) -> tuple[int, int]:
    """Return the guarded `(H, W)`; refuse what is not one frame."""
    if "Rows" not in dataset or "Columns" not in dataset:
        raise DataError("this DICOM file holds no image", where=str(path))
    try:
        frames, shape = int(dataset.get("NumberOfFrames") or 1), (int(dataset.Rows), int(dataset.Columns))
    except (TypeError, ValueError):
        raise DataError("this DICOM file's image size is damaged", where=str(path)) from None
    if frames > 1:
        hint = "save the frames one by one"
        raise DataError(f"this DICOM file holds {frames} frames; expected one", where=str(path), hint=hint)
    return guard(path, shape)


def decoded(dataset: pydicom.Dataset, path: Path) -> NDArray[Any]:
    """Return stored values `(H, W)`, or 8-bit RGB `(H, W, 3)`."""
    kind = str(dataset.get("PhotometricInterpretation", ""))
    colour = dataset.get("SamplesPerPixel", 1) == 3 and dataset.get("BitsAllocated") == 8
    if kind not in GREY and not colour:
        hint = f"expected {' or '.join(GREY)}, or 8-bit colour"
        raise DataError("this DICOM file's colours are not read", where=str(path), hint=hint)
    try:
        values: NDArray[Any] = dataset.pixel_array
    except Exception as error:
        hint = f"truncated, or no decoder for {_syntax(dataset)}; python-gdcm decodes most"
        what = f"this DICOM file's pixel data cannot be decoded ({type(error).__name__})"
        raise DataError(what, where=str(path), hint=hint) from None
    return values


def _syntax(dataset: pydicom.Dataset) -> str:
    """Name the transfer syntax."""
    return str(getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "an unknown encoding"))


def _display_curve(dataset: pydicom.Dataset, stored: NDArray[Any], window: tuple[float, float]) -> Curve:
    """Return the curve from stored values to [0, 1] display values."""
    voi = _voi_curve(dataset)
    if voi is None and dataset.get("BitsStored", 16) <= 8:
        voi = linear(0, 255)  # like any 8-bit picture: kept as it is
    if voi is None:
        known = stored[stored != padding] if (padding := dataset.get("PixelPaddingValue")) is not None else stored
        low, high = percentile_window(known if known.size else stored, window)
        ends = apply_modality_lut(np.array([low, high]).round().astype(stored.dtype), dataset)
        voi = linear(float(ends.min()), float(ends.max()))
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"

    def curve(values: NDArray[Any]) -> NDArray[Any]:
        unit = np.clip(voi(apply_modality_lut(values.astype(stored.dtype), dataset)), 0, 1)
        return 1 - unit if inverted else unit

    return curve


def _voi_curve(dataset: pydicom.Dataset) -> Curve | None:
    """Return the file's first value-of-interest table or window as a curve to [0, 1], or None (PS3.3 C.11.2.1)."""
    if dataset.get("VOILUTSequence"):
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return lambda values: apply_voi(np.rint(values).astype(np.int64), dataset) / (2**depth - 1)
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return lambda values: 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return linear(centre - width / 2, centre + width / 2)
    span = max(width - 1, 1e-6)  # the standard's LINEAR: half a grey value short on each side
    return linear(centre - 0.5 - span / 2, centre - 0.5 + span / 2)


def _first(value: Any) -> float | None:
    """Return the first of one or more numbers."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
