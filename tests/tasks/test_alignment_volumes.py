"""Volumes through the alignment task: CT by entities of its reports, MRI by a table, and no 2D encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Trainer

from datamodules.batches import VolumeBatch
from datamodules.sources import CTRATE, VolumeTable
from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from medvl.cli.composed import EntityFile
from medvl.cli.main import main
from medvl.encoders import Tiny3D, TinyConv, TinyText
from medvl.encoders.base import ImageEncoder
from medvl.errors import ConfigError
from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss
from tasks.alignment import AlignmentTask

CONFIG = Path(__file__).parents[2] / "configs/alignment/medtrim_ct.yaml"
SMALL = ["--model.image_encoder", "Tiny3D", "--model.image_encoder.width", "16", "--model.dim", "16"]
SMALL += ["--model.text_encoder", "TinyText", "--model.text_encoder.width", "32", "--model.text_encoder.depth", "1"]
DISEASES = ("edema", "fracture", "mass")


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct") / "twin"
    ct_rate.write(folder, 20, 3, size=32, workers=0)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of MRI-like volumes: positive values without a unit, another range in each."""
    folder, lines = tmp_path_factory.mktemp("mri"), ["volume,text,patient_id,labels,split"]
    draw = np.random.default_rng(0)
    for i in range(18):
        values = draw.gamma(2.0, 40.0 * (1 + i), (12, 12, 8)).astype(np.float32)
        nibabel.Nifti1Image(values, np.diag([4.0, 4.0, 4.0, 1.0])).to_filename(folder / f"{i}.nii.gz")  # type: ignore[attr-defined,no-untyped-call]
        found = [name for k, name in enumerate(DISEASES) if (i % 7 + 1) >> k & 1]
        split = "train" if i < 10 else "val" if i < 14 else "test"
        lines.append(f"{i}.nii.gz,Scan {i} shows {' and '.join(found)}.,p{i},{'|'.join(found)},{split}")
    (folder / "t.csv").write_text("\n".join(lines))
    return folder / "t.csv"


def make_task(loss: AlignmentLoss, encoder: ImageEncoder | None = None, **more: Any) -> AlignmentTask:
    torch.manual_seed(0)
    return AlignmentTask(encoder or Tiny3D(width=16), TinyText(width=32, depth=1, buckets=512), loss, dim=16, **more)


def trained(task: AlignmentTask, data: VolumeData, folder: Path) -> dict[str, float]:
    """Train for two steps; return what was logged of training, validation and test."""
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", max_steps=2, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, enable_checkpointing=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(task, data)
    logged = dict(trainer.callback_metrics)
    trainer.test(task, data, verbose=False)
    return {name: float(value) for name, value in (logged | dict(trainer.callback_metrics)).items()}


