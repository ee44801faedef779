from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from datamodules.augment import GroundingAugment
from datamodules.batches import GroundingBatch
from datamodules.grounding import GroundingData
from datamodules.packing import Draw
from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.splits import SplitRule
from medvl.errors import DataError


class Squares(PhraseSource):
    """Images of unequal shape with one bright square per sentence, and a sentence without a box."""

    name = "squares"

    def __init__(
        self, root: Path, images: int = 12, broken: int = 0, leak: bool = False, bad_rows: int = 0,
        split: SplitRule = "auto",
    ) -> None:  # fmt: skip
        super().__init__(split=split)
        self.given, self.count, self.leak, self.bad_rows = root, images, leak, bad_rows
        rng = np.random.default_rng(0)
        root.mkdir(exist_ok=True)
        (root / "table.csv").write_text("made by the test\n")
        for i in range(images):
            height, width = 60 + 10 * (i % 3), 80 - 10 * (i % 4)
            grey = rng.integers(0, 60, (height, width)).astype(np.uint8)
            for x1, y1, x2, y2 in self.squares(i):
                grey[int(y1 * height) : int(y2 * height), int(x1 * width) : int(x2 * width)] = 255
            Image.fromarray(grey).save(root / f"{i}.png")
        for i in range(broken):
            data = (root / f"{i}.png").read_bytes()
            (root / f"{i}.png").write_bytes(data[: len(data) // 2])

    @staticmethod
    def squares(i: int) -> list[tuple[float, float, float, float]]:
        return [(0.2 + 0.3 * k, 0.3, 0.4 + 0.3 * k, 0.6) for k in range(i % 3)]

    @property
    def root(self) -> Path:
        return self.given

    def tables(self) -> list[Path]:
        return [self.given / "table.csv"]

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        for i in range(self.count):
            split = ("train", "train", "val", "test")[i % 4]
            patient = "same" if self.leak else f"p{i}"
            for k, boxes in enumerate([*((box,) for box in self.squares(i)), ()]):
                yield PhraseRecord(
                    f"image {i}", f"{i}.png", f"sentence {i} {k}", boxes, patient, f"s{i}", self.own_split(split),
                    "squares", row=f"table.csv:{i * 10 + k}",
                )  # fmt: skip
        for k in range(self.bad_rows):
            yield Problem("box-inverted", f"table.csv:{900 + k}", "box ends before it begins")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))


def make(tmp_path: Path, stage: str = "fit", **options: object) -> GroundingData:
    known = {"images", "broken", "leak", "bad_rows", "split"}
    source = Squares(tmp_path / "data", **{k: v for k, v in options.items() if k in known})  # type: ignore[arg-type]
    rest = {k: v for k, v in options.items() if k not in known}
    data = GroundingData(source, **{"image_size": 64, "batch_size": 4, **rest})  # type: ignore[arg-type]
    data.setup(stage)
    return data


def same(a: GroundingBatch, b: GroundingBatch) -> bool:
    return a.phrases == b.phrases and torch.equal(a.images, b.images) and all(map(torch.equal, a.boxes, b.boxes))


@pytest.mark.parametrize("cache", ["disk", "memory", "none"])
def test_batches_hold_their_contract(tmp_path: Path, cache: str) -> None:
    data = make(tmp_path, cache=cache, augment=GroundingAugment())
    loader = data.train_dataloader()
    assert len(loader) == len(data.records("train")) // 4
    for batch in loader:
        images = len(batch.transforms)
        assert batch.images.shape == (images, 1, 64, 64)
        assert batch.images.dtype == torch.float32
        assert 0 <= batch.images.min() <= batch.images.max() <= 1
        assert batch.valid.shape == (images, 64, 64)
        assert not batch.images[:, 0][~batch.valid].any()
        assert len(batch) == len(batch.records) == len(batch.boxes) == 4
        assert batch.image_index.tolist() == sorted(batch.image_index.tolist())
        assert batch.image_index.unique().tolist() == list(range(images))
        for phrase, boxes, record in zip(batch.phrases, batch.boxes, batch.records, strict=True):
            assert phrase == record.phrase
            assert boxes.shape == (len(record.boxes), 4)
        assert len({record.path for record in batch.records}) == images
        assert same(pickle.loads(pickle.dumps(batch)), batch)  # noqa: S301


