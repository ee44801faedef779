from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ct_files import write_nifti, write_series

from medvl.io.dicom_series import read_series
from medvl.io.nifti import read_nifti
from medvl.io.volume import VolumeError
from medvl.io.volumes import read_volume


def test_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.diag([3.5, 3.0, 2.5, 1.0]), (34, 30, 14))
    np.testing.assert_array_equal(read_volume(path).hu, read_nifti(path).hu)
    files = write_series(tmp_path / "s", [0.0, 2.0, 4.0], [3, 2, 1])
    assert read_volume(tmp_path / "s", 4).sidecar == read_series(tmp_path / "s").sidecar
    for wrong, code in ((files[0], "one-slice"), (tmp_path / "none.nii", "missing"), (tmp_path, "missing")):
        with pytest.raises(VolumeError) as caught:
            read_volume(wrong)
        assert caught.value.code == code
