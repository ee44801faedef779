"""Ranks that wait for one another are ended, and a loss reaches every parameter where there are several ranks."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from torch import nn

from medvl.distributed import alone, is_distributed, rank, world_size
from medvl.idle import with_idle


def late(place: int) -> None:
    """Wait on rank 0 for a sum, and on rank 1 for a message: neither comes."""
    (dist.all_reduce if place == 0 else lambda one: dist.recv(one, src=0))(torch.zeros(1))


def test_ranks_that_wait_for_one_another_are_ended() -> None:
    with pytest.raises((TimeoutError, RuntimeError), match=r"(?i)not done after|timeout|timed out|closed"):
        on_ranks(late, limit=5)


def test_a_loss_reaches_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
    pair[1].bias.requires_grad_(False)
    loss = pair[0](torch.ones(1, 2)).sum()
    assert with_idle(loss, pair) is loss  # one process: nobody waits
    monkeypatch.setattr("medvl.idle.dist.is_initialized", lambda: True)
    both = with_idle(loss, pair)
    both.backward()
    assert both.item() == loss.item()
    assert pair[1].weight.grad is not None
    assert pair[1].weight.grad.tolist() == [[0.0, 0.0]]
    assert pair[1].bias.grad is None
    assert pair[0].weight.grad is not None
    assert pair[0].weight.grad.tolist() == [[1.0, 1.0]]


def test_alone_crosses_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("is_initialized", True), ("get_world_size", 3), ("get_rank", 2)):
        monkeypatch.setattr(f"medvl.distributed.dist.{name}", lambda value=value: value)
    assert (is_distributed(), world_size(), rank()) == (True, 3, 2)
    with alone():
        assert (is_distributed(), world_size(), rank()) == (False, 1, 0)
        with alone():
            pass
        assert not is_distributed()
    assert is_distributed()
