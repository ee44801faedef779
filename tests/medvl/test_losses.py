"""Alignment losses against plain Python, one pair at a time, and their behaviour at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from medvl.errors import ConfigError
from medvl.losses import AlignmentLoss, BatchMiner, InfoNCE, MedTrimLoss, SigmoidLoss, SoftInfoNCE, SupCon
from medvl.losses.mining import priorities
from medvl.losses.patches import Patches, best_patch

N, C, K = 7, 5, 4
TRIPLETS = [[0, 1, 2], [0, 3, 4], [5, 2, 6]]


def batch(n: int = N, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, K, generator=draw) < 0.4).double()
    labels[:2] = 0
    return {
        "image": torch.randn(n, C, generator=draw, dtype=torch.float64),
        "text": torch.randn(n, C, generator=draw, dtype=torch.float64),
        "labels": labels,
        "scores": torch.rand(n, n, generator=draw, dtype=torch.float64),
        "triplets": torch.tensor(TRIPLETS),
        "groups": torch.arange(n) // 2,
    }


def cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.tolist(), b.tolist()
    dot = sum(p * q for p, q in zip(x, y, strict=True))
    return dot / math.sqrt(sum(p * p for p in x)) / math.sqrt(sum(q * q for q in y))


def log_share(values: list[float], index: int) -> float:
    return values[index] - math.log(sum(math.exp(value) for value in values))


def naive_soft(weight: float, heat: float, s: float) -> Callable[[dict[str, Tensor]], float]:
    def loss(given: dict[str, Tensor]) -> float:
        image, text, scores = given["image"], given["text"], given["scores"].tolist()
        total, n = 0.0, len(image)
        for i in range(n):
            mass = sum(math.exp(value / heat) for value in scores[i])
            for own, others in ((image, text), (text, image)):
                logits = [s * cosine(own[i], others[j]) for j in range(n)]
                for j in range(n):
                    target = (1 - weight) * (i == j) + weight * math.exp(scores[i][j] / heat) / mass
                    total -= target * log_share(logits, j)
        return total / (2 * n)

    return loss


def naive_sigmoid(given: dict[str, Tensor]) -> float:
    image, text = given["image"], given["text"]
    total = 0.0
    for i in range(len(image)):
        for j in range(len(text)):
            z = 1 if i == j else -1
            total += math.log(1 + math.exp(-z * (10 * cosine(image[i], text[j]) - 10)))
    return total / len(image)


def alike(a: Tensor, b: Tensor, exact: bool) -> bool:
    first, second = set(a.nonzero().flatten().tolist()), set(b.nonzero().flatten().tolist())
    return first == second if exact else bool(first & second) or not (first or second)


def naive_supcon(exact: bool, cross: bool) -> Callable[[dict[str, Tensor]], float]:
    def loss(given: dict[str, Tensor]) -> float:
        n, labels = len(given["image"]), given["labels"]
        views = [*given["image"], *given["text"]]
        total = 0.0
        for i in range(2 * n):
            others = [a for a in range(2 * n) if (a != i if not cross else a // n != i // n)]
            logits = [10 * cosine(views[i], views[a]) for a in others]
            right = [at for at, a in enumerate(others) if a % n == i % n or alike(labels[i % n], labels[a % n], exact)]
            total -= sum(log_share(logits, at) for at in right) / len(right)
        return total / (2 * n)

    return loss


def naive_medtrim(triplets: list[list[int]], eta: float, paired: float, margin: float = 0.3) -> Callable[..., float]:
    def loss(given: dict[str, Tensor]) -> float:
        rows = {"i": given["image"], "t": given["text"]}

        def hinge(x: str, a: int, y: str, p: int, z: str, n: int) -> float:
            return max(0.0, (1 - cosine(rows[x][a], rows[y][p])) - (1 - cosine(rows[x][a], rows[z][n])) + margin)

        total = 0.0
        for a, p, n in triplets:
            total += eta * (hinge("i", a, "i", p, "i", n) + hinge("t", a, "t", p, "t", n))
            total += (1 - eta) * (hinge("i", a, "t", p, "t", n) + hinge("t", a, "i", p, "i", n))
            total += paired * (hinge("i", a, "t", a, "t", n) + hinge("t", a, "i", a, "i", n))
        return total / len(triplets)

    return loss


CASES: dict[str, tuple[AlignmentLoss, Callable[[dict[str, Tensor]], float]]] = {
    "infonce": (InfoNCE(0.1), naive_soft(0, 1, 10)),
    "soft": (SoftInfoNCE(0.7, 0.2, temperature=0.1), naive_soft(0.7, 0.2, 10)),
    "sigmoid": (SigmoidLoss(), naive_sigmoid),
    "sigmoid, chunks": (SigmoidLoss(chunk=3), naive_sigmoid),
    "supcon": (SupCon(), naive_supcon(False, False)),
    "supcon, exact": (SupCon("exact"), naive_supcon(True, False)),
    "supcon, cross": (SupCon(modalities="cross"), naive_supcon(False, True)),
    "medtrim": (MedTrimLoss(), naive_medtrim(TRIPLETS, 0.5, 0)),
    "medtrim, all": (MedTrimLoss(eta=0.2, paired=0.7, margin=0.5), naive_medtrim(TRIPLETS, 0.2, 0.7, 0.5)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_plain_python_and_gradients_are_right(name: str) -> None:
    loss, naive = CASES[name]
    loss = loss.double()
    given = batch()
    assert loss(**given)["loss"].item() == pytest.approx(naive(given), rel=1e-6)
    extras = {key: value for key, value in given.items() if key not in ("image", "text")}

    def value(image: Tensor, text: Tensor) -> Tensor:
        found: Tensor = loss(image, text, **extras)["loss"]
        return found

    for part in ("image", "text"):
        given[part].requires_grad_()
    assert torch.autograd.gradcheck(value, (given["image"], given["text"]), fast_mode=True)


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_under_autocast_is_near_float64(name: str) -> None:
    loss, _ = CASES[name]
    given = batch()
    rough = given | {part: given[part].bfloat16().requires_grad_() for part in ("image", "text")}
    exact = given | {part: rough[part].detach().double() for part in ("image", "text")}
    expected = loss.double()(**exact)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        found = loss.float()(**rough)["loss"]
    assert found.dtype == torch.float32  # not a product of bfloat16 numbers, whose error would be 1e-2
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    found.backward()
    assert rough["image"].grad is not None
    assert rough["image"].grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in CASES if "medtrim" not in name])
def test_huge_logits_stay_finite(name: str) -> None:
    made, _ = CASES[name]
    kind = type(made)
    loss = kind(temperature=1e-5, minimum_temperature=1e-6).double()
    given = {key: value.detach() for key, value in batch().items()}
    given["text"] = -given["image"]  # every pair as far apart as can be
    given["image"] = given["image"].clone().requires_grad_()
    found = loss(**given)["loss"]
    found.backward()
    assert 1e3 < found.item() < 1e7
    assert given["image"].grad is not None
    assert given["image"].grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [0, 1])
def test_batches_of_none_and_of_one(name: str, n: int) -> None:
    loss, _ = CASES[name]
    given = {key: value[:n] for key, value in batch().items()}
    given |= {"scores": given["scores"][:, :n], "triplets": torch.zeros(0, 3, dtype=torch.long)}
    given["image"] = given["image"].float().requires_grad_()
    found = loss(**given)["loss"]
    found.backward()
    assert found.isfinite()
    assert n or found == 0
    assert given["image"].grad is not None
    assert given["image"].grad.isfinite().all()


def test_embedding_of_zeros_has_a_finite_gradient() -> None:
    given = batch()
    given["image"][0] = 0
    given["image"] = given["image"].float().requires_grad_()
    InfoNCE()(**given)["loss"].backward()
    assert given["image"].grad is not None
    assert given["image"].grad.isfinite().all()


def test_chunks_do_not_change_the_gradient() -> None:
    grads = []
    for chunk in (2, 100):
        loss, given = SigmoidLoss(chunk=chunk).double(), batch()
        given["text"].requires_grad_()
        loss(**given)["loss"].backward()
        assert loss.bias.grad is not None
        assert loss.temperature.log_scale.grad is not None
        grads.append((given["text"].grad, loss.bias.grad, loss.temperature.log_scale.grad))
    for first, second in zip(*grads, strict=True):
        torch.testing.assert_close(first, second)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        several = found if isinstance(found, tuple | list) else (found,)
        self.numbers = max(self.numbers, *(one.numel() if torch.is_tensor(one) else 0 for one in several))
        return found


@pytest.mark.parametrize("n", [64, 256])
def test_memory_of_chunks_does_not_grow_with_the_square(n: int) -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    largest = {}
    for chunk in (8, n):
        given = {part: value.requires_grad_() for part, value in batch(n).items() if part in ("image", "text")}
        with Largest() as seen, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            SigmoidLoss(chunk=chunk).double()(**given)["loss"].backward()
        largest[chunk] = seen.numbers
    assert largest == {8: 8 * n, n: n * n}
    assert 0 < max(kept) <= n * C  # for backward, embeddings and their gradients at most: in no case the questions


def test_temperature_is_held_above_its_minimum_and_finds_back() -> None:
    loss = InfoNCE(0.02, minimum_temperature=0.01)
    loss.temperature.log_scale.data.fill_(9.0)
    found = loss(**batch())
    assert found["scale"].item() == pytest.approx(100)
    found["loss"].backward()
    assert loss.temperature.log_scale.grad is not None
    assert loss.temperature.log_scale.grad > 0  # wrong pairs: less of a factor would cost less
    assert not next(iter(InfoNCE(learn_temperature=False).parameters())).requires_grad


def test_partner_is_never_a_negative_and_an_alike_study_is_a_positive() -> None:
    """One label for all: the optimum of SupCon is reached when everything lies together, not of InfoNCE."""
    same = torch.ones(4, C)
    labels = torch.ones(4, 1)
    parts = SupCon()(same, same, labels=labels)
    assert parts["loss"].item() == pytest.approx(math.log(7))
    assert SupCon()(same, same, labels=torch.zeros(4, 3))["loss"].item() == pytest.approx(math.log(7))
    by_number = SupCon()(batch()["image"], batch()["text"], labels=torch.tensor([0, 0, 1, 1, 2, 3, 3]))["loss"]
    one_hot = torch.eye(4)[torch.tensor([0, 0, 1, 1, 2, 3, 3])]
    assert by_number == SupCon()(batch()["image"], batch()["text"], labels=one_hot)["loss"]


def naive_mine(
    scores: list[list[float]], barred: list[list[bool]], which: str, below: bool
) -> dict[int, tuple[int, int]]:
    found = {}
    for i, row in enumerate(scores):
        others = [j for j in range(len(row)) if not barred[i][j]]
        if not others:
            continue
        positive = max(others, key=lambda j: row[j])
        ceiling = min(0.6, row[positive])
        inside = [j for j in others if 0.25 <= row[j] < ceiling]
        outside = [j for j in others if row[j] < min(0.25, ceiling)]
        if inside:
            found[i] = (positive, (min if which == "least" else max)(inside, key=lambda j: row[j]))
        elif below and outside:
            found[i] = (positive, max(outside, key=lambda j: row[j]))
    return found


@pytest.mark.parametrize("negatives", ["hardest", "least"])
@pytest.mark.parametrize("fallback", ["skip", "below"])
def test_miner_equals_plain_python(negatives: str, fallback: str) -> None:
    draw = torch.Generator().manual_seed(1)
    scores = torch.rand(40, 40, generator=draw) ** 3
    groups = torch.arange(40) // 3
    barred = groups[:, None] == groups[None]
    scores[:5] = scores[:5] * 0.2  # anchors with nothing in the range
    mined = BatchMiner(negatives=negatives, fallback=fallback)(scores, barred)
    found = {a: (p, n) for a, p, n in zip(*(part.tolist() for part in mined), strict=True)}
    expected = naive_mine(scores.tolist(), barred.tolist(), negatives, fallback == "below")
    assert found == expected
    assert len(found) == (40 if fallback == "below" else 35)


def test_random_negatives_lie_in_the_range_and_change_with_the_seed() -> None:
    draw = torch.Generator().manual_seed(2)
    scores = torch.rand(60, 60, generator=draw)
    barred = torch.eye(60, dtype=torch.bool)
    runs = [BatchMiner(negatives="random")(scores, barred, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0].negative, runs[1].negative)
    assert not torch.equal(runs[0].negative, runs[2].negative)
    values = scores[runs[0].anchor, runs[0].negative]
    assert (values >= 0.25).all()
    assert (values < 0.6).all()
    assert values.std() > 0.05


def test_tied_normals_do_not_share_one_positive() -> None:
    scores = torch.full((50, 50), 0.85)
    scores[:, 40:] = 0.4
    mined = BatchMiner()(scores, torch.eye(50, dtype=torch.bool))
    assert len(mined.anchor) == 50
    assert (mined.positive < 40).all()
    assert mined.positive.bincount().max() <= 4
    assert len(mined.negative.unique()) == 10


def test_positive_floor_leaves_anchors_out() -> None:
    scores = torch.tensor([[0.0, 0.9, 0.3], [0.5, 0.0, 0.3], [0.2, 0.1, 0.0]])
    barred = torch.eye(3, dtype=torch.bool)
    assert BatchMiner(positive_floor=0.6)(scores, barred).anchor.tolist() == [0]
    assert BatchMiner()(scores, barred).anchor.tolist() == [0, 1]


def test_priorities_are_permutations_and_the_same_on_two_ranks() -> None:
    whole = priorities(torch.Size([5, 8]), 0, 3)
    assert torch.equal(whole.sort(dim=1).values, torch.arange(8).expand(5, 8))
    assert torch.equal(priorities(torch.Size([2, 8]), 3, 3), whole[3:])


def test_online_medtrim_uses_the_mined_triplets_and_spares_groups() -> None:
    given = batch(20, 4)
    loss = MedTrimLoss(miner=BatchMiner())
    assert loss.needs == {"scores"}
    found = loss(**given)
    barred = (given["groups"][:, None] == given["groups"][None]).tolist()
    mined = naive_mine(given["scores"].tolist(), barred, "hardest", False)
    triplets = [[a, p, n] for a, (p, n) in mined.items()]
    assert found["loss"].item() == pytest.approx(naive_medtrim(triplets, 0.5, 0)(given), rel=1e-9)
    assert found["triplets"] == len(triplets)
    assert 0 < found["active"] <= 1
    assert loss.state_dict()["step"] == 1
    loss.eval()(**given)
    assert loss.state_dict()["step"] == 1


def test_a_term_can_be_left_out() -> None:
    given = batch()
    parts = MedTrimLoss()(**given)
    some = MedTrimLoss(terms=["ii", "ti"], eta=0.25)(**given)
    assert set(some) == {"loss", "ii", "ti", "triplets", "active"}
    torch.testing.assert_close(some["loss"], 0.25 * parts["ii"] + 0.75 * parts["ti"])


def naive_halves(given: dict[str, Tensor], term: str, margin: float = 0.3) -> float:
    """Return the mean hinge over the triplets that have what a term compares."""
    rows = {"i": given["image"], "t": given["text"]}
    has = {name: given["halves"][:, k].tolist() for k, name in enumerate("it")}
    x, y = term[0], term[1]
    hinges = [
        max(0.0, cosine(rows[x][a], rows[y][n]) - cosine(rows[x][a], rows[y][p]) + margin)
        for a, p, n in given["triplets"].tolist()
        if has[x][a] and has[y][p] and has[y][n]
    ]
    return sum(hinges) / max(len(hinges), 1)


def test_a_study_counts_in_the_terms_of_what_it_has() -> None:
    given = batch() | {"triplets": torch.tensor([*TRIPLETS, [1, 0, 3], [4, 6, 2], [6, 5, 1]])}
    given["halves"] = torch.ones(N, 2, dtype=torch.bool)
    given["halves"][0, 1] = given["halves"][4, 0] = given["halves"][2, 1] = False  # 0 is an image alone
    found = MedTrimLoss()(**given)
    for term in ("ii", "tt", "it", "ti"):
        assert found[term].item() == pytest.approx(naive_halves(given, term), rel=1e-9)
    assert found["tt"] > 0
    assert found["loss"].item() == pytest.approx(sum(found[term].item() for term in ("ii", "tt", "it", "ti")) / 2)
    image, text = given["image"].clone().requires_grad_(), given["text"].clone().requires_grad_()
    MedTrimLoss(paired=1.0)(**given | {"image": image, "text": text})["loss"].backward()
    assert image.grad is not None
    assert text.grad is not None
    assert not text.grad[[0, 2]].any()
    assert not image.grad[4].any()
    assert text.grad[3].any()
    alone = given | {"halves": given["halves"] & torch.tensor([True, False])}
    found = MedTrimLoss()(**alone)
    assert found["ii"] > 0
    assert [found[term].item() for term in ("tt", "it", "ti")] == [0, 0, 0]
    whole = given | {"halves": torch.ones(N, 2, dtype=torch.bool)}
    torch.testing.assert_close(MedTrimLoss()(**whole), MedTrimLoss()(**{**whole, "halves": None}))
    with pytest.raises(ValueError, match="both an image and a text"):
        InfoNCE()(given["image"], given["text"], halves=given["halves"])


def test_what_is_wrong_is_said() -> None:
    given = batch()
    with pytest.raises(ConfigError, match="SupCon needs labels"):
        SupCon()(given["image"], given["text"])
    with pytest.raises(ConfigError, match="MedTrimLoss needs triplets"):
        MedTrimLoss()(given["image"], given["text"], scores=given["scores"])
    with pytest.raises(ConfigError, match="no term 'xx'"):
        MedTrimLoss(terms=["xx"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="no term"):
        MedTrimLoss(terms=[])
    with pytest.raises(ValueError, match="in pairs"):
        InfoNCE()(given["image"], given["text"][:3])
    with pytest.raises(ValueError, match=r"expected scores \(7, 7\)"):
        SoftInfoNCE()(given["image"], given["text"], scores=given["scores"][:, :3])
    with pytest.raises(ValueError, match="rows 0 to 6"):
        MedTrimLoss()(given["image"], given["text"], triplets=torch.tensor([[0, 1, 7]]))
    with pytest.raises(ValueError, match="temperature"):
        InfoNCE(temperature=0.001)
    with pytest.raises(ValueError, match="tau_min"):
        BatchMiner(0.7, 0.6)


def naive_best(patches: Patches, text: Tensor, row: int, sharpness: float) -> float:
    """Return the smooth maximum of the cosines of an image's patches with a text."""
    kept = [patch for patch, there in zip(patches.tokens[row], patches.mask[row].tolist(), strict=True) if there]
    return math.log(sum(math.exp(sharpness * cosine(patch, text)) for patch in kept) / len(kept)) / sharpness


