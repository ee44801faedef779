"""The alignment task: it learns what belongs together and nothing else, and comes back from a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.batches import ReportBatch
from datamodules.records import ReportRecord
from datamodules.reports import ReportData
from datamodules.sources import MIMICCXR
from datamodules.twins import mimic_cxr
from medvl.cli.main import main
from medvl.encoders import TinyConv, TinyText
from medvl.errors import ConfigError
from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss
from tasks.alignment import AlignmentTask
from tasks.alignment.evaluation import Evaluation
from tasks.alignment.model import Centre
from tasks.alignment.studies import findings, label_scores, patients

QUICKSTART = Path(__file__).parents[2] / "configs/quickstart/alignment.yaml"
NAMES = ("Edema", "No Finding", "Fracture")
TEXTS = ("pulmonary edema", "a rib fracture", "clear lungs", "edema and a fracture", "left effusion", "heart enlarged")
LABELS = ((1, 0, 0), (0, 0, 1), (0, 1, 0), (1, -1, 1), (torch.nan, torch.nan, -1), (0, 1, 0))
SIDE, STEPS = 32, 40


def make_batch(rows: list[int] | None = None) -> ReportBatch:
    """Return studies of which each has noise of its own as image, and its text."""
    chosen = list(range(len(TEXTS))) if rows is None else rows
    noise = torch.rand(len(TEXTS), 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return ReportBatch(
        images=noise[chosen],
        valid=torch.ones(len(chosen), SIDE, SIDE, dtype=torch.bool),
        texts=[TEXTS[row] for row in chosen],
        labels=torch.tensor(LABELS)[chosen],
        label_names=NAMES,
        paths=["a.png"] * len(chosen),
        records=[ReportRecord(("a.png",), f"p{row // 2}", f"s{row}", "train", "test") for row in chosen],
    )


def make_task(loss: AlignmentLoss | None = None, **more: Any) -> AlignmentTask:
    torch.manual_seed(0)
    return AlignmentTask(TinyConv(width=64), TinyText(width=32, depth=1, buckets=512), loss, dim=32, **more)


def recall(task: AlignmentTask, batch: ReportBatch) -> float:
    evaluation = Evaluation(at=(1,))
    with torch.no_grad():
        evaluation.update(task.eval()(batch), batch)
    found = evaluation.compute()
    return float(found["i2t/r@1"] + found["t2i/r@1"]) / 2


def test_it_learns_the_pairs_it_is_given_and_no_others() -> None:
    batch = make_batch()
    mixed = replace(batch, texts=batch.texts[1:] + batch.texts[:1])
    for shown, finds_true in ((batch, True), (mixed, False)):
        task = make_task()
        optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
        for _ in range(STEPS):
            optimizer.zero_grad()
            task.losses(task(shown), shown)["loss"].backward()
            optimizer.step()
        assert recall(task, shown) == 1.0
        assert (recall(task, batch) == 1.0) == finds_true
        assert recall(task, batch) >= 1.0 or recall(task, batch) <= 0.2


def test_scores_are_the_overlap_of_present_findings() -> None:
    found = findings(make_batch())
    assert found.tolist() == [[1, 0], [0, 1], [0, 0], [1, 1], [0, 0], [0, 0]]
    sets = [{k for k, value in enumerate(row) if value} for row in found.tolist()]
    expected = [[0.85 * (len(a & b) / len(a | b) if a | b else 1) for b in sets] for a in sets]
    torch.testing.assert_close(label_scores(found), torch.tensor(expected))


def test_patients_share_a_number_within_a_source() -> None:
    batch = make_batch()
    numbers = patients(batch).tolist()
    assert [numbers.index(number) for number in numbers] == [0, 0, 2, 2, 4, 4]
    assert min(numbers) >= 0
    elsewhere = [replace(record, source="other") for record in batch.records]
    assert not set(numbers) & set(patients(replace(batch, records=elsewhere)).tolist())


def test_what_has_no_image_or_no_text_changes_nothing() -> None:
    batch, task = make_batch(), make_task(InfoNCE()).eval()
    whole = task.losses(task(make_batch([0, 1, 2, 3])), make_batch([0, 1, 2, 3]))
    batch.valid[4], batch.texts[5] = False, ""
    torch.testing.assert_close(task.losses(task(batch), batch), whole)
    evaluation = Evaluation()
    evaluation.update(task(batch), batch)
    assert evaluation.compute()["texts"] == 4


def test_without_labels_there_is_no_class_retrieval_and_losses_that_need_them_say_so() -> None:
    batch = replace(make_batch(), labels=torch.zeros(len(TEXTS), 0), label_names=())
    task, evaluation = make_task(), Evaluation()
    evaluation.update(task(batch), batch)
    found = evaluation.compute()
    assert found["mean_recall"].isfinite()
    assert not [name for name in found if "p@" in name]
    with pytest.raises(ConfigError, match="needs scores"):
        make_task(MedTrimLoss(miner=BatchMiner())).losses(task(batch), batch)


def test_frozen_parts_rest() -> None:
    task = make_task(freeze=["text_encoder"]).train()
    assert not any(parameter.requires_grad for parameter in task.model.text_encoder.parameters())
    assert not any(module.training for module in task.model.text_encoder.modules())
    assert all(parameter.requires_grad for parameter in task.model.image_encoder.parameters())
    assert task.model.image_encoder.training
    with pytest.raises(ConfigError, match="freeze: text_encode"):
        make_task(freeze=["text_encodes"])


def test_the_loss_is_trained_too() -> None:
    class Still:
        estimated_stepping_batches = 10

    task = make_task(InfoNCE(), lr_scale={"text_encoder": 0.0})
    task._trainer = Still()  # type: ignore[assignment]
    groups = task.configure_optimizers()["optimizer"].param_groups
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in task.parameters()}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "mimic-cxr"
    mimic_cxr.write(folder, 24, seed=0, size=64, workers=0)
    return folder


def medvl(words: str) -> None:
    assert main(words.split()) == 0


def short(twin: Path, steps: int) -> str:
    return (
        f"--config {QUICKSTART} --data.source.root {twin} --data.image_size 32 --data.batch_size 4 "
        f"--trainer.max_steps {steps} --trainer.val_check_interval 1 --trainer.enable_progress_bar false"
    )


def fit(folder: Path, twin: Path, callbacks: list[Callback], resume: Path | None = None) -> dict[str, torch.Tensor]:
    """Train for four steps, over the end of an epoch, and return the weights and what the loss keeps."""
    task = make_task(MedTrimLoss(miner=BatchMiner(negatives="random", fallback="below"), paired=1.0))
    data = ReportData(MIMICCXR(twin), image_size=32, batch_size=4)
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", max_steps=4, logger=False, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        enable_checkpointing=bool(callbacks), limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    return task.state_dict()


def test_a_killed_run_ends_as_if_it_had_not_been(twin: Path, tmp_path: Path) -> None:
    keeper = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1, auto_insert_metric_name=False)
    whole = fit(tmp_path, twin, [keeper])
    assert whole["loss.step"] == 4
    torch.testing.assert_close(fit(tmp_path, twin, [], tmp_path / "2.ckpt"), whole, rtol=0, atol=0)


def test_a_run_is_tested(twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    medvl(f"fit {short(twin, 1)}")
    run = Path("runs/alignment/alignment/latest").resolve()
    medvl(f"test --run {run} --ckpt_path best")
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    tested = [line for line in lines if "test/mean_recall" in line]
    assert 0 < tested[-1]["test/mean_chance"] < 1
    assert "test/i2t/p@10/Edema" in tested[-1]
    assert not [name for name in tested[-1] if name.endswith("/No Finding")]


LOSSES = {
    "InfoNCE": {},
    "SoftInfoNCE": {"weight": 0.3},
    "SigmoidLoss": {},
    "SupCon": {"positives": "exact"},
    "MedTrimLoss": {"miner": {"class_path": "BatchMiner", "init_args": {"fallback": "below"}}},
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_plugs_in(name: str, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loss = {"class_path": name, "init_args": LOSSES[name]}
    Path("loss.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"loss": loss}}}))
    words = short(twin, 1).replace("--data.source", "--config loss.yaml --data.source")
    medvl(f"fit {words} --trainer.limit_val_batches 0")
    kept = yaml.safe_load(Path("runs/alignment/alignment/latest/fit.yaml").read_text())
    assert kept["model"]["init_args"]["loss"]["class_path"].endswith(f".{name}")


def test_centred_vectors_part_and_evaluation_does_not_look_at_the_batch() -> None:
    centre = Centre(3, momentum=0.5)
    rows, there = torch.tensor([[1.0, 2, 3], [3, 2, 1], [100, 100, 100]]), torch.tensor([True, True, False])
    assert centre(rows, there).tolist()[:2] == [[-1, 0, 1], [1, 0, -1]]
    assert centre(rows[:0], there[:0]).shape == (0, 3)
    assert centre.mean.tolist() == [1, 1, 1]  # half of the mean, for one batch
    assert torch.equal(centre.eval()(rows, there), rows - 1)
    batch, plain, centred = make_batch(), make_task(), make_task(centred=True)
    with torch.no_grad():
        near, apart = (task(batch).image @ task(batch).image.T for task in (plain, centred))
    assert near.mean() > 0.5
    assert abs(float(apart.mean())) < 0.2
