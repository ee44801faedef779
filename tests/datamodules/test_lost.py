"""Files that vanish, or break, while a model is trained or tested: left out, told once, counted, and capped."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from ranks import as_launched, on_ranks

from datamodules.batches import GroundingBatch, ReportBatch, VolumeBatch
from datamodules.grounding import GroundingData
from datamodules.packing import Draw
from datamodules.records import Problem
from datamodules.reports import ReportData
from datamodules.shared import SourceData
from datamodules.sources import CTRATE
from datamodules.sources.report_table import ReportTable
from datamodules.sources.table import PhraseTable
from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from medvl.cli.lost import LostRows
from medvl.cli.metrics_file import MetricsFile
from medvl.cli.recording import RunRecorder
from medvl.errors import DataError

Data = SourceData[Any, Any]
TRAIN, VAL, TEST, BATCH = 16, 4, 6, 4


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one, torch would warn of two workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)


def films(folder: Path) -> Path:
    """Write images and a table of a sentence and a text for each."""
    rng = np.random.default_rng(0)
    lines = ["image,text,phrase,boxes,split,patient_id"]
    for i, split in enumerate(["train"] * TRAIN + ["val"] * VAL + ["test"] * TEST):
        Image.fromarray(rng.integers(0, 255, (40, 30), dtype=np.uint8)).save(folder / f"{i}.png")
        lines.append(f'{i}.png,Text {i}.,Phrase {i}.,"[[1, 2, 9, 8]]",{split},p{i}')
    (folder / "t.csv").write_text("\n".join(lines))
    return folder / "t.csv"


def make(table: Path, kind: str = "grounding", **options: Any) -> Data:
    given = {"image_size": 32, "batch_size": BATCH, "cache": "none", "on_error": "quarantine", **options}
    if kind == "grounding":
        return GroundingData(PhraseTable(table, box_format="xyxy_px"), **given)
    return ReportData(ReportTable(table), **given)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return films(tmp_path)


def paths_of(batch: GroundingBatch | ReportBatch | VolumeBatch) -> list[str]:
    return [path for record in batch.records for path in record.paths]


def told(job: Callable[[], Any]) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = job()
    return found, [str(one.message) for one in caught]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["grounding", "reports"])
def test_batches_go_on_without_what_vanishes(table: Path, kind: str, workers: int) -> None:
    data = make(table, kind, num_workers=workers, max_quarantine=0.2)
    data.setup("fit")
    whole = list(data.train_dataloader())
    gone = {"3.png": "empty", "7.png": "gone"}
    (table.parent / "3.png").write_bytes(b"")
    (table.parent / "7.png").unlink()
    loader = data.train_dataloader()
    rest, said = told(lambda: [list(loader), list(loader)])
    assert data.intake.lost["train"].keys() == {"t.csv:5", "t.csv:9"}
    assert data.counts["dropped"] == {"sample-lost": 2}
    assert data.settle() == {"train": 2}
    assert len(said) == 2  # in two epochs
    assert all(f"{table.parent}/{name}" in " ".join(said) for name in gone)
    for before, after in zip(whole, rest[0], strict=True):
        kept = [i for i, path in enumerate(paths_of(before)) if path not in gone]
        assert paths_of(after) == [paths_of(before)[i] for i in kept]
        assert torch.equal(after.images, before.images[kept])
    assert sum(map(len, rest[0])) == TRAIN - 2
    if workers:
        loader._iterator = None


def test_volumes_whose_voxels_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    ct_rate.write(tmp_path / "ct", 8, 3, size=24, workers=0)
    data = VolumeData(
        CTRATE(tmp_path / "ct"), spacing=(8.0, 8.0, 8.0), batch_size=3, on_error="quarantine", max_quarantine=0.5,
        several="first",
    )  # fmt: skip
    data.setup("fit")
    whole = next(iter(data.train_dataloader()))
    lost = whole.paths[1]
    data.voxels.store.file(lost, ".b2nd").unlink()  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="a converted volume is missing or damaged"):
        batch = next(iter(data.train_dataloader()))
    assert batch.paths == [path for path in whole.paths if path != lost]
    said = zip(whole.snippets, whole.snippet_index.tolist(), strict=True)
    assert batch.snippets == [snippet for snippet, row in said if row != 1]
    assert batch.snippet_index.max() < 2
    assert data.counts["dropped"]["sample-lost"] == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_stop_the_run(table: Path, workers: int) -> None:
    data = make(table, num_workers=workers, max_quarantine=0.1)
    data.setup("fit")
    for name in ("1.png", "2.png"):
        (table.parent / name).write_bytes(b"")
    loader = data.train_dataloader()
    with pytest.raises(DataError, match=r"12% of the rows cannot be used \(2 sample-lost\)") as caught:
        told(lambda: list(loader))
    assert "max_quarantine allows 10%" in str(caught.value)
    assert caught.value.command == data.source.check_command
    loader._iterator = None


def test_a_row_of_several_sentences_counts_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(table, max_quarantine=0.1)
    data.setup("fit")
    records = data.records("train")
    monkeypatch.setattr(data.intake, "records", lambda split: records * 3)
    lost = [Problem("sample-lost", record.row, "gone") for record in records[:2]]
    with pytest.raises(DataError, match="12% of the rows"):
        told(lambda: data.intake.lose("train", lost * 3))


def test_raise_still_raises(table: Path) -> None:
    data = make(table, on_error="raise", max_quarantine=1.0)
    data.setup("fit")
    data.setup("test")
    for name in ("1.png", f"{TRAIN + VAL}.png"):
        (table.parent / name).unlink()
    for loader in (data.train_dataloader(), data.test_dataloader()):
        with pytest.raises(DataError, match=r"\d\.png"):
            list(loader)


def test_a_batch_of_which_nothing_is_left(table: Path) -> None:
    data = make(table, "reports", max_quarantine=0.5)
    data.setup("fit")
    data.setup("test")
    lost = paths_of(next(iter(data.train_dataloader())))
    for name in [*lost, *(f"{TRAIN + VAL + i}.png" for i in range(BATCH))]:
        (table.parent / name).unlink()
    with pytest.raises(DataError, match="67% of the rows"):
        told(lambda: list(data.test_dataloader()))
    data.intake.max_quarantine = 0.9
    trained, _ = told(lambda: [list(data.train_dataloader()) for _ in range(2)])
    for batches in trained:
        assert len(batches) == TRAIN // BATCH  # other ranks wait for as many
        assert len(batches[0]) == 1
        assert not set(paths_of(batches[0])) & set(lost)
    assert paths_of(trained[0][0]) == paths_of(trained[1][0])
    tested, _ = told(lambda: list(data.test_dataloader()))
    assert [paths_of(batch) for batch in tested] == [[f"{TRAIN + VAL + i}.png" for i in range(BATCH, TEST)]]
    assert data.settle() == {"test": BATCH, "train": BATCH}


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_at_all_is_an_error(table: Path, split: str) -> None:
    data = make(table, max_quarantine=1.0)
    data.setup("fit")
    data.setup("test")
    for path in table.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="can be read any more"):
        told(lambda: list(data.train_dataloader() if split == "train" else data.test_dataloader()))


def test_triplets_stay_whole() -> None:
    draw = Draw(3, [[10], [11], [12], [13], [14]], [[0, 1, 2], [2, 3, 4], [0, 4, 3]])
    assert draw.where([True, False, True, True, True]) == Draw(3, [[10], [12], [13], [14]], [[1, 2, 3], [0, 3, 2]])
    assert Draw(0, [[5, 6], [7]]).where([False, True]) == Draw(0, [[7]])


class Seen(LightningModule):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, 1)
        self.seen: list[tuple[str, ...]] = []

    def training_step(self, batch: ReportBatch, index: int) -> torch.Tensor:
        self.seen.append(tuple(batch.paths))
        return self.net(batch.images.mean(dim=(1, 2, 3))[:, None]).square().mean()

    def validation_step(self, batch: ReportBatch, index: int) -> None:
        self.log("val/loss", batch.images.mean(), batch_size=len(batch), sync_dist=True)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, use_distributed_sampler=False, num_sanity_val_steps=0, **quiet | options)


def test_a_run_that_goes_on_loses_the_same(table: Path) -> None:
    lost = paths_of(next(iter(fresh(table).train_dataloader())))
    for name in lost:
        (table.parent / name).write_bytes(b"no image")  # which is seen when it is read
    whole, folder = Seen(), table.parent
    keeper = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1, auto_insert_metric_name=False)
    told(lambda: trainer(folder, max_epochs=2, callbacks=[keeper, LostRows()]).fit(whole, fresh(table)))
    assert len(whole.seen) == 2 * TRAIN // BATCH
    for step in (1, 3, 4, 6):
        rest, again = Seen(), trainer(folder, max_epochs=2, enable_checkpointing=False, callbacks=[LostRows()])
        told(partial(again.fit, rest, fresh(table), ckpt_path=str(folder / f"{step}.ckpt"), weights_only=True))
        assert rest.seen == whole.seen[step:]
        assert all(map(torch.equal, rest.parameters(), whole.parameters()))


def test_the_run_says_what_it_lost(table: Path) -> None:
    data, folder, model = fresh(table), table.parent / "run", Seen()
    for i in (0, TRAIN, TRAIN + VAL + BATCH, TRAIN + VAL + BATCH + 1):  # a whole batch of test
        (table.parent / f"{i}.png").unlink()
    folder.mkdir()
    parts = {"logger": MetricsFile(folder, "fit"), "callbacks": [RunRecorder(folder, "{}", "fit", False), LostRows()]}
    run = trainer(folder, max_epochs=2, enable_checkpointing=False, **parts)
    _, said = told(lambda: [run.fit(model, data), run.test(model, data, verbose=False)])
    assert sum("1 rows of train could be read no more" in one for one in said) == 1
    assert sum("2 rows of test could be read no more" in one for one in said) == 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/lost"] for line in lines if "train/lost" in line] == [1, 1]
    assert [line["val/lost"] for line in lines if "val/lost" in line] == [1, 1]
    assert [line["test/lost"] for line in lines if "test/lost" in line] == [2]
    assert json.loads((folder / "data.json").read_text())["dropped"] == "2 sample-lost"  # when it had been trained


def fresh(table: Path) -> Data:
    data = make(table, "reports", max_quarantine=0.5)
    data.setup("fit")
    return data


def one_rank(rank: int, folder: str) -> None:
    """Train and test where a batch of the first rank is gone, and a row of the second."""
    as_launched(rank)
    warnings.simplefilter("ignore")
    table = Path(folder) / "t.csv"
    whole = {"devices": 2, "strategy": "ddp", "enable_checkpointing": False}
    run = trainer(Path(folder), max_epochs=2, callbacks=[LostRows()], **whole)
    data, model = make(table, "reports", max_quarantine=0.5), Seen()
    run.fit(model, data)
    assert run.callback_metrics["train/lost"] == 5
    assert "val/lost" not in run.callback_metrics
    assert len(model.seen) == 2 * TRAIN // (2 * BATCH)
    metrics = run.test(model, data, verbose=False)[0]
    assert metrics["test/lost"] == 2
    assert data.facts["dropped"] == "7 sample-lost"
    data.intake.max_quarantine = 0.3  # more than either rank has lost, less than both
    rows = sorted(data.intake.lost["train"].items())
    data.intake.lost = {"train": dict(rows[3 * rank : 3 * rank + 3])}
    with pytest.raises(DataError, match="31% of the rows"):
        data.settle()


def test_two_ranks(table: Path) -> None:
    data = fresh(table)
    data.place = lambda: (2, 0)  # type: ignore[method-assign]
    lost = paths_of(next(iter(data.train_dataloader())))
    data.place = lambda: (2, 1)  # type: ignore[method-assign]
    lost += paths_of(next(iter(data.train_dataloader())))[:1]
    first = TRAIN + VAL
    for name in [*lost, f"{first}.png", f"{first + 2}.png"]:
        (table.parent / name).write_bytes(b"no image")  # which is seen when it is read
    on_ranks(one_rank, str(table.parent))
