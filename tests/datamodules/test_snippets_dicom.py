"""Links of mined references into DICOM folders: the same millimetres that the volume's reader gives, or a reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ct_files import CORNER, write_series, write_slice

from datamodules.snippets.link import StudyDepths, link, read_depths
from datamodules.snippets.references import Reference
from medvl.io.dicom_series import read_series

STEP = 2.5
DEPTHS = [-30 + STEP * place for place in range(14)]
LEAN = 0.2  # sine of the tilt


def linked(depths: StudyDepths | None, image: int, series: int = 4) -> tuple[tuple[float, float] | None, str]:
    """Return the interval of an image, or None and why."""
    assert depths is not None
    found, counts, _ = link([Reference(series, ((image, image),), (0, 1))], depths)
    ((case, _),) = counts.items()
    return ((found[0].low, found[0].high) if found else None), case


@pytest.mark.parametrize(
    ("depths", "numbers", "tilt"),
    [
        (DEPTHS, range(1, 15), 0.0),
        (DEPTHS, range(14, 0, -1), 0.0),
        (DEPTHS[:5] + DEPTHS[7:], range(501, 513), 0.0),
        (DEPTHS, range(14, 0, -1), LEAN),
    ],
    ids=["upward", "reversed", "gapped, offset", "tilted"],
)
def test_an_image_lies_where_its_volume_says(
    tmp_path: Path, depths: Sequence[float], numbers: Sequence[int], tilt: float
) -> None:
    write_series(tmp_path / "a", depths, list(numbers), column=(0.0, (1 - tilt**2) ** 0.5, tilt))
    study, sidecar = read_depths(tmp_path, "a"), read_series(tmp_path / "a").sidecar
    for place, number in enumerate(numbers):
        interval, case = linked(study, number)
        assert case == "linked"
        assert interval == pytest.approx(sidecar.interval_of(number))
        assert sum(interval or ()) / 2 - depths[place] == pytest.approx(tilt * 3.0 * 29 / 2, abs=1e-6)
    assert linked(study, max(numbers) + 1) == (None, "image not in the series")


def test_a_series_across_another_axis_has_no_depth(tmp_path: Path) -> None:
    write_series(tmp_path, DEPTHS, list(range(1, 15)))
    for place in range(10):
        file, corner = tmp_path / f"coronal{place}.dcm", (CORNER[0], -20.0 + 4 * place, 40.0)
        write_slice(file, corner, place + 1, column=(0, 0, -1), SeriesNumber=5, SeriesInstanceUID="1.5")
    study = read_depths(tmp_path, "whatever")
    assert linked(study, 2, series=5) == (None, "no depth")
    assert linked(study, 2) == ((-28.75, -26.25), "linked")


def test_a_copied_slice_keeps_its_depth(tmp_path: Path) -> None:
    files = write_series(tmp_path, DEPTHS, list(range(1, 15)))
    (tmp_path / "copy.dcm").write_bytes(files[3].read_bytes())
    assert linked(read_depths(tmp_path, "whatever"), 4) == ((-23.75, -21.25), "linked")


def test_a_number_of_two_series_names_neither(tmp_path: Path) -> None:
    write_series(tmp_path, DEPTHS, list(range(1, 15)))
    for place, z in enumerate(DEPTHS):
        write_slice(tmp_path / f"other{place}.dcm", (*CORNER, z + 200), place + 1, SeriesInstanceUID="1.2.9")
    study = read_depths(tmp_path, "whatever")
    assert linked(study, 4) == (None, "series ambiguous")
    sidecar = read_series(write_series(tmp_path / "one", DEPTHS, list(range(1, 15)))[0].parent).sidecar
    assert linked(StudyDepths([sidecar, sidecar]), 4) == (None, "series ambiguous")


def test_a_series_that_is_no_stack_says_so(tmp_path: Path) -> None:
    write_series(tmp_path, DEPTHS, list(range(1, 15)))
    write_slice(tmp_path / "beside.dcm", (CORNER[0] + 40, CORNER[1], 9.0), 15)
    assert linked(read_depths(tmp_path, "whatever"), 4) == (None, "mixed-series")
