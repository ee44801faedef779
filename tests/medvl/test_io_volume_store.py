"""The store of converted volumes: what is read back, what is kept, what is left out, and what a kill leaves."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ct_files import CORNER, write_nifti, write_series, write_slice

from medvl.errors import ConfigError, DataError, MedvlError
from medvl.io import volume_store
from medvl.io.convert import VolumeItem, convert_one, convert_volumes, find_volumes
from medvl.io.dicom_series import read_series
from medvl.io.nifti import read_nifti
from medvl.io.volume import Volume, VolumeError
from medvl.io.volume_store import VolumeStore
from medvl.io.workers import run_all

AFFINE = np.array([[3.5, 0, 0, -55], [0, 3.0, 0, -42], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])
SHAPE = (34, 30, 14)
DEPTHS = [-30.0 + 2.5 * k for k in range(10)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two good NIfTIs, a truncated one, a folder with one series, and one with two."""
    root = tmp_path / "data"
    for name in ("a/one.nii.gz", "a/two.nii", "a/cut.nii.gz"):
        write_nifti(root / name, AFFINE, SHAPE)
    (root / "a/cut.nii.gz").write_bytes((root / "a/cut.nii.gz").read_bytes()[:-500])
    write_series(root / "b/single", DEPTHS[::-1], range(501, 511))
    write_series(root / "b/both", DEPTHS, range(10))
    for k, z in enumerate(DEPTHS[:5]):
        write_slice(root / f"b/both/x{k}.dcm", (*CORNER, z), k, SeriesInstanceUID="1.2.9", SeriesNumber=7)
    (root / "notes.txt").write_text("no volume")
    (root / ".hidden").mkdir()
    write_nifti(root / ".hidden/three.nii", AFFINE, SHAPE)
    return root


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_converted_is_what_is_read(root: Path, tmp_path: Path, workers: int) -> None:
    before = tree(root)
    summary = convert_volumes(root, find_volumes(root), tmp_path / "cache", workers)
    assert [one.path for one in summary.outcomes] == ["a/cut.nii.gz", "a/one.nii.gz", "a/two.nii", "b/both", "b/single"]
    assert summary.counts == {"failed": 1, "written": 4, "volumes": 5, "problem/truncated": 1}
    assert tree(root) == before
    store = VolumeStore(root, tmp_path / "cache")
    assert list(store) == ["a/one.nii.gz", "a/two.nii", "b/both#4", "b/both#7", "b/single"]
    expected: dict[str, Volume] = {name: read_nifti(root / name) for name in ("a/one.nii.gz", "a/two.nii")}
    expected |= {f"b/both#{n}": read_series(root / "b/both", n) for n in (4, 7)}
    expected["b/single"] = read_series(root / "b/single")
    for name, volume in expected.items():
        stored = store[name]
        np.testing.assert_array_equal(stored.whole(), volume.hu)
        np.testing.assert_array_equal(stored.affine, volume.affine)
        assert (stored.sidecar, stored.notes, stored.depth) == (volume.sidecar, volume.notes, volume.depth)
        assert stored.spacing == volume.spacing == stored.load().spacing
        stored.verify()
        assert name in store
    assert store["b/single"].sidecar.at(store["b/single"].depth.z(2)).image == 508
    assert "a/cut.nii.gz" not in store
    with pytest.raises(DataError, match="not converted"):
        store["a/cut.nii.gz"]
    assert not list(store.folder.glob(".*"))


def test_crops_are_cut_anywhere_and_padded_with_air(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_store, "CHUNK", (4, 16, 8))
    monkeypatch.setattr(volume_store, "BLOCK", (2, 8, 8))
    convert_volumes(root, [VolumeItem("a/one.nii.gz")], tmp_path / "cache")
    stored = pickle.loads(pickle.dumps(VolumeStore(root, tmp_path / "cache")["a/one.nii.gz"]))  # noqa: S301
    padded = np.pad(stored.whole(), 40, constant_values=-1024)
    rng = np.random.default_rng(0)
    for _ in range(60):
        start = rng.integers(-39, 40, 3)
        stop = np.minimum(start + rng.integers(1, 20, 3), 40 + np.array(stored.shape))
        window = tuple(slice(a + 40, b + 40) for a, b in zip(start, stop, strict=True))
        found = stored.crop(start.tolist(), stop.tolist())
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, padded[window])


def test_what_is_there_is_kept_and_what_changed_is_not(root: Path, tmp_path: Path) -> None:
    cache, items = tmp_path / "cache", find_volumes(root)
    convert_volumes(root, items, cache)
    store = VolumeStore(root, cache)
    before = tree(cache)
    assert convert_volumes(root, items, cache).counts == {"failed": 1, "kept": 4, "volumes": 5, "problem/truncated": 1}
    assert tree(cache) == before
    write_nifti(root / "a/one.nii.gz", AFFINE + np.diag([0.5, 0, 0, 0]), SHAPE)
    (root / "b/single/0000.dcm").unlink()
    store[("a/two.nii")].file.write_bytes(b"cut off by a full disk")
    states = [one.state for one in convert_volumes(root, items, cache).outcomes]
    assert states == ["failed", "written", "written", "kept", "written"]
    assert store["a/one.nii.gz"].spacing == pytest.approx((2.5, 3, 4))
    assert len(store["b/single"].sidecar.slices) == 9
    declared = [VolumeItem("a/two.nii", rescale=(1, -1024))]
    assert convert_volumes(root, declared, cache).counts == {"written": 1, "volumes": 1, "note/rescale": 1}
    moved = [VolumeItem("a/two.nii", affine=tuple(map(tuple, (AFFINE + np.eye(4)[2:3].T * [0, 0, 0, 9]).tolist())))]
    convert_volumes(root, moved, cache)
    assert store["a/two.nii"].depth.first == pytest.approx(-21)
    (root / "a/two.nii").write_bytes(b"damaged since")
    assert convert_volumes(root, [VolumeItem("a/two.nii")], cache).counts["problem/unreadable"] == 1
    assert "a/two.nii" not in store


