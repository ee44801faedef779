"""Alignment on two ranks: the gradient of one process, through encoders, losses and scores between ranks."""

from __future__ import annotations

from pathlib import Path

import torch
from ranks import on_ranks
from test_alignment_task import make_batch, make_task
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss, SoftInfoNCE, SupCon
from tasks.alignment import AlignmentTask

SHARES = ([0, 1, 2, 3], [4, 5])
VALIDATED = [[0, 1, 2], [3, 0]], [[4, 5]]  # a batch more on the first rank
ALL = ("infonce", "soft", "supcon", "medtrim", "halves", "patches", "centred")


def make_loss(name: str) -> AlignmentLoss:
    match name:
        case "infonce":
            return InfoNCE()
        case "soft":
            return SoftInfoNCE()
        case "supcon":
            return SupCon(learn_temperature=True)
        case "patches":
            return MedTrimLoss(miner=BatchMiner(fallback="below"), patches=0.5, paired=0.5)
        case _:
            return MedTrimLoss(miner=BatchMiner(fallback="below"))


class Step(nn.Module):
    """A training step as a module, so that DDP wraps the loss as well."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.task = make_task(make_loss(name), centred=name == "centred").double()
        self.halves = name in ("halves", "centred")

    def forward(self, rows: list[int]) -> Tensor:
        batch = make_batch(rows)
        batch.images = batch.images.double()
        if self.halves:
            batch.valid[[place for place, row in enumerate(rows) if row in (1, 4)]] = False
            batch.texts = ["" if row in (0, 5) else text for row, text in zip(rows, batch.texts, strict=True)]
        return self.task.losses(self.task(batch), batch)["loss"]


def gradients(wrapped: nn.Module, rows: list[int]) -> dict[str, Tensor]:
    """Return the loss and the gradient of every parameter, whatever wraps it."""
    loss = wrapped(rows)
    loss.backward()
    named = {name.removeprefix("module."): p.grad for name, p in wrapped.named_parameters() if p.requires_grad}
    assert [name for name, grad in named.items() if grad is None] == []
    return {"loss": loss.detach()} | {name: grad for name, grad in named.items() if grad is not None}


def one_rank(rank: int, folder: str) -> None:
    """Write the gradients of one of two ranks, for every loss."""
    for name in ALL:
        torch.save(gradients(DistributedDataParallel(Step(name)), SHARES[rank]), f"{folder}/{name}-{rank}")
    torch.save(validated(make_task(InfoNCE()), VALIDATED[rank]), f"{folder}/validated-{rank}")


def validated(task: AlignmentTask, batches: list[list[int]]) -> Tensor | None:
    """Return the validation loss of batches, that of the ranks together."""
    task.eval()
    with torch.no_grad():
        for rows in batches:
            task.validation_step(make_batch(rows), 0)
        return task._validation_loss()


def test_two_ranks_give_the_gradient_of_one_process(tmp_path: Path) -> None:
    on_ranks(one_rank, str(tmp_path))
    for name in ALL:
        whole = gradients(Step(name), [*SHARES[0], *SHARES[1]])
        first, second = (torch.load(tmp_path / f"{name}-{rank}", weights_only=True) for rank in range(2))
        torch.testing.assert_close((first["loss"] + second["loss"]) / 2, whole["loss"], rtol=1e-6, atol=1e-8)
        assert whole["loss"] > 0
        for parameter, expected in whole.items():
            if parameter != "loss":
                torch.testing.assert_close(first[parameter], expected, rtol=1e-5, atol=1e-8, msg=f"{name} {parameter}")
    expected = validated(make_task(InfoNCE()), [[*VALIDATED[0][0], *VALIDATED[1][0]], VALIDATED[0][1]])
    assert expected is not None
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"validated-{rank}", weights_only=True), expected)
