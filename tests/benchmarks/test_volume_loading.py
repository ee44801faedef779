from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness, volume_loading


def test_a_small_volume_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    for name, value in {"SHAPE": (16, 128, 128), "CROP": (8, 64, 64), "ROUNDS": 1, "CROPS": 2}.items():
        monkeypatch.setattr(volume_loading, name, value)
    result = volume_loading.run()
    assert result["disk_ratio"] < 1
    assert result["peers"].keys() == {"nibabel-sliced", "nibabel-whole-then-sliced"}
    assert min(result["peers"].values()) == next(iter(result["peers"].values()))
    assert result["ratio"] == pytest.approx(next(iter(result["peers"].values())) / result["ours"], rel=0.01)
    assert result["full_ratio"] > 0


def test_the_drawing_is_a_ct() -> None:
    hu = volume_loading.ct((12, 160, 160), 0)
    assert (hu.dtype, hu.min() >= -1024) == (np.int16, True)
    muscle, air = hu[6, 90:94, 76:84], hu[6, :8, :8]
    assert abs(float(air.mean()) + 1000) < 10
    assert 20 < float(muscle.mean()) < 80
    assert 4 < float(air.std()) < float(muscle.std()) < 30
    assert not np.array_equal(hu, volume_loading.ct((12, 160, 160), 1))
