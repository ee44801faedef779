"""Features written once give what the encoder gives, and a model on top of them finds the same depths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_volume_task import batch

from datamodules.features import FeatureGrids
from datamodules.scans import ScanAugment
from datamodules.sources import CTRATE
from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from medvl.encoders import Precomputed, Tiny3D, TinyText
from medvl.errors import ConfigError, DataError
from medvl.io.features import StoredFeatures, read_features, write_features
from medvl.io.volume import DepthAxis
from tasks.volume import VolumeTask
from tasks.volume.features import pooled, precompute


def test_a_file_keeps_grid_and_depth(tmp_path: Path) -> None:
    grid, depth = torch.randn(3, 5, 2, 4), DepthAxis(-311.2, 12.0, 5)
    write_features(tmp_path / "a/b.nii.gz", StoredFeatures(grid, depth))
    found = read_features(tmp_path / "a/b.nii.gz")
    assert found.depth == depth
    torch.testing.assert_close(found.grid, grid, atol=2e-3, rtol=1e-3)
    (tmp_path / "a/c.nii.gz.safetensors").write_bytes(b"no tensors")
    reasons = FeatureGrids(tmp_path).prepare(["a/b.nii.gz", "a/c.nii.gz", "a/d.nii.gz"])
    assert reasons.keys() == {"a/c.nii.gz", "a/d.nii.gz"}
    with pytest.raises(DataError, match="no features"):
        read_features(tmp_path / "a/d.nii.gz")


def test_every_volume_is_written_without_its_padding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, given = Tiny3D(width=32, depth=1, context=1), batch(3)
    assert precompute([given], encoder, tmp_path) == 3
    whole = encoder.eval()(given.volumes, given.valid)
    for at, path in enumerate(given.paths):
        found, deep = FeatureGrids(tmp_path)(path), -(-int(given.slices[at]) // 4)
        assert found.image.shape == (32, deep, 4, 4)
        expected = whole.tokens[at].view(10, 4, 4, 32)[:deep].movedim(-1, 0)
        torch.testing.assert_close(found.image, expected, atol=5e-3, rtol=1e-3)
        # the first token covers the first four slices of 3 mm
        assert found.depth.first - found.depth.step / 2 == pytest.approx(float(given.first_mm[at]) - 1.5)
        assert found.depth.step == pytest.approx(12.0)


def test_padding_does_not_enter_an_average() -> None:
    grid, mask = torch.arange(10.0).view(1, 1, 2, 5), torch.ones(1, 2, 5, dtype=torch.bool)
    mask[0, :, 4] = mask[0, 1, 2] = False
    expected = torch.tensor([3.0, (2 + 3 + 8) / 3, 0.0])
    torch.testing.assert_close(pooled(grid, mask, 2).flatten(), expected)
    assert torch.equal(pooled(grid, mask, 1), grid)


def test_the_task_trains_on_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    ct_rate.write(tmp_path / "twin", 10, 3, size=32, workers=0)
    source, options = CTRATE(tmp_path / "twin"), {"spacing": (6.0, 12.0, 12.0), "batch_size": 4}
    plain = VolumeData(source, **options, predict_split="all")  # type: ignore[arg-type]
    plain.setup("predict")
    torch.manual_seed(0)
    written = precompute(plain.predict_dataloader(), Tiny3D(width=32, depth=1, context=1), tmp_path / "found")
    assert written == len(plain.records("all"))
    data = VolumeData(source, **options, features=str(tmp_path / "found"))  # type: ignore[arg-type]
    data.setup("fit")
    given = next(iter(data.train_dataloader()))
    assert given.volumes.shape[:2] == (4, 32)
    model = VolumeTask(Precomputed(32, 16, depth=1, heads=2), TinyText(width=32, depth=1, buckets=256), dim=16)
    losses = model.losses(model(given), given)
    losses["loss"].backward()
    assert losses["depth"].isfinite()
    features = model.model.read_volumes(given.volumes, given.valid)
    grid = model.model.grid(features, given.first_mm, given.step_mm, given.slices)
    for row, spans in zip(given.snippet_index.tolist(), given.intervals, strict=True):
        low, high = float(grid.edges[row].min()), float(grid.edges[row].max())
        assert all(low < end and start < high for start, end, _ in spans.tolist())
    with pytest.raises(ConfigError, match="augment"):
        VolumeData(source, features="found", augment=ScanAugment())
