"""Studies that lack an image or a text: they train both towers, and two ranks evaluate them as one process does."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from ranks import as_launched, on_ranks
from test_alignment_task import make_task
from torch import Tensor

from datamodules.reports import ReportData
from datamodules.sources import ReportTable
from medvl.cli.main import main
from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss

REPO = Path(__file__).parents[2]
DISEASES = ("edema", "fracture", "mass")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of 45 studies: a third has no text, a third no image."""
    folder, lines = tmp_path_factory.mktemp("table"), ["image,text,patient_id,study_id,labels,split"]
    draw = np.random.default_rng(0)
    for i in range(45):
        split = "train" if i < 24 else "val" if i < 33 else "test"
        found = [name for k, name in enumerate(DISEASES) if (i // 3 + 1) >> k & 1]
        image, text = "" if i % 3 == 0 else f"{i}.png", "" if i % 3 == 1 else f"Study {i} shows {' and '.join(found)}."
        if image:
            Image.fromarray(draw.integers(0, 255, (16, 16), np.uint8)).save(folder / image)
        lines.append(f"{image},{text},p{i},s{i},{'|'.join(found)},{split}")
    (folder / "t.csv").write_text("\n".join(lines))
    return folder / "t.csv"


def trained(table: Path, folder: Path, loss: AlignmentLoss) -> tuple[dict[str, float], list[int]]:
    """Train for an epoch; return how far each part of the model went, and how many studies the loss was given."""
    task, counts = make_task(loss), []
    loss.register_forward_pre_hook(lambda _, given: counts.append(len(given[0])))
    before: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in task.model.named_parameters()}
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(task, ReportData(ReportTable(table, unpaired=True), image_size=16, batch_size=8, cache="none"))
    moved = dict.fromkeys(("image_encoder", "text_encoder", "image_proj", "text_proj"), 0.0)
    for name, weight in task.model.named_parameters():
        moved[name.partition(".")[0]] += float((weight.detach() - before[name]).abs().sum())
    return moved, counts


def test_they_are_trained_on(table: Path, tmp_path: Path) -> None:
    moved, counts = trained(table, tmp_path, MedTrimLoss(miner=BatchMiner(fallback="below")))
    assert counts == [8, 8, 8]
    assert min(moved.values()) > 1e-3
    _, counts = trained(table, tmp_path, InfoNCE())
    assert sum(counts) == 8  # those that have both


def test_labels_of_a_half_stand_in_for_it(table: Path) -> None:
    """Without any pair at all, images and texts find each other by labels: the most alike is of the other kind here."""
    data = ReportData(ReportTable(table, unpaired=True), image_size=16, batch_size=24, cache="none")
    data.setup("fit")
    (batch,) = data.train_dataloader()
    alone = batch.has_image ^ batch.has_text
    batch.valid[~alone] = False
    batch.texts = [text if keep else "" for text, keep in zip(batch.texts, alone.tolist(), strict=True)]
    task = make_task(MedTrimLoss(miner=BatchMiner(fallback="below")))
    losses = task.losses(task(batch), batch)
    losses["loss"].backward()
    assert losses["triplets"] > 8
    assert losses["it"] > 0
    assert losses["ti"] > 0
    for tower in (task.model.image_encoder, task.model.text_encoder):
        assert sum(float(p.grad.abs().sum()) for p in tower.parameters() if p.grad is not None) > 0


def medvl(words: str, folder: Path) -> None:
    """Run a command in this process, in `folder`; a metric that ranks do not share is an error."""
    with contextlib.chdir(folder), warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*sync_dist.*")
        assert main(words.split()) == 0


def on_rank(rank: int, folder: str, *commands: str) -> None:
    """Run commands on one of several ranks."""
    as_launched(rank)
    for words in commands:
        medvl(words, Path(folder))


def written(run: Path) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    """Return the embeddings and neighbours that test wrote."""
    lines = (run / "predictions/neighbours.jsonl").read_text().splitlines()
    embeddings: dict[str, list[Any]] = pq.read_table(run / "predictions/embeddings.parquet").to_pydict()
    return embeddings, [json.loads(line) for line in lines]


def check_shares(runs: Path) -> None:
    """What ranks have trained that keep a share of the parameters each is what ranks have that keep all."""
    whole, shared = (
        torch.load(runs / name / "latest/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("alignment", "shares")
    )
    assert list(shared) == list(whole)
    for name, value in whole.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_two_ranks_train_and_write_what_one_does(table: Path, tmp_path: Path) -> None:
    """Validation has 5 studies on one rank and 4 on the other, of which one is whole; test has 6 each."""
    (tmp_path / "mine.yaml").write_text(
        "model: {init_args: {loss: {class_path: MedTrimLoss, init_args: {patches: 0.0, "
        "miner: {class_path: BatchMiner, init_args: {fallback: below}}}}}}\n"
        f"data: {{init_args: {{source: {{class_path: ReportTable, init_args: {{root: {table}, unpaired: true}}}}}}}}\n"
    )
    options = (
        f"--config {REPO}/configs/quickstart/alignment.yaml --config mine.yaml --data.image_size 16 "
        "--data.batch_size 4 --data.eval_batch_size 4"
    )
    two_ranks = f"{options} --trainer.devices 2 --trainer.strategy ddp"
    fit = f"fit {two_ranks} --trainer.max_steps 2 --trainer.val_check_interval 1"
    (tmp_path / "shares.yaml").write_text("trainer: {devices: 2, strategy: {class_path: ShardedStrategy}}\n")
    shares = f"fit {options} --config shares.yaml --name shares --trainer.max_steps 2 --trainer.val_check_interval 1"
    on_ranks(on_rank, str(tmp_path), fit, f"test {two_ranks} --ckpt_path last", shares)
    check_shares(tmp_path / "runs/alignment")
    run = (tmp_path / "runs/alignment/alignment/latest").resolve()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    assert losses
    assert np.isfinite(losses).all()
    two, two_lines = written(run)
    medvl(f"test {options} --ckpt_path last", tmp_path)
    one, one_lines = written(run)
    assert one["study_id"] == two["study_id"] == [f"s{i}" for i in range(33, 45)]
    for name, lacking in (("image_embedding", 0), ("text_embedding", 1)):
        assert [row is None for row in two[name]] == [i % 3 == lacking for i in range(33, 45)]
        np.testing.assert_allclose(
            torch.tensor([row for row in two[name] if row]), torch.tensor([row for row in one[name] if row]), atol=1e-5
        )
    assert [line["study_id"] for line in two_lines] == one["study_id"]
    assert [line.keys() for line in two_lines] == [line.keys() for line in one_lines]
