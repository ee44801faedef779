"""The image cache: what it returns, when it rebuilds, and what it survives."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvl.errors import ConfigError, DataError, MedvlError
from medvl.io import cache as module
from medvl.io.cache import ImageCache, cache_root
from medvl.io.image import read_image


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, list[str]]:
    root = tmp_path / "dataset"
    (root / "part").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"part/{i:03}.png" for i in range(150)]
    for name in names:
        shape = rng.integers(20, 120, 2)
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(root / name)
    return root, names


def tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def opened(root: Path, names: list[str], folder: Path, **options: object) -> tuple[ImageCache, list[tuple[str, str]]]:
    settings: dict[str, object] = {"fingerprint": "f", "size": 64, "workers": 1, "folder": folder} | options
    return ImageCache.open_or_build(root, names, **settings)  # type: ignore[arg-type]


def assert_whole(cache: ImageCache, root: Path, names: list[str], size: int = 64) -> None:
    assert sorted(cache) == sorted(names)
    assert len(cache) == len(names)
    for name in names:
        fresh, kept = read_image(root / name, size), cache[name]
        np.testing.assert_array_equal(kept.pixels, fresh.pixels)
        assert kept.original == fresh.original


@pytest.mark.parametrize("workers", [1, 2])
def test_it_holds_what_reading_gives(tmp_path: Path, dataset: tuple[Path, list[str]], workers: int) -> None:
    root, names = dataset
    before = tree(root)
    cache, errors = opened(root, names + names[:3], tmp_path / "cache", workers=workers)
    assert errors == []
    assert_whole(cache, root, names)
    assert tree(root) == before
    assert cache[names[0]].pixels.flags.writeable
    assert "part/none.png" not in cache
    with pytest.raises(DataError, match="not in the cache"):
        cache["part/none.png"]


def test_a_second_opening_reads_no_image(tmp_path: Path, dataset: tuple[Path, list[str]]) -> None:
    root, names = dataset
    opened(root, names, tmp_path / "cache")
    before = tree(tmp_path / "cache")
    for name in names:  # same size and time, other content: noticed only by one who reads it
        status = (root / name).stat()
        (root / name).write_bytes(b"\0" * status.st_size)
        os.utime(root / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    cache, errors = opened(root, names, tmp_path / "cache")
    assert errors == []
    assert len(cache) == len(names)
    assert tree(tmp_path / "cache") == before


def test_a_changed_image_is_read_again_and_few_others(tmp_path: Path, dataset: tuple[Path, list[str]]) -> None:
    root, names = dataset
    opened(root, names, tmp_path / "cache")
    before = tree(tmp_path / "cache")
    assert len(before) > 1
    Image.fromarray(np.arange(2000, dtype=np.uint8).reshape(50, 40)).save(root / names[70])
    cache, _ = opened(root, names, tmp_path / "cache")
    assert_whole(cache, root, names)
    assert len(tree(tmp_path / "cache").keys() - before.keys()) == 1
    Image.fromarray(np.arange(2000, dtype=np.uint8).reshape(50, 40)[::-1]).save(root / "part/071b.png")
    cache, _ = opened(root, [*names, "part/071b.png"], tmp_path / "cache")
    assert_whole(cache, root, [*names, "part/071b.png"])
    assert len(tree(tmp_path / "cache").keys() - before.keys()) <= 3


@pytest.mark.parametrize("change", [{"size": 32}, {"window": (1.0, 99.0)}, {"fingerprint": "g"}])
def test_size_window_and_fingerprint_are_in_the_key(
    tmp_path: Path, dataset: tuple[Path, list[str]], change: dict[str, object]
) -> None:
    root, names = dataset
    first, _ = opened(root, names, tmp_path / "cache")
    second, _ = opened(root, names, tmp_path / "cache", **change)
    assert first.folder != second.folder
    assert_whole(second, root, names, size=32 if "size" in change else 64)


def test_unreadable_images_are_told_and_tried_again(tmp_path: Path, dataset: tuple[Path, list[str]]) -> None:
    root, names = dataset
    whole = (root / names[5]).read_bytes()
    (root / names[5]).write_bytes(whole[:40] + bytes(len(whole) - 40))
    status = (root / names[5]).stat()
    for _ in range(2):
        cache, errors = opened(root, [*names, "part/none.png"], tmp_path / "cache")
        assert [path for path, _ in errors] == [names[5], "part/none.png"]
        assert errors[1][1] == "no such image file"
        assert len(cache) == len(names) - 1
    (root / names[5]).write_bytes(whole)  # mended without a trace in size and time
    os.utime(root / names[5], ns=(status.st_atime_ns, status.st_mtime_ns))
    cache, errors = opened(root, names, tmp_path / "cache")
    assert errors == []
    assert_whole(cache, root, names)


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros"])
def test_a_damaged_shard_is_built_again(tmp_path: Path, dataset: tuple[Path, list[str]], damage: str) -> None:
    root, names = dataset
    cache, _ = opened(root, names, tmp_path / "cache")
    for shard in cache.folder.glob("*.shard"):
        content = shard.read_bytes()
        shard.write_bytes({"cut": content[:-100], "empty": b"", "zeros": bytes(len(content))}[damage])
    cache, errors = opened(root, names, tmp_path / "cache")
    assert errors == []
    assert_whole(cache, root, names)


def build_slowly(root: Path, names: list[str], folder: Path) -> None:
    fill = module._fill
    module._fill = lambda *arguments: (time.sleep(0.3), fill(*arguments))[1]  # type: ignore[assignment]
    opened(root, names, folder)


def test_a_killed_build_goes_on(tmp_path: Path, dataset: tuple[Path, list[str]]) -> None:
    root, names = dataset
    folder = tmp_path / "cache"
    process = multiprocessing.get_context("fork").Process(target=build_slowly, args=(root, names, folder))
    process.start()
    while not list(folder.rglob("*.shard")):
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    done = {p: p.stat().st_ino for p in folder.rglob("*.shard")}
    for left in folder.rglob(".*.tmp") if not sys.platform.startswith("linux") else ():
        os.utime(left, (0, 0))  # elsewhere age alone tells
    cache, _ = opened(root, names, folder)
    assert_whole(cache, root, names)
    assert {p: p.stat().st_ino for p in done} == done
    assert not list(folder.rglob(".*.tmp"))


def test_two_processes_may_build_at_once(tmp_path: Path, dataset: tuple[Path, list[str]]) -> None:
    root, names = dataset
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=opened, args=(root, names, tmp_path / "cache")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    cache, _ = opened(root, names, tmp_path / "cache")
    assert_whole(cache, root, names)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_it_goes_to_workers_without_its_pixels(tmp_path: Path, dataset: tuple[Path, list[str]]) -> None:
    root, names = dataset
    cache, _ = opened(root, names, tmp_path / "cache")
    cache[names[0]]
    content = pickle.dumps(cache)
    assert len(content) < 40_000
    assert_whole(pickle.loads(content), root, names)  # noqa: S301


def test_it_never_lies_inside_the_dataset(
    tmp_path: Path, dataset: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, names = dataset
    before = tree(root)
    with pytest.raises(ConfigError, match="inside the dataset"):
        opened(root, names, root / "cache")
    monkeypatch.setenv("MEDVL_CACHE", str(root / "part"))
    with pytest.raises(ConfigError, match="MEDVL_CACHE"):
        ImageCache.open_or_build(root, names, "f", 64)
    assert tree(root) == before


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, dataset: tuple[Path, list[str]]) -> None:
    root, names = dataset
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(MedvlError, match="cannot write the image cache") as caught:
        opened(root, names, tmp_path / "cache")
    assert len(str(caught.value).splitlines()) <= 4


def test_no_images_make_an_empty_cache(tmp_path: Path) -> None:
    cache, errors = opened(tmp_path, [], tmp_path.parent / "none")
    assert (len(cache), errors) == (0, [])
    assert not (tmp_path.parent / "none").exists()


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("MEDVL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_root() == tmp_path / "xdg" / "medvl"
