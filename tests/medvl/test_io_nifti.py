"""NIfTI volumes: orientation beside nibabel's own, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from ct_files import body, grid, to_lps, write_nifti

from medvl.io.hounsfield import Rescale
from medvl.io.nifti import read_labels, read_nifti
from medvl.io.volume import DepthAxis, VolumeError

SHAPE = (34, 30, 14)
AFFINE = np.array([[3.5, 0, 0, -55], [0, 3.0, 0, -42], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])
CODES = ["".join(code) for axes in itertools.permutations(("RL", "AP", "SI")) for code in itertools.product(*axes)]


@pytest.mark.parametrize("code", CODES)
def test_all_48_orientations_come_out_as_one(tmp_path: Path, code: str) -> None:
    stored = np.diag([0.0, 0, 0, 1])
    stored[:3, 3] = AFFINE[:3, 3]
    order = ["RLAPSI".index(letter) // 2 for letter in code]
    for place, (axis, letter) in enumerate(zip(order, code, strict=True)):
        stored[axis, place] = AFFINE[axis, axis] * (1 if letter in "RAS" else -1)
        stored[axis, 3] += 0 if letter in "RAS" else AFFINE[axis, axis] * (SHAPE[axis] - 1)
    path = write_nifti(tmp_path / "a.nii", stored, [SHAPE[axis] for axis in order])
    assert "".join(nibabel.aff2axcodes(nibabel.load(path).affine)) == code
    volume = read_nifti(path)
    theirs = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(volume.hu, np.asarray(theirs.dataobj).T)
    np.testing.assert_allclose(volume.affine, theirs.affine, atol=1e-5)
    np.testing.assert_array_equal(volume.hu, body(to_lps(grid(AFFINE, SHAPE[::-1]))))
    assert volume.spacing == pytest.approx((2.5, 3.0, 3.5))


def test_depth_is_the_patients_z_towards_the_head(tmp_path: Path) -> None:
    down = AFFINE.copy()
    down[2] = [0, 0, -2.5, 100.0]
    volume = read_nifti(write_nifti(tmp_path / "a.nii.gz", down, SHAPE))
    axis = volume.depth
    assert (axis.first, axis.step, axis.count) == pytest.approx((100 - 2.5 * 13, 2.5, 14))
    assert axis.z(13) == pytest.approx(100)
    assert axis.index(axis.z(3.25)) == pytest.approx(3.25)
    assert (axis.nearest(-1e4), axis.nearest(71.1), axis.nearest(1e4)) == (0, 1, 13)
    assert axis.cropped(-2, 5) == DepthAxis(pytest.approx(axis.first - 5), axis.step, 7)
    assert [one.z for one in volume.sidecar.slices] == pytest.approx([axis.z(k) for k in range(14)])
    assert volume.sidecar.at(99.0).image is None


def test_a_table_may_declare_rescale_and_affine(tmp_path: Path) -> None:
    hu = body(to_lps(grid(AFFINE, SHAPE[::-1]))).T
    table = [Rescale(1, -8192)]
    raw = write_nifti(tmp_path / "v1.nii.gz", AFFINE, SHAPE, (hu + 8192).astype(np.int16))
    fixed = write_nifti(tmp_path / "fixed.nii.gz", AFFINE, SHAPE, hu)
    for path, notes in ((raw, 0), (fixed, 1)):
        volume = read_nifti(path, table)
        np.testing.assert_array_equal(volume.hu, hu.T)
        assert len(volume.notes) == notes
    moved = AFFINE.copy()
    moved[2, 3] = 500
    assert read_nifti(fixed, affine=moved).depth.first == 500


def test_the_headers_own_scaling_is_applied_once(tmp_path: Path) -> None:
    hu = body(to_lps(grid(AFFINE, SHAPE[::-1]))).T
    for name, stored in (("raw", hu + 1024), ("done", hu)):
        path = write_nifti(tmp_path / f"{name}.nii", AFFINE, SHAPE, stored.astype(np.int16))
        data = bytearray(path.read_bytes())
        data[112:120] = struct.pack("<2f", 1.0, -1024.0)  # scl_slope, scl_inter
        path.write_bytes(data)
        volume = read_nifti(path)
        np.testing.assert_array_equal(volume.hu, hu.T)
        assert bool(volume.notes) == (name == "done")


def test_labels_share_the_frame(tmp_path: Path) -> None:
    down = AFFINE @ np.diag([-1.0, -1, 1, 1])
    labels = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.uint8)
    values, affine = read_labels(write_nifti(tmp_path / "m.nii.gz", down, SHAPE, labels))
    theirs = nibabel.as_closest_canonical(nibabel.load(tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(values, np.asarray(theirs.dataobj).T)
    np.testing.assert_allclose(affine, theirs.affine)
    assert values.dtype == np.uint8


def patched(path: Path, at: int, kind: str, *values: float) -> None:
    """Write numbers into the header of a `.nii.gz`."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[at : at + struct.calcsize(f"<{kind}")] = struct.pack(f"<{kind}", *values)
    path.write_bytes(gzip.compress(bytes(data), 1))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)


