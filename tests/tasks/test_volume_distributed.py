"""The volume task on two ranks: the gradient of one process, also when one of them has no snippet at all."""

from __future__ import annotations

from pathlib import Path

import torch
from ranks import on_ranks
from test_volume_task import batch, task
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datamodules.batches import VolumeBatch

SHARES = ([0, 1, 2], [3, 4])
ALL = ("plain", "silent")  # in the second only the studies of the first rank have snippets


def rows_of(whole: VolumeBatch, rows: list[int], silent: bool) -> VolumeBatch:
    """Return some studies of a batch, as their rank's datamodule would."""
    said = [s for s, row in enumerate(whole.snippet_index.tolist()) if row in rows and not (silent and row > 2)]
    values = {
        name: [value[row] for row in rows] if isinstance(value, list) else value[rows]
        for name, value in vars(whole).items()
        if name not in ("label_names", "snippets", "snippet_index", "intervals", "targets") and value is not None
    }
    return VolumeBatch(
        **values,
        label_names=whole.label_names,
        snippets=[whole.snippets[s] for s in said],
        snippet_index=torch.tensor([rows.index(int(whole.snippet_index[s])) for s in said], dtype=torch.long),
        intervals=[whole.intervals[s] for s in said],
        targets=[whole.targets[s] for s in said],
    )


class Step(nn.Module):
    """A training step as a module, so that DDP wraps the losses as well."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.task, self.silent = task().double(), name == "silent"

    def forward(self, rows: list[int]) -> Tensor:
        whole = batch(5)
        whole.volumes = whole.volumes.double()
        whole.first_mm, whole.step_mm = whole.first_mm.double(), whole.step_mm.double()
        part = rows_of(whole, rows, self.silent)
        loss: Tensor = self.task.losses(self.task(part), part)["loss"]
        return loss


def gradients(wrapped: nn.Module, rows: list[int]) -> dict[str, Tensor]:
    """Return the loss and the gradient of every parameter, whatever wraps it."""
    loss = wrapped(rows)
    loss.backward()
    named = {name.removeprefix("module."): p.grad for name, p in wrapped.named_parameters()}
    assert [name for name, grad in named.items() if grad is None] == []
    return {"loss": loss.detach()} | {name: grad for name, grad in named.items() if grad is not None}


def one_rank(rank: int, folder: str) -> None:
    """Write the gradients of one of two ranks."""
    for name in ALL:
        torch.save(gradients(DistributedDataParallel(Step(name)), SHARES[rank]), f"{folder}/{name}-{rank}")


def test_two_ranks_give_the_gradient_of_one_process(tmp_path: Path) -> None:
    on_ranks(one_rank, str(tmp_path))
    for name in ALL:
        whole = gradients(Step(name), [*SHARES[0], *SHARES[1]])
        first, second = (torch.load(tmp_path / f"{name}-{rank}", weights_only=True) for rank in range(2))
        torch.testing.assert_close((first["loss"] + second["loss"]) / 2, whole["loss"], rtol=1e-6, atol=1e-8)
        for parameter, expected in whole.items():
            if parameter != "loss":
                torch.testing.assert_close(first[parameter], expected, rtol=1e-5, atol=1e-7, msg=f"{name} {parameter}")
                torch.testing.assert_close(first[parameter], second[parameter], msg=f"{name} {parameter}")
