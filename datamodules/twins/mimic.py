"""Where MIMIC-CXR-JPG puts an image, and how it is stored."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.twins.folder import eight_bits


def dicom_of(index: int, seed: int) -> str:
    """Return the image id of a study: five groups of eight hexadecimal digits."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))


def mimic_path(patient: str, study: str, dicom: str) -> str:
    """Return the path of an image, `files/p10/p10000032/s50414267/<dicom>.jpg`."""
    return f"files/p{patient[:2]}/p{patient}/s{study}/{dicom}.jpg"


def save_jpeg(folder: Path, path: str, image: npt.NDArray[np.uint16]) -> None:
    """Write an image as a grey JPEG below `folder`."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(eight_bits(image)).save(target, quality=90)
