"""A drawn CT whose every voxel is known from its place in the patient, as NIfTI files and DICOM series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
SHAPE, SPACING = (30, 34), (3.0, 3.5)  # rows, columns; mm between rows, between columns
CORNER = (-55.0, -42.0)
Vector = tuple[float, float, float]


def body(points: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return Hounsfield units at places `(..., 3)` in mm of the LPS frame: no two axes are alike, depths differ."""
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    hu = np.full(x.shape, -1000.0)
    hu = np.where((x / 52) ** 2 + (y / 40) ** 2 < 1, 40 + 0.5 * z + 0.3 * x + 0.2 * y, hu)
    lungs = ((np.abs(x) - 22) / 14) ** 2 + ((y + 4) / 20) ** 2 < 1
    return np.rint(np.where(lungs, -800 + z + 0.7 * x, hu)).astype(np.int16)


def grid(affine: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """Return the RAS places in mm of the voxels of a `(D, H, W)` array, `(D, H, W, 3)`."""
    d, h, w = np.indices(shape)
    return np.stack([w, h, d, np.ones_like(d)], -1) @ affine.T[:, :3]


def to_lps(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return places * [-1, -1, 1]


def write_nifti(
    path: Path, affine: NDArray[np.float64], shape: Sequence[int], values: NDArray[Any] | None = None, **header: Any
) -> Path:
    """Write the body, or `values` `(i, j, k)`, on a grid of `shape` `(i, j, k)`."""
    if values is None:
        values = body(to_lps(grid(affine, tuple(shape)[::-1]))).T
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    for name, value in header.items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_slice(
    path: Path,
    position: Vector,
    image: int | None = 1,
    *,
    row: Vector = (1, 0, 0),
    column: Vector = (0, 1, 0),
    shape: tuple[int, int] = SHAPE,
    syntax: str = ExplicitVRLittleEndian,
    rescale: tuple[float, float] | None = (1, -1024),
    stored: Callable[[NDArray[np.int16]], NDArray[Any]] = lambda hu: (hu + 1024).astype(np.uint16),
    **tags: Any,
) -> Path:
    """Write one slice of the body as DICOM."""
    i, j = np.indices(shape)
    places = np.asarray(position, float) + j[..., None] * SPACING[1] * np.asarray(row, float)
    values = stored(body(places + i[..., None] * SPACING[0] * np.asarray(column, float)))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CT
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.PatientName, data.PatientID, data.Modality = "Canary^Tweety", "canary-4711", "CT"
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = CT, meta.MediaStorageSOPInstanceUID, "1.2.3"
    data.SeriesNumber, data.InstanceNumber, data.FrameOfReferenceUID = 4, image, "1.2.4"
    data.ImagePositionPatient = [f"{value:.10g}" for value in position]
    data.ImageOrientationPatient = [f"{value:.10g}" for value in (*row, *column)]
    data.PixelSpacing, data.SliceThickness = list(SPACING), 2.5
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, int(values.dtype.kind == "i")
    if rescale is not None:
        data.RescaleSlope, data.RescaleIntercept = rescale
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(data, name, value)
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    elif syntax == JPEG2000Lossless:
        frame = path.with_suffix(".frame")
        Image.fromarray(values).save(frame, format="JPEG2000", no_jp2=True)
        data.PixelData = encapsulate([frame.read_bytes()])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax
        frame.unlink()
    data.save_as(path)
    return path


def write_series(folder: Path, depths: Sequence[float], numbers: Sequence[int | None], **options: Any) -> list[Path]:
    """Write a slice at each of these z in mm with these numbers; files are named in another order.

    Of the options, `corner` is x and y of each slice's first voxel; the others are those of `write_slice`.
    """
    corner = options.pop("corner", CORNER)
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(0).permutation(len(depths))
    return [
        write_slice(folder / f"{name:04d}.dcm", (*corner, z), number, **options)
        for name, z, number in zip(names, depths, numbers, strict=True)
    ]
