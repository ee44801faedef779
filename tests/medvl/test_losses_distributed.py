"""Two gloo ranks give the loss and the gradient of one process: every alignment loss, every kind of parameter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medvl.distributed import gather_with_grad
from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss, SigmoidLoss, SoftInfoNCE, SupCon
from medvl.losses.patches import Patches, best_patch

N = 12
SHARES = {"even": (6, 6), "uneven": (9, 3), "one has none": (12, 0)}
TRIPLETS = torch.tensor([[0, 1, 2], [2, 0, 1], [10, 11, 9], [5, 3, 4], [9, 11, 10]])
LOSSES = ("infonce", "soft", "sigmoid", "supcon", "medtrim", "medtrim-paired", "online", "online-random",
          "medtrim-halves", "online-halves")  # fmt: skip


def make_loss(name: str) -> AlignmentLoss:
    match name:
        case "infonce":
            return InfoNCE()
        case "soft":
            return SoftInfoNCE()
        case "sigmoid":
            return SigmoidLoss(chunk=5)
        case "supcon":
            return SupCon(learn_temperature=True)
        case "medtrim":
            return MedTrimLoss(eta=0.3)
        case "medtrim-paired" | "medtrim-halves":
            return MedTrimLoss(paired=0.5)
        case "online" | "online-halves":
            return MedTrimLoss(miner=BatchMiner())
        case _:
            return MedTrimLoss(miner=BatchMiner(negatives="random", fallback="below"))


class Model(nn.Module):
    """Two towers and a loss with parameters of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
        self.text = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5))
        self.loss, self.halves = make_loss(name), name.endswith("halves")

    def forward(self, image: Tensor, text: Tensor, extras: dict[str, Tensor]) -> Tensor:
        extras = extras if self.halves else {key: value for key, value in extras.items() if key != "halves"}
        found: Tensor = self.loss(self.image(image), self.text(text), **extras)["loss"]
        return found


def whole() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(5)
    scores = (4 * torch.rand(N, N, generator=draw)).round() / 4  # many ties
    return {
        "image": torch.randn(N, 6, generator=draw, dtype=torch.float64),
        "text": torch.randn(N, 4, generator=draw, dtype=torch.float64),
        "labels": (torch.rand(N, 3, generator=draw) < 0.4).long(),
        "scores": scores.double(),
        "groups": torch.arange(N) // 2,
        "halves": torch.tensor([[i % 4 != 1, i % 5 != 3] for i in range(N)]),
    }


def part(start: int, stop: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    given = {key: value[start:stop] for key, value in whole().items()}
    inside = TRIPLETS.ge(start).all(dim=1) & TRIPLETS.lt(stop).all(dim=1)
    given["triplets"] = TRIPLETS[inside] - start
    return given.pop("image"), given.pop("text"), given


def gradients(model: nn.Module, named: Model, given: tuple[Tensor, Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
    loss = model(*given)
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad for name, p in named.named_parameters() if p.grad is not None}


def one_rank(rank: int, folder: str) -> None:
    check_gather(rank)
    check_patches(rank)
    for name in LOSSES:
        for share, (first, _) in SHARES.items():
            model = Model(name).double()
            given = part(0, first) if rank == 0 else part(first, N)
            torch.save(gradients(DistributedDataParallel(model), model, given), f"{folder}/{name}-{share}-{rank}")


def check_gather(rank: int) -> None:
    """Rank r has r + 1 rows of value r; the loss weighs row i of the whole by i + 1, on rank 1 twice."""
    rows = torch.full((rank + 1, 2), float(rank), requires_grad=True)
    gathered, start = gather_with_grad(rows)
    assert start == rank
    assert gathered.tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    (gathered * torch.tensor([[1.0], [2.0], [3.0]]) * (rank + 1)).sum().backward()
    assert rows.grad is not None
    assert rows.grad[:, 0].tolist() == ([3.0] if rank == 0 else [6.0, 9.0])
    assert gather_with_grad(torch.arange(rank + 1)).rows.tolist() == [0, 0, 1]


def check_patches(rank: int) -> None:
    """Rank r has r + 1 images of r + 2 tokens, all r + 1 along the first axis: padding must count for nothing."""
    tokens = torch.full((rank + 1, rank + 2, 2), rank + 1.0, requires_grad=True)
    patches = Patches(tokens, torch.ones(rank + 1, rank + 2, dtype=torch.bool)).gathered()
    assert patches.tokens.shape == (3, 3, 2)
    assert patches.mask.sum(dim=1).tolist() == [2, 3, 3]
    fits = best_patch(patches, torch.tensor([[1.0, 0.0]]).expand(3, 2), sharpness=10.0)
    torch.testing.assert_close(fits, torch.tensor([1.0, 2.0, 2.0]))
    fits.sum().backward()
    assert tokens.grad is not None
    torch.testing.assert_close(tokens.grad.sum(dim=1), torch.tensor([[2.0, 0.0]]).expand(rank + 1, 2))  # of two ranks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    on_ranks(one_rank, str(path))
    return path


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_equal_one_process(name: str, share: str, folder: Path) -> None:
    model = Model(name).double()
    given = part(0, N)
    first = SHARES[share][0]
    across = TRIPLETS.lt(first).any(dim=1) & TRIPLETS.ge(first).any(dim=1)
    given[2]["triplets"] = TRIPLETS[~across]  # a triplet mined offline lies within one rank
    expected = gradients(model, model, given)
    ranks = [torch.load(folder / f"{name}-{share}-{rank}", weights_only=True) for rank in range(2)]
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, expected["loss"], rtol=1e-9, atol=1e-12)
    assert expected["loss"] > 0
    assert len(expected) >= 9
    for parameter, gradient in expected.items():
        if parameter != "loss":
            for own in ranks:
                assert (own[parameter] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-12, parameter


def test_one_process_gathers_itself() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    gathered = gather_with_grad(rows)
    assert gathered.rows is rows
    assert gathered.start == 0