def without_codes(path: Path) -> None:
    patched(path, 252, "2h", 0, 0)


def nan(path: Path) -> None:
    values = np.asarray(nibabel.load(path).dataobj).astype(np.float32)
    values[3, 4, 5:8] = np.nan
    write_nifti(path, AFFINE, SHAPE, values)


DAMAGES: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("missing", "no such volume", lambda path: path.unlink()),
    ("truncated", "cut off or damaged", lambda path: path.write_bytes(path.read_bytes()[:-2000])),
    ("truncated", "cut off or damaged", lambda path: path.write_bytes(path.read_bytes()[:40])),
    ("truncated", "cut off or damaged", lambda path: flip(path, -6)),
    ("truncated", "cut off or damaged", lambda path: flip(path, 3000)),
    ("truncated", "promises 34 x 30 x 9000", lambda path: patched(path, 46, "h", 9000)),
    ("unreadable", "no NIfTI", lambda path: path.write_bytes(gzip.compress(b"hello" * 200))),
    ("unreadable", "no NIfTI", lambda path: path.write_bytes(gzip.compress(b""))),
    ("unreadable", "cannot be read", lambda path: path.write_bytes(b"plain text, no gzip at all" * 9)),
    ("unreadable", "voxels from byte", lambda path: patched(path, 108, "f", 1e12)),
    ("unreadable", "whole or real numbers", lambda path: patched(path, 70, "2h", 128, 24)),
    ("too-large", "too large: 30000 x 30000 x 30000", lambda path: patched(path, 42, "3h", 30000, 30000, 30000)),
    ("not-3d", "three axes, not 34 x 30 x 7 x 2", lambda path: patched(path, 40, "5h", 4, 34, 30, 7, 2)),
    ("not-3d", "three axes, not 34 x 30", lambda path: patched(path, 40, "4h", 2, 34, 30, 1)),
    ("one-slice", "34 x 30 x 1", lambda path: patched(path, 40, "4h", 3, 34, 30, 1)),
    ("affine", "this NIfTI has none", without_codes),
    ("affine", "voxels of 2.5 x 3 x 0 mm", lambda path: patched(path, 280, "4f", 0, 0, 0, 0)),
    ("affine", "voxels of 2.5 x 3 x 1000 mm", lambda path: patched(path, 280, "4f", 1000, 0, 0, 0)),
    ("affine", "not 4 x 4 finite", lambda path: patched(path, 280, "f", float("nan"))),
    ("affine", "right angles", lambda path: patched(path, 280, "8f", 3.5, 2.9, 0, 0, 0, 0.77, 0, 0)),
    ("affine", "but the header says 5 x", lambda path: patched(path, 80, "f", 5)),
    ("nan", "3 of 14,280 voxels", nan),
]  # fmt: skip


@pytest.mark.parametrize(("code", "message", "damage"), DAMAGES, ids=[f"{i}-{d[0]}" for i, d in enumerate(DAMAGES)])
def test_each_damage_has_its_name(tmp_path: Path, code: str, message: str, damage: Callable[[Path], Any]) -> None:
    path = write_nifti(tmp_path / "study" / "a.nii.gz", AFFINE, SHAPE)
    read_nifti(path)
    damage(path)
    with pytest.raises(VolumeError, match=message) as caught:
        read_nifti(path)
    assert caught.value.code == code
    assert caught.value.where == str(path)
    assert len(str(caught.value).splitlines()) <= 4


def test_both_byte_orders_and_what_follows_the_voxels(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", AFFINE, SHAPE)
    expected = read_nifti(path).hu
    image = nibabel.load(path)
    turned = nibabel.Nifti1Image(np.asarray(image.dataobj), AFFINE, image.header.as_byteswapped(">"))
    nibabel.save(turned, tmp_path / "big.nii")
    assert nibabel.load(tmp_path / "big.nii").header.endianness == ">"
    np.testing.assert_array_equal(read_nifti(tmp_path / "big.nii").hu, expected)
    assert read_labels(tmp_path / "big.nii")[0].dtype == np.dtype("=i2")
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole + bytes(1 << 10)))
    np.testing.assert_array_equal(read_nifti(path).hu, expected)
    path.write_bytes(gzip.compress(whole + bytes(1 << 22)))  # never unpacked, and so with a checksum never seen
    with pytest.raises(VolumeError, match="more lies behind"):
        read_nifti(path)


def test_a_fourth_axis_of_one_is_none(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", AFFINE, SHAPE)
    expected = read_nifti(path).hu
    patched(path, 40, "5h", 4, *SHAPE, 1)
    np.testing.assert_array_equal(read_nifti(path).hu, expected)