@pytest.mark.parametrize("augment", [None, GroundingAugment(mirror=0.5, noise=0, brightness=0.02, contrast=0.02)])
def test_boxes_follow_the_pixels(tmp_path: Path, augment: GroundingAugment | None) -> None:
    data = make(tmp_path, augment=augment)
    seen = 0
    for batch in data.train_dataloader():
        for i, boxes, record in zip(batch.image_index.tolist(), batch.boxes, batch.records, strict=True):
            for box, original in zip(boxes, record.boxes, strict=True):
                x1, y1, x2, y2 = (box * 64).tolist()
                inside = batch.images[i, 0, round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2]
                assert inside.min() > 0.8
                assert batch.images[i, 0, round(y1) + 2, max(round(x1) - 3, 0)] < 0.6
                back = batch.transforms[i].inverse().boxes(box[None])[0]
                assert torch.allclose(back, torch.tensor(original), atol=1e-4)
                seen += 1
    assert seen


def test_views_depend_on_seed_epoch_and_image_only(tmp_path: Path) -> None:
    dataset = make(tmp_path, augment=GroundingAugment()).dataset("train")
    group = next(pairs for pairs in dataset.pairs_of_image if len(pairs) > 1)
    whole, part = dataset[Draw(1, [group])], dataset[Draw(1, [group[:1]])]
    assert torch.equal(whole.images, part.images)
    assert not torch.equal(whole.images, dataset[Draw(2, [group])].images)


def test_a_batch_moves_to_a_device(tmp_path: Path) -> None:
    """As Lightning moves it: every tensor, and nothing else."""
    batch = next(iter(make(tmp_path).val_dataloader()))
    moved = move_data_to_device(batch, torch.device("meta"))
    tensors = [moved.images, moved.valid, moved.image_index, moved.share, *moved.boxes, *moved.image_boxes]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.phrases == batch.phrases
    assert moved.records == batch.records


def test_evaluation_is_whole_and_plain(tmp_path: Path) -> None:
    data = make(tmp_path, "test", augment=GroundingAugment(), eval_batch_size=3)
    first, second = list(data.test_dataloader()), list(data.test_dataloader())
    assert all(map(same, first, second))
    assert [r for batch in first for r in batch.records] == data.records("test")
    assert (data.crowded(0), data.crowded(1)) == (12, 0)
    assert data.counts["test"]["images"] == 3


def test_predict_over_a_split_or_all(tmp_path: Path) -> None:
    data = make(tmp_path, "predict", predict_split="all", augment=GroundingAugment())
    assert sum(map(len, data.predict_dataloader())) == len(data.records("all"))
    unaugmented = make(tmp_path, "predict", predict_split="train", augment=GroundingAugment())
    assert all(map(same, unaugmented.predict_dataloader(), unaugmented.predict_dataloader()))


def test_workers_build_the_same_batches(tmp_path: Path) -> None:
    options = {"augment": GroundingAugment()}
    alone = list(make(tmp_path, **options).train_dataloader())
    helped = list(make(tmp_path, num_workers=2, **options).train_dataloader())
    assert len(alone) == len(helped)
    assert all(map(same, alone, helped))


def test_blind_to_the_image(tmp_path: Path) -> None:
    for batch in make(tmp_path, blind="image", augment=GroundingAugment()).train_dataloader():
        assert not batch.images.any()
        assert batch.valid.any()


def test_blind_to_the_text(tmp_path: Path) -> None:
    data = make(tmp_path, "test", blind="text", images=40)
    moved = 0
    for batch in data.test_dataloader():
        for phrase, record in zip(batch.phrases, batch.records, strict=True):
            assert phrase.split()[1] == record.phrase.split()[1], "phrases stay with their image"
            moved += phrase != record.phrase
    assert moved
    dataset = data.dataset("test")
    group = next(pairs for pairs in dataset.pairs_of_image if len(pairs) == 3)
    orders = {tuple(dataset[Draw(epoch, [group])].phrases) for epoch in range(20)}
    assert len(orders) > 2
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(dataset.records[p].phrase for p in group))}


