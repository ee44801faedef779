"""Volumes whose values have no unit: one range for all, slices rescaled first, and what has no range refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from datamodules.sources import VolumeTable
from medvl.io.convert import VolumeItem, convert_one, convert_volumes
from medvl.io.hounsfield import Rescale
from medvl.io.intensity import relative
from medvl.io.volume import VolumeError
from medvl.io.volume_store import VolumeStore


def scan(scale: float = 1.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return positive values with a few bright ones, as a coil makes them."""
    values = np.random.default_rng(3).gamma(2.0, 50.0 * scale, (6, 20, 30)).astype(np.float32)
    values[0, 0, :4] *= 40
    return values


@pytest.mark.parametrize("scale", [0.001, 1.0, 300.0])
def test_the_bulk_of_the_values_becomes_the_scale(scale: float) -> None:
    found, notes = relative(scan(scale), [], "a")
    low, high = np.percentile(scan(scale), (0.5, 99.5))
    expected = np.rint((scan(scale).astype(np.float64) - low) / (high - low) * 2000 - 1000)
    np.testing.assert_allclose(found, np.clip(expected, -1024, 32767), atol=1)
    assert found.dtype == np.int16
    assert notes == ()
    assert np.percentile(found, (0.5, 99.5)) == pytest.approx([-1000, 1000], abs=2)
    assert found.max() > 3000  # what is bright stays brighter than white


def test_a_rescale_that_differs_by_slice_is_applied() -> None:
    slopes = np.linspace(1, 4, 6)[:, None, None]
    found, _ = relative(scan() / slopes, [Rescale(slopes, np.zeros((6, 1, 1)))], "a")
    np.testing.assert_allclose(found, relative(scan(), [Rescale()], "a")[0], atol=1)
    assert not np.allclose(found, relative(scan() / slopes, [], "a")[0], atol=50)


def test_what_has_no_range_is_refused() -> None:
    mask = np.zeros((4, 20, 20), np.uint8)
    mask[0, 0, 0] = 1
    with pytest.raises(VolumeError, match="one value") as caught:
        relative(mask, [], "study/a.nii.gz")
    assert (caught.value.code, caught.value.where) == ("flat", "study/a.nii.gz")


def test_a_table_says_that_its_volumes_have_no_unit(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    image = nibabel.Nifti1Image(scan().T, np.diag([2.0, 2.0, 2.0, 1.0]))  # type: ignore[attr-defined,no-untyped-call]
    image.to_filename(root / "a.nii")
    (root / "t.csv").write_text("volume,text\na.nii,A scan.\n")
    plain, mri = VolumeTable(root / "t.csv"), VolumeTable(root / "t.csv", relative=True)
    (item,) = mri.items(["a.nii"])
    assert item == VolumeItem("a.nii", units="relative")
    cache = tmp_path / "cache"
    assert convert_volumes(root, plain.items(["a.nii"]), cache).counts["problem/rescale"] == 1
    assert convert_one(str(root), str(cache), item).state == "written"
    np.testing.assert_array_equal(VolumeStore(root, cache)["a.nii"].whole(), relative(scan(), [], "a")[0])
    assert convert_one(str(root), str(cache), item).state == "kept"
    assert convert_one(str(root), str(cache), VolumeItem("a.nii")).state == "failed"  # what is said of it has changed
