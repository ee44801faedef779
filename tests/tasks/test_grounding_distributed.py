"""Grounding on two ranks: the gradient of one process, and evaluation that counts each pair once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from ranks import on_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datamodules.batches import GroundingBatch
from datamodules.records import PhraseRecord
from datamodules.sources import PadChestGR
from medvl.encoders import TinyConv, TinyText
from medvl.geometry import AxisTransform
from tasks.grounding import GroundingCriterion, GroundingTask
from tasks.grounding.denoising import Denoising

REPO, SIDE = Path(__file__).parents[2], 48
BOX = [[0.2, 0.3, 0.5, 0.6]]
PAIRS = {  # the sentences of each image with their boxes
    0: [("no effusion", []), ("clear lungs", [])],
    1: [("a nodule in the left upper lobe", BOX), ("two bands", [*BOX, [0.6, 0.5, 0.9, 0.8]]), ("a mass", BOX)],
    2: [("heart of normal size", []), ("a small infiltrate", [[0.1, 0.6, 0.4, 0.9]])],
}
# Uneven, and in the first the sentences of one rank have no boxes at all; in the second none has.
SHARES = {"one-rank-silent": ([0], [1, 2]), "all-silent": ([0], [0]), "uneven": ([1, 0], [2])}


def make_batch(images: list[int]) -> GroundingBatch:
    """Return a batch of these images; each has its own pixels, padding at the bottom and its sentences."""
    pixels = [torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(i)).double() for i in images]
    valid = torch.ones(len(images), SIDE, SIDE, dtype=torch.bool)
    for row, image in enumerate(images):
        valid[row, SIDE - 8 * image :] = image == 0
    pairs = [pair for image in images for pair in PAIRS[image]]
    return GroundingBatch(
        images=torch.stack(pixels),
        valid=valid,
        phrases=[phrase for phrase, _ in pairs],
        image_index=torch.arange(len(images)).repeat_interleave(torch.tensor([len(PAIRS[i]) for i in images])),
        boxes=[torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) for _, boxes in pairs],
        image_boxes=[
            torch.tensor([box for _, boxes in PAIRS[i] for box in boxes], dtype=torch.float64).reshape(-1, 4)
            for i in images
        ],
        share=torch.ones(len(images), dtype=torch.float64),
        transforms=[AxisTransform.letterbox((SIDE, SIDE), (SIDE, SIDE))] * len(images),
        records=[PhraseRecord("", "", phrase, (), "", "", "train", "test") for phrase, _ in pairs],
    )


def make_task() -> GroundingTask:
    torch.manual_seed(0)
    task = GroundingTask(
        TinyConv(width=64, context=1), TinyText(width=32, depth=1, buckets=512),
        width=32, heads=2, fusion_layers=1, decoder_layers=2, queries=3, ff_ratio=2, dropout=0.0,
        criterion=GroundingCriterion(denoising=Denoising(queries=2, noise=0.0)),  # noise would differ between ranks
    ).double()  # fmt: skip
    for parameter in task.parameters():  # heads that start at zero let no gradient through to what is below them
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return task


def gradients(wrapped: nn.Module, task: GroundingTask, batch: GroundingBatch) -> dict[str, Tensor]:
    """Return the loss and the gradient of every parameter."""
    loss = task.criterion(wrapped(batch), batch)["loss"]
    loss.backward()
    missing = [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    return {"loss": loss.detach()} | {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


def one_rank(rank: int, folder: str) -> None:
    """Write the gradients of one of two ranks, for every share."""
    for name, shares in SHARES.items():
        task = make_task()
        torch.save(gradients(DistributedDataParallel(task), task, make_batch(shares[rank])), f"{folder}/{name}-{rank}")


def test_two_ranks_give_the_gradient_of_one_process(tmp_path: Path) -> None:
    on_ranks(one_rank, str(tmp_path))
    for name, (first, second) in SHARES.items():
        task = make_task()
        expected = gradients(task, task, make_batch([*first, *second]))
        ranks = [torch.load(tmp_path / f"{name}-{rank}", weights_only=True) for rank in range(2)]
        torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, expected["loss"], rtol=1e-9, atol=0)
        assert len(expected) > 50
        for parameter, gradient in expected.items():
            if parameter != "loss":
                for own in ranks:
                    error = (own[parameter] - gradient).norm()
                    assert error <= 1e-5 * gradient.norm() + 1e-12, f"{name}: {parameter}"


def medvl(words: str, folder: Path) -> str:
    """Run a command as its user would, in `folder`; return what it says on standard error."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), "MEDVL_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "medvl", *words.split()], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_fit_and_test_on_two_ranks(padchest_twin: Path, tmp_path: Path) -> None:
    """Validation and test have a batch more on one rank than on the other."""
    options = (
        f"--config {REPO}/configs/quickstart/grounding.yaml --data.source.root {padchest_twin} --data.image_size 64 "
        "--data.batch_size 8 --data.eval_batch_size 5 --trainer.devices 2 --trainer.strategy ddp --trainer.logger false"
    )
    said = medvl(f"fit {options} --trainer.max_steps 2 --trainer.val_check_interval 1", tmp_path)
    assert "sync_dist" not in said
    medvl(f"test {options} --ckpt_path last", tmp_path)
    run = tmp_path / "runs/grounding/grounding/latest"
    lines = [json.loads(line) for line in (run / "predictions/test.jsonl").read_text().splitlines()]
    pairs = [(line["image"], line["phrase"]) for line in lines]
    records = PadChestGR(padchest_twin).load().records
    assert pairs == [(record.image, record.phrase) for record in records if record.split == "test"]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"test/p_at_f1", "test/n_acc/absent"} <= set(metrics[-1])
