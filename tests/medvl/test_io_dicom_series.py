"""DICOM series: order, orientation, depths and image numbers, and everything that a folder of slices can have wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_files import CORNER, SHAPE, SPACING, body, grid, to_lps, write_series, write_slice
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless, RLELossless

from medvl.errors import DataError
from medvl.io.dicom_series import list_series, read_series
from medvl.io.volume import VolumeError

DEPTHS = [-30.0 + 2.5 * k for k in range(14)]
COSINE, SINE = float(np.cos(np.deg2rad(20))), float(np.sin(np.deg2rad(20)))
TILTED = {"column": (0, COSINE, SINE)}
KINDS: dict[str, tuple[list[float], list[int], dict[str, Any]]] = {
    "plain": (DEPTHS, list(range(1, 15)), {}),
    "reversed": (DEPTHS, list(range(14, 0, -1)), {}),
    "from the head down": (DEPTHS[::-1], list(range(1, 15)), {}),
    "numbered from 501": (DEPTHS[::-1], list(range(501, 515)), {}),
    "numbered from 0 by twos": (DEPTHS, list(range(0, 28, 2)), {}),
    "tilted": (DEPTHS, list(range(14, 0, -1)), TILTED),
    "gapped": (DEPTHS[:5] + DEPTHS[8:], [*range(1, 6), *range(9, 15)], {}),
    "tilted, reversed and gapped": (DEPTHS[:3] + DEPTHS[4:], [n for n in range(514, 500, -1) if n != 511], TILTED),
    "prone": (DEPTHS, list(range(1, 15)), {"row": (-1, 0, 0), "column": (0, -1, 0), "corner": (60, 45)}),
    "a head first lying on its side": (
        DEPTHS,
        list(range(1, 15)),
        {"row": (0, 1, 0), "column": (-1, 0, 0), "corner": (45, -58)},
    ),
}


def brighter(hu: NDArray[np.int16]) -> NDArray[np.uint16]:
    return (hu + 1054).astype(np.uint16)


def middle(z: float, options: dict[str, Any]) -> float:
    """Return the depth of a slice's middle, from its corner."""
    return float(z + options.get("column", (0, 1, 0))[2] * SPACING[0] * (SHAPE[0] - 1) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_depth_and_image_number_lead_to_each_other(tmp_path: Path, kind: str) -> None:
    depths, numbers, options = KINDS[kind]
    write_series(tmp_path / "s", depths, numbers, **options)
    volume = read_series(tmp_path / "s")
    assert volume.depth.step > 0
    for z, number in zip(depths, numbers, strict=True):
        depth = volume.sidecar.depth_of(number)
        assert depth == pytest.approx(middle(z, options), abs=1e-6)
        place = volume.sidecar.at(volume.depth.z(volume.depth.nearest(depth)))
        assert (place.series, place.image) == (4, number)
        assert place.distance < 1e-6
        uid = next(s.uid for s in volume.sidecar.slices if s.image == number)
        assert place.uid == uid
        assert volume.sidecar.interval_of(number) == pytest.approx((depth - 1.25, depth + 1.25))
    low, high = volume.sidecar.interval_of(numbers[0], numbers[-1])
    assert (low, high) == pytest.approx(volume.sidecar.extent)


@pytest.mark.parametrize("kind", KINDS)
def test_every_voxel_lies_where_the_affine_says(tmp_path: Path, kind: str) -> None:
    depths, numbers, options = KINDS[kind]
    write_series(tmp_path / "s", depths, numbers, **options)
    volume = read_series(tmp_path / "s")
    assert volume.hu.dtype == np.int16
    assert volume.hu.flags.c_contiguous
    assert (np.diag(volume.affine)[:3] > 0).all() or "side" in kind
    assert volume.spacing == pytest.approx(
        (2.5, 3.5, 3.0) if "side" in kind else (2.5, *SPACING)
    )  # mm between slices, rows, columns
    shown = [volume.depth.nearest(middle(z, options)) for z in depths]  # the others are drawn between
    places = to_lps(grid(volume.affine, volume.hu.shape))
    np.testing.assert_array_equal(volume.hu[shown], body(places)[shown])
    assert volume.depth.count == 14
    notes = {note.partition(":")[0] for note in volume.notes}
    assert notes == {word for word, name in (("gap", "gapped"), ("tilt", "tilted")) if name in kind}


def test_missing_slices_are_drawn_from_their_neighbours(tmp_path: Path) -> None:
    write_series(tmp_path / "s", DEPTHS[:5] + DEPTHS[7:], [*range(5), *range(7, 14)])
    volume = read_series(tmp_path / "s")
    low, high = volume.hu[4].astype(float), volume.hu[7].astype(float)
    np.testing.assert_allclose(volume.hu[5], low + (high - low) / 3, atol=0.51)
    np.testing.assert_allclose(volume.hu[6], low + (high - low) * 2 / 3, atol=0.51)
    assert volume.notes == ("gap: 2 of 14 slices are missing and drawn from their neighbours",)


def test_a_depth_inside_a_gap_is_of_the_nearest_image_that_there_is(tmp_path: Path) -> None:
    write_series(
        tmp_path / "s", DEPTHS[:5] + DEPTHS[8:], [*range(1, 6), *range(9, 15)]
    )  # images 6, 7 and 8 are missing
    volume = read_series(tmp_path / "s")
    for z, image, distance in ((DEPTHS[5], 5, 2.5), (DEPTHS[6] + 0.1, 9, 4.9), (DEPTHS[7] + 1, 9, 1.5)):
        place = volume.sidecar.at(z)
        assert (place.image, place.z) == (image, DEPTHS[image - 1])
        assert place.distance == pytest.approx(distance)
    assert volume.depth.nearest(DEPTHS[6]) == 6  # the drawn volume has a slice there
    with pytest.raises(DataError, match="no image 7"):
        volume.sidecar.depth_of(7)


def test_uneven_steps_are_resampled_and_small_jitter_is_not(tmp_path: Path) -> None:
    uneven = [0.0, 2, 4, 6, 8, 10, 13, 16, 19, 22]
    write_series(tmp_path / "uneven", uneven, range(10))
    volume = read_series(tmp_path / "uneven")
    assert volume.notes == ("uneven: 10 slices at uneven steps were resampled to 12",)
    assert (volume.depth.first, volume.depth.z(11)) == pytest.approx((0, 22))
    inside = volume.hu[:, 15, 17]  # in soft tissue the body changes evenly with depth
    np.testing.assert_allclose(np.diff(inside.astype(float)), 1.0, atol=1.01)
    write_series(tmp_path / "jitter", [z + 0.05 * (-1) ** k for k, z in enumerate(DEPTHS)], range(14))
    assert read_series(tmp_path / "jitter").notes == ()


def test_copies_and_localisers_are_left_out(tmp_path: Path) -> None:
    files = write_series(tmp_path, DEPTHS, range(1, 15))
    (tmp_path / "copy.dcm").write_bytes(files[3].read_bytes())
    write_slice(tmp_path / "same.dcm", (*CORNER, DEPTHS[5]), 99)  # another uid, the same pixels
    write_slice(
        tmp_path / "scout.dcm", (*CORNER, 0.0), 1, row=(0, 1, 0), column=(0, 0, -1), ImageType=["O", "P", "LOCALIZER"]
    )
    (tmp_path / "README.txt").write_text("no slice")
    volume = read_series(tmp_path)
    assert volume.hu.shape == (14, *SHAPE)
    assert volume.notes == ("localizer: 1 left out", "duplicates: 2 copies of slices left out")


@pytest.mark.parametrize("missing", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_files_without_a_place_are_left_out_and_counted(tmp_path: Path, missing: str) -> None:
    write_series(tmp_path, DEPTHS, range(1, 15))
    expected = read_series(tmp_path).hu
    for number in (15, 16):  # a dose report and a key image, say
        write_slice(tmp_path / f"{number}.dcm", (*CORNER, 0.0), number, **{missing: None})
    volume = read_series(tmp_path)
    assert volume.notes == ("placeless: 2 files without a place left out",)
    np.testing.assert_array_equal(volume.hu, expected)
    for path in tmp_path.glob("0*.dcm"):
        path.unlink()
    with pytest.raises(VolumeError, match="no DICOM slice") as caught:
        read_series(tmp_path)
    assert caught.value.code == "missing"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels(tmp_path: Path, syntax: str) -> None:
    write_series(tmp_path / "plain", DEPTHS[:4], range(4))
    write_series(tmp_path / "small", DEPTHS[:4], range(4), syntax=syntax)
    np.testing.assert_array_equal(read_series(tmp_path / "small").hu, read_series(tmp_path / "plain").hu)


def test_several_series_are_told_apart(tmp_path: Path) -> None:
    write_series(tmp_path, DEPTHS, range(14))
    for k, z in enumerate(DEPTHS[:6]):
        write_slice(tmp_path / f"b{k}.dcm", (*CORNER, z), k, SeriesInstanceUID="1.2.9", SeriesNumber=7)
    assert [(one.number, len(one.headers)) for one in list_series(tmp_path)] == [(4, 14), (7, 6)]
    assert read_series(tmp_path, 7).hu.shape[0] == 6
    with pytest.raises(VolumeError, match="mixed series: 2 in this folder") as caught:
        read_series(tmp_path)
    assert caught.value.hint == "name one by its number: 4, 7"
    with pytest.raises(VolumeError, match="no series 5"):
        read_series(tmp_path, 5)


def test_emptied_identifiers_are_no_hindrance(tmp_path: Path) -> None:
    tags = {"SeriesInstanceUID": "", "SOPInstanceUID": "", "SeriesNumber": None}
    write_series(tmp_path, DEPTHS, range(1, 15), **tags)
    volume = read_series(tmp_path)
    assert volume.sidecar.series is None
    assert len({one.uid for one in volume.sidecar.slices}) == 14  # those of the files' own headers
    assert volume.sidecar.at(DEPTHS[2]).image == 3


def test_slopes_may_differ_from_slice_to_slice(tmp_path: Path) -> None:
    for k, z in enumerate(DEPTHS):
        slope = 1 + k % 2
        stored = lambda hu, slope=slope: ((hu + 1024) // slope).astype(np.uint16)  # noqa: E731
        write_slice(tmp_path / f"{k}.dcm", (*CORNER, z), k, rescale=(slope, -1024), stored=stored)
    volume = read_series(tmp_path)
    np.testing.assert_allclose(volume.hu, body(to_lps(grid(volume.affine, volume.hu.shape))), atol=1)


@pytest.mark.parametrize(
    ("code", "message", "changes"),
    [
        ("mixed-series", "another orientation", {"row": (0, 1, 0), "column": (0, 0, -1)}),
        ("mixed-series", "another size", {"shape": (30, 30)}),
        ("mixed-series", "another pixel spacing", {"PixelSpacing": [2, 2]}),
        ("mixed-series", "beside the others' line", {"position": (-20.0, 0.0, 7.5)}),
        ("duplicates", "lie at one place and differ", {"position": (*CORNER, DEPTHS[3]), "stored": brighter}),
        ("gap", "a gap of 32.5 mm where steps are 2.50 mm", {"position": (*CORNER, 35.0)}),
        ("affine", "place or spacing is damaged", {"PixelSpacing": None}),
        ("affine", "not at right angles", {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}),
        ("unreadable", "3 frames", {"NumberOfFrames": 3}),
        ("unreadable", "cannot be decoded", {"PixelData": b"12"}),
    ],
)  # fmt: skip
def test_one_wrong_slice_is_named(tmp_path: Path, code: str, message: str, changes: dict[str, Any]) -> None:
    write_series(tmp_path, DEPTHS, range(1, 15))
    options = {"position": (*CORNER, DEPTHS[-1] + 2.5), "image": 15, **changes}
    write_slice(tmp_path / "x.dcm", **options)
    with pytest.raises(VolumeError, match=message) as caught:
        read_series(tmp_path)
    assert caught.value.code == code
    assert len(str(caught.value).splitlines()) <= 4
    assert "anary" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message", "depths", "options"),
    [
        ("one-slice", "one slice", DEPTHS[:1], {}),
        ("not-axial", "not axial: its slices lie 90 degrees off", DEPTHS, {"column": (0, 0, -1)}),
        ("rescale", "missing rescale", DEPTHS, {"rescale": None}),
        ("localizer", "nothing but localisers", DEPTHS, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("affine", "voxels of 40", [-40.0, 0.0, 40.0], {"PixelSpacing": [40, 40]}),
        ("unreadable", "too large", DEPTHS[:3], {"Rows": 60_000, "Columns": 60_000}),
    ],
)
def test_a_whole_series_that_is_wrong(
    tmp_path: Path, code: str, message: str, depths: list[float], options: dict[str, Any]
) -> None:
    write_series(tmp_path, depths, range(len(depths)), **options)
    with pytest.raises(VolumeError, match=message) as caught:
        read_series(tmp_path)
    assert caught.value.code == code


def test_folders_without_slices(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(VolumeError) as caught:
            read_series(path)
        assert caught.value.code == "missing"
    (tmp_path / "a.dcm").write_bytes(b"")
    with pytest.raises(VolumeError, match="damaged") as caught:
        read_series(tmp_path)
    assert caught.value.where == str(tmp_path / "a.dcm")


def test_values_that_are_hounsfield_units_already_stay_so(tmp_path: Path) -> None:
    write_series(tmp_path / "hu", DEPTHS, range(14), stored=lambda hu: hu)
    write_series(tmp_path / "raw", DEPTHS, range(14))
    volume = read_series(tmp_path / "hu")
    np.testing.assert_array_equal(volume.hu, read_series(tmp_path / "raw").hu)
    assert volume.notes == ("rescale: declared, but the values are Hounsfield units already",)
