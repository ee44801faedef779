"""`medvl data convert volumes`: converts, counts, quarantines, and tells mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_toy import Run, medvl
from ct_files import CORNER, write_nifti, write_series, write_slice
from PIL import Image

from datamodules.sources import CTRATE, VolumeTable
from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from datamodules.voxels import Voxels
from medvl.errors import DataError
from medvl.io.volume_store import VolumeStore

__all__ = ["medvl"]
AFFINE = np.array([[3.5, 0, 0, -55], [0, 3.0, 0, -42], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One volume of each kind, two of them unusable."""
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "scans"
    write_nifti(root / "a.nii.gz", AFFINE, (34, 30, 14))
    write_nifti(root / "mask.nii.gz", AFFINE, (34, 30, 14), np.ones((34, 30, 14), np.uint8))
    write_series(root / "gapped", [0.0, 2, 4, 8, 10], range(5))
    write_series(root / "single", [0.0], [1])
    return root


def test_volumes_are_converted_counted_and_quarantined(medvl: Run, root: Path) -> None:
    status, out, error = medvl(f"data convert volumes {root} --workers 1 --output left_out.jsonl")
    assert (status, error) == (1, "")
    assert out.startswith("2 volumes (2 written, 2 failed) in ")
    assert "1 x gap: 1 of 6 slices are missing" in out
    assert "one-slice" in out
    assert "missing rescale" in out
    assert "left_out.jsonl: 2 volumes to leave out" in out
    rows = [json.loads(line) for line in Path("left_out.jsonl").read_text().splitlines()]
    assert [(row["path"], row["code"]) for row in rows] == [("mask.nii.gz", "rescale"), ("single", "one-slice")]
    assert list(VolumeStore(root)) == ["a.nii.gz", "gapped"]
    (root / "mask.nii.gz").unlink()
    (root / "single/0000.dcm").unlink()
    status, out, _ = medvl(f"data convert volumes {root}")
    assert status == 0
    assert out.startswith("2 volumes (2 kept) in ")


@pytest.mark.parametrize("converted", ["volumes {root}", "volume-table {root}/t.csv"])
def test_what_is_listed_is_left_out_by_a_source_and_nothing_else(medvl: Run, root: Path, converted: str) -> None:
    """A folder of which one series is bad is listed whole, for sources name folders; the message names the series."""
    write_series(root / "both", [0.0, 2, 4, 6], range(4))
    write_slice(root / "both/y.dcm", (*CORNER, 0.0), 9, SeriesInstanceUID="1.2.9", SeriesNumber=7)
    names = ["a.nii.gz", "mask.nii.gz", "gapped", "single", "both"]
    (root / "t.csv").write_text("volume,text\n" + "".join(f"{name},A scan.\n" for name in names))
    status, _, error = medvl(f"data convert {converted.format(root=root)} --workers 1 --output left_out.jsonl")
    assert (status, error) == (1, "")
    rows = {row["path"]: row["message"] for row in map(json.loads, Path("left_out.jsonl").read_text().splitlines())}
    assert rows.keys() == {"mask.nii.gz", "single", "both"}
    assert rows["both"].startswith("series 7: this series is one slice")
    assert not rows["single"].startswith("series")
    plain = VolumeTable(root / "t.csv", split="train")
    assert [record.volumes for record in plain.load().records] == [(name,) for name in names]
    with pytest.raises(DataError, match="3 rows cannot be used"):
        VolumeData(plain).setup("fit")
    source = VolumeTable(root / "t.csv", split="train", quarantine="left_out.jsonl")
    loaded = source.load()
    assert [record.volumes for record in loaded.records] == [("a.nii.gz",), ("gapped",)]
    assert sorted(p.where for p in loaded.problems if p.code == "quarantined") == ["t.csv:3", "t.csv:5", "t.csv:6"]
    assert Voxels(source, (3.0, 3.0, 3.0), (-1000.0, 1000.0)).prepare(["a.nii.gz", "gapped"]) == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("volumes nowhere", "error: no such folder\n  where: nowhere\n"),
        ("volumes {root} --size 64", "error: --config, --size and --window are for images\n"),
        ("ct-rate {root} --window 2 98", "error: --config, --size and --window are for images\n"),
        ("table {root} --engine ray", "error: --workers, --engine and --output are for volumes\n"),
        ("volumes {root} --engine dask", "error: no --engine 'dask'\n"),
    ],
)
def test_mistakes_are_told(medvl: Run, root: Path, words: str, expected: str) -> None:
    status, _, error = medvl(f"data convert {words.format(root=root)}")
    assert status == 2
    assert error.startswith(expected)


def test_an_empty_folder_holds_no_volume(medvl: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert medvl(f"data convert volumes {tmp_path / 'empty'}")[2].startswith("error: no volume below this folder\n")


@pytest.fixture(scope="module")
def first_edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT-RATE's first edition, whose rescale and affine stand in its tables alone."""
    folder = tmp_path_factory.mktemp("ct") / "v1"
    ct_rate.write(folder, 3, seed=4, size=24, workers=0, edition="v1")
    return folder


def test_a_data_set_is_converted_with_what_its_tables_declare(
    medvl: Run, first_edition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    status, out, error = medvl(f"data convert ct-rate {first_edition} --workers 0 --output left_out.jsonl")
    assert (status, error) == (0, "")
    assert "left_out.jsonl: 0 volumes to leave out" in out
    source = CTRATE(first_edition)
    store = VolumeStore(source.root)
    for record in source.load().records:
        for path in record.volumes:
            stored = store[path]
            assert stored.whole().min() >= -1024
            assert -1000 < np.median(stored.whole()) < 200  # as stored, it is 1,024 more
            low, high = (stored.depth.z(at) for at in (-1, stored.depth.count))
            assert all(low < one.low < one.high < high for snippet in record.snippets for one in snippet.intervals)


def test_studies_are_drawn_with_bands_where_their_snippets_lie(medvl: Run, first_edition: Path) -> None:
    status, out, error = medvl(f"data show ct-rate {first_edition} --n 2 --output drawn/cts.png")
    assert (status, out, error) == (0, "drawn/cts.png\n", "")
    with Image.open("drawn/cts.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] > 2 * 900
    coloured = (pixels.max(2) - pixels.min(2) > 40).any(1)
    assert 0.1 < coloured.mean() < 1