def test_bad_rows_raise_or_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(DataError) as told:
        make(tmp_path, bad_rows=2)
    assert "2 rows cannot be used (2 box-inverted)" in str(told.value)
    assert "table.csv:900" in str(told.value)
    assert "medvl data check squares" in str(told.value)
    assert len(str(told.value).splitlines()) <= 4
    with pytest.warns(UserWarning, match="2 rows are left out"):
        data = make(tmp_path, bad_rows=2, on_error="quarantine", max_quarantine=0.5)
    assert data.counts["dropped"] == {"box-inverted": 2}
    with pytest.raises(DataError, match="of the rows cannot be used"):
        make(tmp_path, bad_rows=9, on_error="quarantine")


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_damaged_images_raise_or_are_left_out(tmp_path: Path, cache: str) -> None:
    with pytest.raises(DataError, match="image-unreadable") as told:
        make(tmp_path, broken=1, cache=cache)
    assert "0.png" in str(told.value)
    with pytest.warns(UserWarning, match=r"left out.*image-unreadable"):
        data = make(tmp_path, broken=1, cache=cache, on_error="quarantine", max_quarantine=0.2)
    assert all(record.path != "0.png" for record in data.records("train"))
    assert all(record.path != "0.png" for batch in data.train_dataloader() for record in batch.records)


def test_a_damaged_image_without_cache_raises_when_read(tmp_path: Path) -> None:
    data = make(tmp_path, broken=1, cache="none")
    with pytest.raises(DataError, match=re.escape("0.png")):
        list(data.train_dataloader())


def test_patients_in_two_splits_always_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two splits"):
        make(tmp_path, leak=True, on_error="quarantine", max_quarantine=1.0)


def test_an_empty_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'val'") as told:
        make(tmp_path, images=2, split="column")
    assert "val 0" in str(told.value)
    assert "--data.source.split auto makes a val, deal deals" in str(told.value)
    make(tmp_path, "predict", images=2, predict_split="train", split="column")


def test_patients_dealt_for_want_of_a_split_are_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no row is in val: 1 of 2 patients in train become val"):
        data = make(tmp_path, images=2)
    assert data.facts["splits"].startswith("no row is in val")
    assert {split: len({r.patient_id for r in data.records(split)}) for split in ("train", "val")} == {
        "train": 1,
        "val": 1,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(tmp_path, split="deal").facts["splits"].startswith("patients are dealt")
    assert "splits" not in make(tmp_path).facts


class Recorder(LightningModule):
    """Notes what it is given; `stop_at` ends a run within an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[str, ...], float]] = []

    def training_step(self, batch: GroundingBatch, index: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, tuple(batch.phrases), float(batch.images.sum())))
        return (self.weight - batch.images.mean()) ** 2

    def validation_step(self, batch: GroundingBatch, index: int) -> None:
        assert isinstance(batch, GroundingBatch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, **options: object) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, use_distributed_sampler=False, **quiet, **options)  # type: ignore[arg-type]


def test_a_killed_run_goes_on_at_the_next_batch(tmp_path: Path) -> None:
    options = {"augment": GroundingAugment()}
    whole = Recorder()
    keeper = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1, auto_insert_metric_name=False)
    trainer(tmp_path, max_epochs=3, callbacks=[keeper]).fit(whole, make(tmp_path, **options))
    assert len(whole.seen) == 9
    for step in (1, 2, 3, 5, 6):
        rest = Recorder()
        resumed = trainer(tmp_path, max_epochs=3, enable_checkpointing=False)
        resumed.fit(rest, make(tmp_path, **options), ckpt_path=str(tmp_path / f"{step}.ckpt"), weights_only=True)
        assert rest.seen == whole.seen[step:]


def test_overfitting_repeats_the_same_batches(tmp_path: Path) -> None:
    model = Recorder()
    run = trainer(tmp_path, max_epochs=3, overfit_batches=2, enable_checkpointing=False)
    run.fit(model, make(tmp_path, augment=GroundingAugment()))
    assert len({phrases for _, phrases, _ in model.seen}) == 2
    assert [step[1:] for step in model.seen[:2]] * 3 == [step[1:] for step in model.seen]