def test_records_hold_the_hashes_and_no_name_holds_a_path(root: Path, tmp_path: Path) -> None:
    convert_volumes(root, find_volumes(root), tmp_path / "cache")
    store = VolumeStore(root, tmp_path / "cache")
    record = store.record("a/one.nii.gz")
    assert record is not None
    assert record["source_sha256"] == hashlib.sha256((root / "a/one.nii.gz").read_bytes()).hexdigest()
    stored = store["a/one.nii.gz"]
    assert stored.sha256 == hashlib.sha256(stored.file.read_bytes()).hexdigest()
    assert {len(path.stem) for path in store.folder.iterdir()} == {24}
    data = bytearray(stored.file.read_bytes())
    data[len(data) // 2] ^= 255
    stored.file.write_bytes(data)
    with pytest.raises(DataError, match="missing or damaged"):
        stored.verify()
    stored.file.write_bytes(data[:100])
    with pytest.raises(DataError, match="missing or damaged"):
        stored.whole()


def slow(root: str, cache: str) -> None:
    """Convert, pausing when a draft is written and has not taken its place yet."""
    sync = os.fsync

    def slowly(file: int) -> None:
        time.sleep(0.5)
        sync(file)

    os.fsync = slowly  # type: ignore[assignment]
    convert_volumes(Path(root), find_volumes(Path(root)), Path(cache), 0)


def test_a_killed_conversion_goes_on(root: Path, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=slow, args=(str(root), str(tmp_path / "cache")))
    process.start()
    store = VolumeStore(root, tmp_path / "cache")
    while process.is_alive() and not (list(store.folder.glob("*.json")) and list(store.folder.glob(".*.tmp"))):
        time.sleep(0.02)
    process.kill()
    process.join()
    whole = list(store)
    assert 0 < len(whole) < 5
    for name in whole:
        store[name].verify()
    half = list(store.folder.glob(".*"))
    assert len(half) == 1
    if not sys.platform.startswith("linux"):
        os.utime(half[0], (0, 0))  # elsewhere age alone tells
    (old := store.folder / ".x.b2nd.0.tmp").write_bytes(b"half")  # killed long ago, on another machine
    os.utime(old, (0, 0))
    summary = convert_volumes(root, find_volumes(root), tmp_path / "cache")
    assert summary.counts["kept"] >= 1
    assert len(list(store)) == 5
    assert not list(store.folder.glob(".*"))


def test_one_bad_series_spares_its_neighbour(root: Path, tmp_path: Path) -> None:
    write_slice(root / "b/both/y.dcm", (*CORNER, 90.0), 9, SeriesInstanceUID="1.2.9", SeriesNumber=7)
    cache, items = tmp_path / "cache", [VolumeItem("b/both")]
    for _ in range(2):  # the second time it is tried again
        (outcome,) = convert_volumes(root, items, cache).outcomes
        assert (outcome.state, outcome.volumes, outcome.problems[0][0]) == ("failed", ("b/both#4",), "gap")
        assert outcome.problems[0][1].startswith("series 7: ")
    assert list(VolumeStore(root, cache)) == ["b/both#4"]


def test_places_that_cannot_be_used(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="inside the dataset"):
        convert_volumes(root, [], root / "cache")
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(MedvlError, match="cannot write the converted volumes"):
        convert_volumes(root, [VolumeItem("a/one.nii.gz")], tmp_path / "cache")
    outcome = convert_one(str(root), str(tmp_path / "other"), VolumeItem("gone.nii.gz"))
    assert outcome.problems == (("missing", "no such volume"),)


def test_a_bug_in_a_reader_is_one_volumes_problem(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Volume:
        raise MemoryError

    monkeypatch.setattr("medvl.io.convert.read_nifti", fail)
    (outcome,) = convert_volumes(root, [VolumeItem("a/one.nii.gz")], tmp_path / "cache").outcomes
    assert outcome.problems == (("unreadable", "cannot be read (MemoryError)"),)


def test_ray_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs the package ray") as caught:
        run_all(len, [("abc",)], None, "", engine="ray")
    assert caught.value.command == "pip install 'medvl[ray]'"


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(VolumeError("gap", "too wide", where="a/b", hint="mend it")))  # noqa: S301
    assert (error.code, str(error)) == ("gap", "too wide\n  where: a/b\n  hint:  mend it")
    assert isinstance(error, DataError)


def test_the_record_is_plain_json(root: Path, tmp_path: Path) -> None:
    convert_volumes(root, [VolumeItem("b/single")], tmp_path / "cache")
    store = VolumeStore(root, tmp_path / "cache")
    (path,) = store.folder.glob("*.json")
    entry = json.loads(path.read_text())["volumes"][0]
    assert [one["image"] for one in entry["sidecar"]["slices"]] == list(range(510, 500, -1))
    assert "anary" not in path.read_text()
    path.write_text("{")
    assert store.record("b/single") is None
