"""Damages to images and volumes that are whole files, and still cannot be what they say."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image

from benchmarks.damage import Deed, Patient, rewrite


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _picture(change: Callable[[Image.Image], Image.Image], format: str = "") -> Deed:
    """Save a picture that was changed, in its own format or another."""

    def deed(patient: Patient, path: Path) -> None:
        with Image.open(path) as image:
            image.load()
            rewrite(path, _saved(change(image), format or str(image.format)))

    return deed


def _flat(share: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        top = 65535 if image.mode.startswith("I") else 255
        return Image.new(image.mode, image.size, int(top * share) if image.mode in ("L", "I;16", "I") else 0)

    return change


def _colour(patient: Patient, path: Path) -> None:
    """Write a PNG of 16 bits a channel, by hand: Pillow writes none."""
    with Image.open(path) as image:
        width, height = image.size
    row = b"\0" + patient.rng.bytes(6 * width)
    rewrite(path, _png(width, height, 16, 2, zlib.compress(row * height)))


def _png(width: int, height: int, bits: int, colours: int, data: bytes) -> bytes:
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0), b"IDAT": data, b"IEND": b""}
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _bomb(patient: Patient, path: Path) -> None:
    rewrite(path, _png(60_000, 60_000, 8, 0, zlib.compress(bytes(1000))))


def _sizeless(patient: Patient, path: Path) -> None:
    rewrite(path, _png(0, 64, 8, 0, zlib.compress(bytes(64))))


def _pages(patient: Patient, path: Path) -> None:
    with Image.open(path) as image:
        rewrite(path, _saved(image.convert("L"), "TIFF", save_all=True, append_images=[image.convert("L")] * 2))


PICTURE: dict[str, Deed] = {
    "black": _picture(_flat(0)),
    "white": _picture(_flat(1)),
    "another shape": _picture(lambda image: image.resize((image.width * 2, max(1, image.height // 2)))),
    "a GIF under its name": _picture(lambda image: image.convert("L"), "GIF"),
    "16-bit colours": _colour,
    "a bomb": _bomb,
    "a width of zero": _sizeless,
    "a TIFF of three pages": _pages,
}


def _dicom(change: Callable[[pydicom.Dataset], None]) -> Deed:
    """Change the header or the pixels of a DICOM file."""

    def deed(patient: Patient, path: Path) -> None:
        dataset = pydicom.dcmread(path)
        change(dataset)
        file = io.BytesIO()
        dataset.save_as(file)
        rewrite(path, file.getvalue())

    return deed


def _set(keyword: str, value: object) -> Deed:
    return _dicom(lambda dataset: setattr(dataset, keyword, value))


def _drop(keyword: str) -> Deed:
    return _dicom(lambda dataset: delattr(dataset, keyword))


def _plain(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Deed:
    """Change the pixels, unpacked."""

    def put(dataset: pydicom.Dataset) -> None:
        values = change(dataset.pixel_array)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.PixelData, (dataset.Rows, dataset.Columns) = values.tobytes(), values.shape
        dataset["PixelData"].VR = "OW"
        dataset["PixelData"].is_undefined_length = False

    return _dicom(put)


def _half(dataset: pydicom.Dataset) -> None:
    _unpack(dataset)
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 4 * 2]


def _tall(dataset: pydicom.Dataset) -> None:
    _unpack(dataset)
    dataset.Rows = 60_000


def _unpack(dataset: pydicom.Dataset) -> None:
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()


DICOM: dict[str, Deed] = {
    "black": _plain(np.zeros_like),
    "another shape": _plain(lambda values: np.ascontiguousarray(values[: len(values) // 2])),
    "no pixels": _drop("PixelData"),
    "half of its pixels": _dicom(_half),
    "no rows": _drop("Rows"),
    "zero rows": _set("Rows", 0),
    "more rows than pixels": _dicom(_tall),
    "four frames": _set("NumberOfFrames", 4),
    "no colour model": _drop("PhotometricInterpretation"),
    "an unknown colour model": _set("PhotometricInterpretation", "YBR_ODD"),
    "no bits": _drop("BitsAllocated"),
    "twelve bits a byte": _set("BitsAllocated", 12),
    "three samples": _set("SamplesPerPixel", 3),
    "an unknown transfer syntax": _dicom(
        lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", pydicom.uid.UID("1.2.3.4.5"))
    ),
    "a GIF under its name": lambda patient, path: rewrite(path, _saved(Image.new("L", (64, 64)), "GIF")),
    "a bomb": _bomb,
}


_HEADER: Any = nibabel.Nifti1Header  # nibabel carries no types


def _nifti(
    change: Callable[[Any, np.ndarray[Any, Any]], np.ndarray[Any, Any] | None],
) -> Deed:
    """Change header and voxels of a NIfTI, packed anew."""

    def deed(patient: Patient, path: Path) -> None:
        raw = bytearray(gzip.decompress(path.read_bytes()))
        header: Any = _HEADER(bytes(raw[:348]), check=False)
        offset = int(header["vox_offset"])
        values = np.frombuffer(bytes(raw[offset:]), header.get_data_dtype()).copy()
        changed = change(header, values)
        body = bytes(raw[offset:]) if changed is None else changed.tobytes()
        rewrite(path, gzip.compress(header.binaryblock + bytes(raw[348:offset]) + body, 1))

    return deed


def _field(**fields: Any) -> Deed:
    def change(header: Any, values: np.ndarray[Any, Any]) -> None:
        for name, value in fields.items():
            header[name] = value

    return _nifti(change)


def _shape(*sides: int) -> Deed:
    def change(header: Any, values: np.ndarray[Any, Any]) -> None:
        header["dim"] = [len(sides), *sides, *[1] * (7 - len(sides))]

    return _nifti(change)


def _as_float(fill: float) -> Deed:
    def change(header: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found = values.astype(np.float32)
        found[len(found) // 3 : len(found) // 2] = fill
        header.set_data_dtype(np.float32)
        return found

    return _nifti(change)


def _twice_scaled(header: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    slope, intercept = header.get_slope_inter()
    return (values.astype(np.int32) * (slope or 1) + (intercept or 0) - 1024).clip(-32768, 32767).astype(values.dtype)


def _fourth(header: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    header["dim"][0], header["dim"][4] = 4, 2
    return np.concatenate([values, values])


def _axes(rows: list[list[float]]) -> Deed:
    def change(header: Any, values: np.ndarray[Any, Any]) -> None:
        header["sform_code"], header["qform_code"] = 1, 0
        header["srow_x"], header["srow_y"], header["srow_z"] = rows

    return _nifti(change)


def _unpacked(patient: Patient, path: Path) -> None:
    rewrite(path, gzip.decompress(path.read_bytes()))


def _tail(patient: Patient, path: Path) -> None:
    content = path.read_bytes()
    rewrite(path, content[:-8] + bytes(8))  # checksum and length


NIFTI: dict[str, Deed] = {
    "not a number in places": _as_float(float("nan")),
    "infinite in places": _as_float(float("inf")),
    "the rescale applied twice": _nifti(_twice_scaled),
    "a fourth axis": _nifti(_fourth),
    "two axes": _shape(64, 64),
    "no axis": _shape(),
    "one slice": _shape(64, 64, 1),
    "a negative side": _shape(-64, 64, 64),
    "more voxels than bytes": _shape(512, 512, 512),
    "a million voxels a side": _shape(32767, 32767, 32767),
    "all air": _nifti(lambda header, values: np.full_like(values, -1000)),
    "all zero": _nifti(lambda header, values: np.zeros_like(values)),
    "no place": _field(sform_code=0, qform_code=0),
    "a place of zeros": _axes([[0.0] * 4] * 3),
    "a place that is not a number": _axes([[float("nan")] * 4] * 3),
    "axes in one line": _axes([[2.0, 2, 0, 0], [2.0, 2, 0, 0], [0.0, 0, 4, 0]]),
    "metres for millimetres": _axes([[0.002, 0, 0, 0], [0, 0.002, 0, 0], [0, 0, 0.004, 0]]),
    "spacing and place differ": _axes([[1.0, 0, 0, 0], [0, 9.0, 0, 0], [0, 0, 2.0, 0]]),
    "complex numbers": _field(datatype=32, bitpix=64),
    "an unknown type": _field(datatype=4096),
    "voxels before the header ends": _field(vox_offset=16),
    "voxels beyond the file": _field(vox_offset=1e12),
    "another magic": _field(sizeof_hdr=999),
    "a slope that is not a number": _field(scl_slope=float("nan"), scl_inter=float("nan")),
    "plain under .gz": _unpacked,
    "a wrong checksum": _tail,
}

PIXELS = {"png": PICTURE, "jpeg": PICTURE, "dicom": DICOM, "nifti": NIFTI}
"""Damages by kind of image."""