def test_an_image_and_a_text_are_compared_by_their_best_patch() -> None:
    given = batch() | {"triplets": torch.tensor(TRIPLETS)}
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randn(N, 5, given["image"].shape[1], generator=draw, dtype=torch.float64)
    mask = torch.ones(N, 5, dtype=torch.bool)
    mask[1, 2:] = mask[4, 0] = False
    patches, plain = Patches(tokens, mask), MedTrimLoss()(**given)
    found = MedTrimLoss(patches=0.3, sharpness=6.0)(**given, patches=patches)
    for term, image_first in (("it", True), ("ti", False)):
        total = 0.0
        for a, p, n in TRIPLETS:
            pairs = [(a, other) if image_first else (other, a) for other in (p, n)]
            near, far = (
                0.7 * cosine(given["image"][i], given["text"][t]) + 0.3 * naive_best(patches, given["text"][t], i, 6.0)
                for i, t in pairs
            )
            total += max(0.0, far - near + 0.3)
        assert found[term].item() == pytest.approx(total / len(TRIPLETS), rel=1e-9)
    torch.testing.assert_close(found["ii"], plain["ii"])
    torch.testing.assert_close(found["tt"], plain["tt"])
    one = Patches(2 * given["image"][:, None], torch.ones(N, 1, dtype=torch.bool))
    torch.testing.assert_close(MedTrimLoss(patches=1.0)(**given, patches=one), plain)
    with pytest.raises(ConfigError, match="needs patches"):
        MedTrimLoss(patches=0.5)(**given)
    with pytest.raises(ConfigError, match="patches in"):
        MedTrimLoss(patches=1.5)


def test_a_planted_patch_is_found_and_gets_the_gradient() -> None:
    tokens = torch.nn.functional.normalize(torch.randn(4, 49, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    text = tokens[:, 17].clone()
    planted = Patches(tokens.requires_grad_(), torch.ones(4, 49, dtype=torch.bool))
    found = best_patch(planted, text, sharpness=40.0)
    assert (found > 0.85).all()  # 1 less ln 49 / 40
    assert (best_patch(planted, text.roll(1, 0), sharpness=40.0) < found - 0.2).all()
    found.sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.norm(dim=2).argmax(dim=1).tolist() == [17] * 4
