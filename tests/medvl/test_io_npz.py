"""Volumes from NumPy archives, ordered as Rad-ChestCT orders them: head to feet, front to back, right to left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_files import body, grid, to_lps

from medvl.io.convert import VolumeItem, convert_volumes
from medvl.io.npz import read_npz
from medvl.io.volume import VolumeError
from medvl.io.volume_store import VolumeStore

AFFINE = np.diag([-3.0, -3.0, -3.0, 1.0])
AFFINE[:3, 3] = 50, 45, 40
SHAPE = (12, 31, 35)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "a.npz"
    path.parent.mkdir()
    np.savez_compressed(path, ct=body(to_lps(grid(AFFINE, SHAPE))))
    return path


def test_it_is_turned_like_every_other_volume(path: Path, tmp_path: Path) -> None:
    volume = read_npz(path, "ct", AFFINE)
    assert (np.diag(volume.affine)[:3] > 0).all()
    np.testing.assert_array_equal(volume.hu, body(to_lps(grid(volume.affine, volume.hu.shape))))
    assert (volume.depth.first, volume.depth.z(11)) == pytest.approx((40 - 33, 40))
    item = VolumeItem("a.npz", affine=tuple(map(tuple, AFFINE.tolist())), array="ct")
    convert_volumes(path.parent, [item], tmp_path / "cache")
    np.testing.assert_array_equal(VolumeStore(path.parent, tmp_path / "cache")["a.npz"].whole(), volume.hu)


DAMAGES: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("missing", "no such volume", lambda path: path.unlink()),
    ("truncated", "cut off", lambda path: path.write_bytes(path.read_bytes()[:-100])),
    ("unreadable", "no array 'ct'", lambda path: np.savez(path, other=np.zeros(3))),
    ("unreadable", "real numbers, not bool", lambda path: np.savez(path, ct=np.zeros(SHAPE, bool))),
    ("unreadable", "not object", lambda path: np.savez(path, ct=np.full(SHAPE, None))),
    ("not-3d", "three axes, not 12 x 31", lambda path: np.savez(path, ct=np.zeros(SHAPE[:2]))),
    ("one-slice", "1 x 31 x 35", lambda path: np.savez(path, ct=np.zeros((1, 31, 35)))),
    ("nan", "13,020 of 13,020", lambda path: np.savez(path, ct=np.full(SHAPE, np.nan))),
    ("rescale", "missing rescale", lambda path: np.savez(path, ct=np.zeros(SHAPE))),
]


@pytest.mark.parametrize(("code", "message", "damage"), DAMAGES, ids=[damage[1] for damage in DAMAGES])
def test_each_damage_has_its_name(path: Path, code: str, message: str, damage: Callable[[Path], Any]) -> None:
    damage(path)
    with pytest.raises(VolumeError, match=message) as caught:
        read_npz(path, "ct", AFFINE)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
