"""`medvl data convert` fills the very cache that training opens."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from cli_toy import Run, medvl

from datamodules.grounding import GroundingData
from datamodules.pixels import IMAGE_SIZE
from datamodules.sources import PadChestGR
from medvl.io.cache import cache_root
from medvl.io.image import WINDOW

__all__ = ["medvl"]
CONFIG = """\
data:
  class_path: GroundingData
  init_args:
    source: {class_path: PadChestGR, init_args: {root: nowhere}}
    image_size: 96
    window: [1, 99]
"""


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "empty"))


def shards() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cache_root().rglob("*.shard")}


@pytest.mark.parametrize(
    ("words", "size", "window"),
    [
        ("", IMAGE_SIZE, WINDOW),
        ("--size 64 --window 2 98", 64, (2.0, 98.0)),
        ("--config mine.yaml", 96, (1.0, 99.0)),
        ("--config mine.yaml --config overlay.yaml --window 2 98", 80, (2.0, 98.0)),
    ],
)
def test_training_finds_what_was_converted(
    medvl: Run, padchest_twin: Path, words: str, size: int, window: tuple[float, float]
) -> None:
    Path("mine.yaml").write_text(CONFIG)
    Path("overlay.yaml").write_text("data: {init_args: {image_size: 80}}\n")
    status, out, error = medvl(f"data convert padchest-gr {padchest_twin} {words}")
    assert status == 0, error
    assert f"for image_size {size}, window {window[0]:g} {window[1]:g}, in " in out
    before = shards()
    assert before
    for given in (window, [int(edge) if edge == int(edge) else edge for edge in window]):
        data = GroundingData(PadChestGR(padchest_twin), image_size=size, window=given)  # type: ignore[arg-type]
        for stage in ("fit", "test"):
            data.setup(stage)
    assert shards() == before


def test_the_defaults_are_those_of_the_datamodule() -> None:
    taken = inspect.signature(GroundingData).parameters
    assert (taken["image_size"].default, taken["window"].default) == (IMAGE_SIZE, WINDOW)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--window 98 2", "error: wrong window [98.0, 2.0]\n"),
        ("--config bad.yaml", "error: wrong window wide\n"),
        ("--config none.yaml", "error: cannot read the config\n  where: none.yaml\n"),
    ],
)
def test_mistakes_are_told(medvl: Run, padchest_twin: Path, words: str, expected: str) -> None:
    Path("bad.yaml").write_text("data: {init_args: {window: wide}}\n")
    status, _, error = medvl(f"data convert padchest-gr {padchest_twin} {words}")
    assert status == 2
    assert error.startswith(expected)
    assert not shards()
