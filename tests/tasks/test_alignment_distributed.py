"""Alignment on two ranks: the gradient of one process, through encoders, losses and scores between ranks."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from test_alignment_task import make_batch, make_task
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss, SoftInfoNCE, SupCon
from tasks.alignment import AlignmentTask

SHARES = ([0, 1, 2, 3], [4, 5])
ALL = ("infonce", "soft", "supcon", "medtrim")


def make_loss(name: str) -> AlignmentLoss:
    match name:
        case "infonce":
            return InfoNCE()
        case "soft":
            return SoftInfoNCE()
        case "supcon":
            return SupCon(learn_temperature=True)
        case _:
            return MedTrimLoss(miner=BatchMiner(fallback="below"))


class Step(nn.Module):
    """A training step as a module, so that DDP wraps the loss as well."""

    def __init__(self, task: AlignmentTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, rows: list[int]) -> Tensor:
        batch = make_batch(rows)
        batch.images = batch.images.double()
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
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in ALL:
        step = Step(make_task(make_loss(name)).double())
        torch.save(gradients(DistributedDataParallel(step), SHARES[rank]), f"{folder}/{name}-{rank}")
    dist.destroy_process_group()


def test_two_ranks_give_the_gradient_of_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_rank, (str(tmp_path),), nprocs=2)
    for name in ALL:
        whole = gradients(Step(make_task(make_loss(name)).double()), [*SHARES[0], *SHARES[1]])
        first, second = (torch.load(tmp_path / f"{name}-{rank}", weights_only=True) for rank in range(2))
        torch.testing.assert_close((first["loss"] + second["loss"]) / 2, whole["loss"], rtol=1e-6, atol=1e-8)
        assert whole["loss"] > 0
        for parameter, expected in whole.items():
            if parameter != "loss":
                torch.testing.assert_close(first[parameter], expected, rtol=1e-5, atol=1e-8, msg=f"{name} {parameter}")
