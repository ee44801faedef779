from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import nibabel
import numpy as np
from fuzz import damaged, few, refusal
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from datamodules.twins.dicom import write_dicom
from medvl.io.dicom_series import read_series
from medvl.io.image import image_size, read_image
from medvl.io.nifti import read_nifti
from medvl.io.volume import Volume, VolumeError
from medvl.text.sections import readable, sectioned


def _dicom(folder: Path) -> bytes:
    write_dicom(folder / "clean.dcm", np.arange(30, dtype=np.uint16).reshape(5, 6) * 100, patient="1", view="PA")
    return (folder / "clean.dcm").read_bytes()


def _nifti() -> bytes:
    values = np.linspace(-1000, 300, 64).reshape(4, 4, 4).astype(np.int16)
    return bytes(nibabel.Nifti1Image(values, np.diag([-2.0, -2, 4, 1])).to_bytes())


def _png(mode: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8 if mode == "L" else np.uint16).reshape(6, 8)).save(file, "PNG")
    return file.getvalue()


PARTS = ["FINDINGS:", "IMPRESSION", ":", "\n", "\n\n", "The heart.", " ", "\r", "_" * 9, "1.", "é"]
EDITS = st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=5)


def _edited(content: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    found = bytearray(content)
    for place, new in edits:
        place %= len(found)
        found[place : place + len(new)] = new
    return bytes(found)


def _read(path: Path) -> None:
    for read in (read_image, image_size):
        error = refusal(lambda read=read: read(path))  # type: ignore[misc]
        assert error is None or path.name in str(error)


@few
@given(EDITS)
@example([(128, b"DICN")])
def test_dicom(tmp_path: Path, edits: list[tuple[int, bytes]]) -> None:
    path = tmp_path / "slices" / "x.dcm"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(_edited(_dicom(tmp_path), edits))
    _read(path)
    error = refusal(lambda: read_series(path.parent))
    assert error is None or isinstance(error, VolumeError)


@few
@given(EDITS, st.booleans())
@example([(0, b"\0\0\0\0")], True)
@example([(40, b"\xff\xff")], False)
@example([(108, b"\0\0\xc0\x7f")], False)
def test_nifti(tmp_path: Path, edits: list[tuple[int, bytes]], packed: bool) -> None:
    path = tmp_path / ("x.nii.gz" if packed else "x.nii")
    content = _edited(_nifti(), edits)
    path.write_bytes(gzip.compress(content) if packed else content)
    error = refusal(lambda: read_nifti(path))
    assert error is None or "x.nii" in str(error)


@few
@given(damaged(gzip.compress(_nifti())))
def test_packed_nifti(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.nii.gz"
    path.write_bytes(content)
    error = refusal(lambda: read_nifti(path))
    assert error is None or isinstance(error, VolumeError)


def test_what_a_checksum_denies_is_refused(tmp_path: Path) -> None:
    """Damage that makes a stream longer puts its end, and the checksum, beyond the voxels that are asked for."""
    packer = zlib.compressobj(wbits=31)
    path = tmp_path / "x.nii.gz"
    content = packer.compress(_nifti() + bytes(100)) + packer.flush()
    path.write_bytes(content)
    assert isinstance(read_nifti(path), Volume)
    path.write_bytes(content[:-8] + bytes(4) + content[-4:])
    error = refusal(lambda: read_nifti(path))
    assert isinstance(error, VolumeError)
    assert error.code == "truncated"


@few
@given(damaged(_png("L")) | damaged(_png("I;16")) | st.binary(max_size=200))
def test_pictures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    _read(path)


@few
@given(st.text(max_size=300) | st.lists(st.sampled_from(PARTS)).map("".join))
def test_reports(text: str) -> None:
    parts = sectioned(text)
    assert all("\n" not in part for part in parts)
    assert all(0 <= start <= end <= len(text) for start, end in readable(text))
