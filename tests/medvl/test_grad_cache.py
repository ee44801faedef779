"""GradCache: chunk by chunk gives the loss and the gradients of one big batch, dropout and several ranks included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medvl.losses import AlignmentLoss, GradCache, InfoNCE, SigmoidLoss, SupCon
from medvl.losses.grad_cache import Draws

N = 12
Chunk = tuple[Tensor, Tensor]
LOSSES: dict[str, type[AlignmentLoss]] = {"infonce": InfoNCE, "sigmoid": SigmoidLoss}
SPLITS = [(12,), (4, 4, 4), (5, 1, 6), (1,) * 12]


class Towers(nn.Module):
    """Two towers with dropout; a third output is what only a chunk's own loss sees."""

    def __init__(self, loss: AlignmentLoss, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Linear(6, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 5))
        self.text = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 5))
        self.head, self.loss = nn.Linear(8, 3), loss
        self.double()

    def forward(self, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
        states = self.image[:2](chunk[0])
        return self.image[2:](states), self.text(chunk[1]), self.head(states)

    def gradients(self) -> dict[str, Tensor]:
        return {name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None}


def pairs() -> Chunk:
    draw = torch.Generator().manual_seed(3)
    image, text = (torch.randn(N, width, generator=draw, dtype=torch.float64) for width in (6, 4))
    return image, text


def split(given: Chunk, sizes: tuple[int, ...]) -> list[Chunk]:
    return list(zip(given[0].split(sizes), given[1].split(sizes), strict=True))


def own(chunk: Chunk, outputs: tuple[Tensor, ...]) -> Tensor:
    return (outputs[2] * outputs[0][:, :3]).square().sum() / N


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert (ours[name] - expected).norm() <= 1e-9 * expected.norm() + 1e-12, name


@pytest.mark.parametrize("sizes", SPLITS)
@pytest.mark.parametrize("name", LOSSES)
def test_equals_one_big_batch(name: str, sizes: tuple[int, ...]) -> None:
    one, many = Towers(LOSSES[name]()), Towers(LOSSES[name]())
    outputs = one(pairs())
    whole = one.loss(outputs[0], outputs[1])["loss"] + own(pairs(), outputs)
    whole.backward()
    found = GradCache(many, many.parameters)(split(pairs(), sizes), many.loss, own)
    torch.testing.assert_close(found["loss"], whole.detach(), rtol=1e-12, atol=0)
    assert {"loss", "own", "scale"} <= found.keys()
    assert not any(value.requires_grad for value in found.values())
    assert len(one.gradients()) >= 11
    assert_same(many.gradients(), one.gradients())


def test_gradients_are_added_to_what_is_there_and_labels_reach_the_loss() -> None:
    labels = torch.arange(N) % 4
    one, many = Towers(SupCon()), Towers(SupCon())
    for _ in range(2):
        outputs = one(pairs())
        one.loss(outputs[0], outputs[1], labels=labels)["loss"].backward()
        cache = GradCache(many, many.parameters)
        cache(split(pairs(), (7, 5)), lambda image, text: many.loss(image, text, labels=labels))
    assert_same(many.gradients(), one.gradients())


def test_dropout_drops_the_same_in_both_passes() -> None:
    """One pass with the graph kept, chunk by chunk from the same seed, draws the same masks."""
    one, many = Towers(InfoNCE(), 0.5), Towers(InfoNCE(), 0.5)
    torch.manual_seed(7)
    outputs = [one(chunk) for chunk in split(pairs(), (5, 4, 3))]
    expected = one.loss(*(torch.cat([each[side] for each in outputs]) for side in range(2)))["loss"]
    following = torch.rand(3)
    expected.backward()
    torch.manual_seed(7)
    found = GradCache(many, many.parameters)(split(pairs(), (5, 4, 3)), many.loss)
    torch.testing.assert_close(found["loss"], expected.detach(), rtol=1e-12, atol=0)
    assert_same(many.gradients(), one.gradients())
    assert torch.rand(3).equal(following)  # and the next step draws what it would have drawn


def test_draws_are_repeated_and_leave_no_trace() -> None:
    torch.manual_seed(1)
    draws = Draws.now()
    first, after = torch.rand(2), Draws.now()
    with draws.again():
        assert torch.rand(2).equal(first)
    assert torch.get_rng_state().equal(after.cpu)


def test_frozen_tower_and_no_chunks() -> None:
    model = Towers(InfoNCE())
    model.text.requires_grad_(False)
    GradCache(model, model.parameters)(split(pairs(), (6, 6)), model.loss)
    assert all(parameter.grad is None for parameter in model.text.parameters())
    assert all(parameter.grad is not None for parameter in model.image.parameters())
    with pytest.raises(ValueError, match="at least one chunk"):
        GradCache(model, model.parameters)([], model.loss)


def test_graph_of_one_chunk_at_a_time() -> None:
    """The embeddings of a chunk with a graph are let go before the next chunk is embedded."""
    model, alive = Towers(InfoNCE()), []

    def embed(chunk: Chunk) -> tuple[Tensor, ...]:
        outputs = model(chunk)
        if outputs[0].requires_grad:
            outputs[0].register_hook(lambda grad: alive.append(-1))
            alive.append(1)
        return outputs

    GradCache(embed, model.parameters)(split(pairs(), (4, 4, 4)), model.loss)
    assert alive == [1, -1] * 3


def one_rank(rank: int, folder: str) -> None:
    for name, kind in LOSSES.items():
        model = Towers(kind())
        wrapper = DistributedDataParallel(model)  # as Lightning has it, which the cache goes past
        image, text = pairs()
        part, sizes = ((image[:8], text[:8]), (3, 5)) if rank == 0 else ((image[8:], text[8:]), (4,))
        # A loss of single chunks is averaged over ranks, as DDP does it: twice the share makes the whole.
        GradCache(model, model.parameters)(split(part, sizes), model.loss, lambda chunk, found: 2 * own(chunk, found))
        torch.save(wrapper.module.gradients(), f"{folder}/{name}-{rank}")


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    on_ranks(one_rank, str(tmp_path))
    for name, kind in LOSSES.items():
        one = Towers(kind())
        outputs = one(pairs())
        (one.loss(outputs[0], outputs[1])["loss"] + own(pairs(), outputs)).backward()
        for rank in range(2):
            assert_same(torch.load(tmp_path / f"{name}-{rank}", weights_only=True), one.gradients())
