"""Volumes as batches: depths survive resampling and padding, snippets stay with their scan, controls hide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.packing import Draw
from datamodules.scans import ScanAugment, padded
from datamodules.sources import CTRATE
from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from datamodules.voxels import AIR, resampled, respaced, trimmed
from medvl.errors import ConfigError
from medvl.io.volume import DepthAxis


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct") / "twin"
    ct_rate.write(folder, 12, 3, size=48, workers=0)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path_factory.getbasetemp() / "volume-cache"))


def data(twin: Path, **options: object) -> VolumeData:
    made = VolumeData(CTRATE(twin), spacing=(6.0, 8.0, 8.0), batch_size=4, **options)  # type: ignore[arg-type]
    made.setup("fit")
    made.setup("test")
    return made


def test_a_batch_holds_what_the_records_say(twin: Path) -> None:
    module = data(twin)
    batch = next(iter(module.test_dataloader()))
    assert batch.volumes.shape[:2] == (len(batch), 1)
    assert batch.valid.shape == batch.volumes[:, 0].shape
    assert batch.volumes.min() >= 0
    assert batch.volumes.max() <= 1
    assert (batch.volumes[:, 0][~batch.valid] == 0).all()
    assert batch.snippet_index.tolist() == sorted(batch.snippet_index.tolist())
    for i, (record, path) in enumerate(zip(batch.records, batch.paths, strict=True)):
        own = [text for text, row in zip(batch.snippets, batch.snippet_index.tolist(), strict=True) if row == i]
        assert own == [snippet.text for snippet in record.snippets_of(path)]
        assert int(batch.valid[i, :, 0, 0].sum()) == int(batch.slices[i])
    low, high = batch.extent_mm[batch.snippet_index].unbind(1)
    for spans, bottom, top in zip(batch.intervals, low.tolist(), high.tolist(), strict=True):
        assert all(start < top and end > bottom for start, end, _ in spans.tolist())  # the twin names nothing beyond


def test_depths_survive_resampling() -> None:
    depth = DepthAxis(first=-310.0, step=2.5, count=60)
    image = torch.zeros(60, 20, 20)
    image[24:30] = 1.0  # -251.25 to -236.25 mm
    for step in (1.0, 2.5, 4.0, 6.5):
        axis, found = respaced(depth, step), resampled(image, (2.5, 1.0, 1.0), (step, 2.0, 0.5))
        assert found.shape == (axis.count, 10, 40)
        assert axis.first - axis.step / 2 == pytest.approx(-311.25)
        assert axis.z(axis.count - 0.5) == pytest.approx(-161.25)
        weight = found.mean(dim=(1, 2)).double()
        mm = torch.tensor([axis.z(k) for k in range(axis.count)], dtype=torch.float64)
        assert float((weight * mm).sum() / weight.sum()) == pytest.approx(-243.75, abs=0.6 * step)


def test_nothing_is_cropped() -> None:
    images = [torch.rand(1, 5, 4, 6), torch.rand(1, 3, 7, 2)]
    batch, valid = padded(images)
    assert batch.shape == (2, 1, 5, 7, 6)
    for image, row, mask in zip(images, batch, valid, strict=True):
        assert torch.equal(row[0][mask].reshape(image.shape[1:]), image[0])
        assert int(mask.sum()) == image.numel()


def test_training_draws_anew_each_epoch_and_repeats_itself(twin: Path) -> None:
    module = data(twin, most_snippets=2, augment=ScanAugment())
    loader = module.train_dataloader()

    def epoch(number: int) -> list[tuple[list[str], float]]:
        loader.sampler.set_epoch(number)
        return [(batch.snippets, float(batch.volumes.sum())) for batch in loader]

    first = epoch(0)
    assert first == epoch(0)
    assert first != epoch(1)
    assert max(np.bincount(next(iter(loader)).snippet_index.numpy())) <= 2


def test_augmentation_changes_grey_values_and_nothing_else() -> None:
    image = torch.from_numpy(np.random.default_rng(0).permutation(4 * 5 * 6).reshape(1, 4, 5, 6) / 119).float()
    order = image.flatten().argsort()
    augment, clamped = ScanAugment(noise=0.0, shift=0.1, scale=0.2), 0
    for seed in range(20):
        found = augment(image, np.random.default_rng(seed))
        assert found.shape == image.shape
        steps = found.flatten()[order].diff()
        inside = (found.flatten()[order] > 0) & (found.flatten()[order] < 1)
        assert (steps >= 0).all()
        assert (steps[inside[1:] & inside[:-1]] > 0).all()  # each voxel's value is its own, and stays in place
        assert (found - image).abs().max() <= 0.2 / 2 + 0.1 + 1e-6
        assert not torch.equal(found, image)
        clamped += int(not inside.all())
    assert clamped
    noisy = ScanAugment(noise=0.01, shift=0.0, scale=0.0)(image / 2 + 0.25, np.random.default_rng(0))
    assert float((noisy - image / 2 - 0.25).std()) == pytest.approx(0.01, rel=0.2)


def test_augmented_volumes_keep_their_depths(twin: Path) -> None:
    plain, other = (
        data(twin, augment=augment).make_dataset("train", train=True)[Draw(0, [[0], [1], [2]])]
        for augment in (None, ScanAugment(noise=0.0))
    )
    assert plain.paths == other.paths
    assert torch.equal(plain.valid, other.valid)
    assert torch.equal(plain.first_mm, other.first_mm)
    assert plain.snippets == other.snippets
    for one, changed, mask in zip(plain.volumes[:, 0], other.volumes[:, 0], plain.valid, strict=True):
        order = one[mask].argsort()
        assert (changed[mask][order].diff()[one[mask][order].diff() > 0] >= 0).all()
        assert not torch.equal(one, changed)


def test_the_controls_hide_the_image_or_the_words(twin: Path) -> None:
    plain, blank, dealt = (next(iter(data(twin, blind=kind).test_dataloader())) for kind in ("none", "image", "text"))
    assert float(blank.volumes.abs().sum()) == 0
    assert blank.volumes.shape == (*plain.volumes.shape[:3], 1, 1)  # how wide a patient is, is image, too
    assert blank.snippets == plain.snippets
    assert torch.equal(dealt.volumes, plain.volumes)
    assert dealt.snippets != plain.snippets
    assert sorted(dealt.snippets) == sorted(plain.snippets)
    assert [torch.equal(a, b) for a, b in zip(dealt.intervals, plain.intervals, strict=True)] == [True] * len(
        plain.snippets
    )


def test_labels_are_told_apart_from_silence(twin: Path) -> None:
    module = data(twin)
    table = module.label_table("train")
    assert table.shape == (len(module.records("train")), len(module.label_names))
    assert len(module.label_names) == 18
    assert set(table.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("options", [{"spacing": (0.0, 1.0, 1.0)}, {"window": (100.0, -100.0)}])
def test_impossible_options_are_refused(twin: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        VolumeData(CTRATE(twin), **options)  # type: ignore[arg-type]


def test_only_air_beside_the_patient_is_left_away(twin: Path) -> None:
    module = data(twin)
    for path in [path for record in module.records("test") for path in record.volumes]:
        hu = module.voxels.store[path].whole()
        kept = trimmed(hu)
        assert kept.shape[0] == hu.shape[0]
        assert kept.size < 0.8 * hu.size
        assert (kept > AIR).sum() == (hu > AIR).sum()
        for side in (kept[:, 0], kept[:, -1], kept[:, :, 0], kept[:, :, -1]):
            assert (side > AIR).any()
    air = np.full((3, 4, 5), -1000, np.int16)
    assert trimmed(air).shape == air.shape


def test_ranks_share_out_voxels(twin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = data(twin, several="each", trim=False)
    whole = module.make_dataset("train", train=False)
    voxels = [whole.sample(0, chunk).scan.image.numel() for chunk in whole.pairs_of_image]
    assert whole.work() == voxels
    assert len(set(voxels)) > 1
    assert data(twin, blind="image").make_dataset("train", train=True).work() is None
    sampler = module.train_sampler(whole)
    assert sampler.work is None  # there is nobody to share with
    monkeypatch.setattr(module, "place", lambda: (2, 0))
    assert module.train_sampler(whole).work == voxels


def test_the_work_of_a_study_that_draws_is_that_of_its_volumes(twin: Path) -> None:
    module = data(twin, several="draw", trim=False)
    drawn = module.make_dataset("train", train=True).work()
    each = module.make_dataset("train", train=False)
    sizes = [[each.voxels(path).image.numel() for path in record.volumes] for record in each.records]
    assert drawn == [sum(own) / len(own) for own in sizes]
