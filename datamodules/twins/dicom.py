"""Write a synthetic film as DICOM, as a detector would have stored it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def write_dicom(
    path: Path,
    image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    *,
    patient: str = "",
    sex: str = "",
    age: int | None = None,
    view: str = "",
    spacing: float | None = None,
    monochrome1: bool = False,
) -> None:
    """Write one uncompressed grey image; the same arguments and file name give the same bytes.

    Args:
        path: The file.
        image: `(H, W)`, bright where dense: 8 bits as `uint8`, or 12 bits as `uint16`.
        patient: Patient's id; empty as after de-identification.
        sex: `F`, `M` or unknown.
        age: In years.
        view: `PA` or `AP`.
        spacing: Millimetres from pixel to pixel.
        monochrome1: Store the image inverted, low values white, as some detectors do.
    """
    bits = 8 if image.dtype == np.uint8 else 12
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = _uid(path.stem)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.StudyInstanceUID, film.SeriesInstanceUID = _uid(f"{path.stem}/study"), _uid(f"{path.stem}/series")
    film.Modality, film.PatientName, film.PatientID, film.PatientSex = "DX", "", patient, sex
    film.PatientAge = "" if age is None else f"{age:03d}Y"
    film.ViewPosition = view
    if spacing is not None:
        film.PixelSpacing = [f"{spacing:.6g}"] * 2
    film.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    film.Rows, film.Columns = image.shape
    film.SamplesPerPixel, film.PixelRepresentation = 1, 0
    film.BitsAllocated = 8 * image.dtype.itemsize
    film.BitsStored, film.HighBit = bits, bits - 1
    stored = (2**bits - 1) - image if monochrome1 else image
    film.PixelData = stored.astype(image.dtype.newbyteorder("<")).tobytes() + b"\0" * (image.nbytes % 2)
    film.save_as(path, enforce_file_format=True)


def _uid(text: str) -> UID:
    return generate_uid(entropy_srcs=[hashlib.sha256(text.encode()).hexdigest()])
