"""One call for a CT volume, whatever it lies in."""

from __future__ import annotations

from pathlib import Path

from medvl.io.dicom_series import read_series
from medvl.io.nifti import read_nifti
from medvl.io.volume import Volume, VolumeError


def read_volume(path: Path, series: int | None = None) -> Volume:
    """Read a NIfTI file or a folder of DICOM slices.

    Args:
        path: `.nii`, `.nii.gz`, or a folder.
        series: SeriesNumber to read where a folder holds several.

    Raises:
        VolumeError: As `read_nifti` and `read_series`; a single DICOM file is `one-slice`.
    """
    path = Path(path)
    if path.is_dir():
        return read_series(path, series)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                hint = f"name the folder of its series: {path.parent}"
                raise VolumeError("one-slice", "this is one DICOM slice, not a volume", where=str(path), hint=hint)
    return read_nifti(path)