def test_the_recipe_goes_from_reports_to_retrieval(
    twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.chdir(tmp_path)
    assert main(["data", "reports", "ct-rate", str(twin), "--output", "reports.jsonl"]) == 0
    assert main(["ontology", "extract", "--input", "reports.jsonl", "--output", "entities.jsonl"]) == 0
    words = ["--config", str(CONFIG), *SMALL, "--data.source.root", str(twin), "--data.num_workers", "0"]
    words += ["--data.spacing", "[12.0, 16.0, 16.0]", "--data.batch_size", "4", "--data.entities.settings.fallback"]
    words += ["below", "--trainer.max_steps", "2", "--trainer.precision", "32-true", "--trainer.accelerator", "cpu"]
    assert main(["fit", *words, "--trainer.log_every_n_steps", "1", "--trainer.val_check_interval", "1"]) == 0, (
        capsys.readouterr().err
    )
    (run,) = Path("runs").glob("alignment/*/*-*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert any("val/i2t/p@10" in line for line in lines)
    assert main(["test", "--run", str(run)]) == 0
    assert (run / "predictions/neighbours.jsonl").is_file()
    assert main(["retrieve", "--run", str(run), "--query", "effusion"]) == 2
    assert "neighbours.jsonl" in capsys.readouterr().err
    rows = pq.read_table(run / "predictions/embeddings.parquet").to_pylist()
    tested = [record for record in CTRATE(twin).load().records if record.split == "test"]
    assert {row["study_id"] for row in rows} == {record.study_id for record in tested}
    assert all(row["image"].endswith(".nii.gz") for row in rows)
    assert [np.linalg.norm(row["image_embedding"]) for row in rows] == pytest.approx([1.0] * len(rows), abs=1e-5)


def test_triplets_bring_each_of_their_volumes_once(twin: Path, tmp_path: Path) -> None:
    records = [record for record in CTRATE(twin).load().records if record.split == "train"]
    found = [{"disease": name, "status": "present", "adjectives": [], "directions": []} for name in DISEASES]
    entities = tmp_path / "e.jsonl"
    entities.write_text(
        "\n".join(
            json.dumps({"id": record.study_id, "entities": [one for k, one in enumerate(found) if (i + 1) >> k & 1]})
            for i, record in enumerate(CTRATE(twin).load().records)
        )
    )
    data = VolumeData(
        CTRATE(twin), (12.0, 16.0, 16.0), batch_size=3, entities=EntityFile(str(entities)), remine_every=1
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, VolumeBatch)
    assert batch.triplets is not None
    assert batch.entities is not None
    assert sorted(set(batch.triplets.flatten().tolist())) == list(range(len(batch)))
    assert len({record.study_id for record in batch.records}) == len(batch) == len(batch.entities)
    place = {record.study_id: i for i, record in enumerate(CTRATE(twin).load().records)}
    bits = [[(place[r.study_id] + 1) >> k & 1 for k in range(3)] for r in batch.records]
    assert batch.entities.rows[:, 1:4].tolist() == bits
    assert {record.study_id for record in batch.records} <= {record.study_id for record in records}
    (part, *_) = batch.chunks(2)
    assert (part.triplets, part.entities) == (None, None)
    assert "mined" in data.facts["triplets"]


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        (MedTrimLoss(miner=BatchMiner(fallback="below"), patches=0.5), {}),
        (MedTrimLoss(miner=BatchMiner(fallback="below")), {"centred": True}),
        (InfoNCE(), {"image_pooling": "lse"}),
    ],
)
def test_scans_without_a_unit_train_from_a_table(
    scans: Path, tmp_path: Path, loss: AlignmentLoss, more: dict[str, Any]
) -> None:
    data = VolumeData(VolumeTable(scans, relative=True), spacing=(4.0, 4.0, 4.0), batch_size=5)
    found = trained(make_task(loss, **more), data, tmp_path)
    assert np.isfinite(found["train/loss"])
    assert ("val/loss" in found) == (getattr(loss, "patches", 0) == 0)
    for name in ("val/mean_recall", "test/mean_recall", "test/i2t/r@1", "test/i2t/p@1", "test/i2i/p@1", "test/t2i/p@1"):
        assert 0 <= found[name] <= 1
    assert found["test/i2t/chance@1"] == pytest.approx(1 / 4)
    batch = next(iter(data.test_dataloader()))
    for image, valid in zip(batch.images[:, 0], batch.valid, strict=True):  # each range fills the window
        assert float(image[valid].min()) < 0.02
        assert float(image[valid].max()) == 1
        assert 0.1 < float(image[valid].median()) < 0.5


def test_the_encoder_has_to_be_of_the_kind_of_the_images(scans: Path) -> None:
    data = VolumeData(VolumeTable(scans, relative=True), spacing=(4.0, 4.0, 4.0), batch_size=2)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    with pytest.raises(ConfigError, match="TinyConv encodes no volumes"):
        make_task(InfoNCE(), TinyConv(width=64))(batch)
    with pytest.raises(ConfigError, match="Tiny3D encodes no images in two dimensions"):
        make_task(InfoNCE()).model.embed_images(batch.images[:, :, 0])
