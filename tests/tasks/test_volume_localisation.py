"""Snippets and depths: similarity, its loss on one rank and on two, what is read off; and diseases by prompts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medvl.errors import ConfigError
from tasks.volume.depth import DepthGrid
from tasks.volume.localisation import Depths, LocalisationLoss, Localiser, read
from tasks.volume.prompts import PromptDiseaseLoss, Prompts, margins

B, D, N, C, S = 3, 5, 4, 8, 7


def axis() -> DepthGrid:
    edges = 10.0 * torch.arange(D + 1, dtype=torch.float64).expand(B, -1)
    return DepthGrid(edges, torch.arange(D)[None] < torch.tensor([[5], [3], [4]]))


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(B, D, N, C, generator=generator, dtype=torch.float64)
    mask = axis().valid[..., None].expand(-1, -1, N).clone()
    mask[0, 2, 1:] = False
    return (
        tokens,
        mask,
        torch.randn(S, C, generator=generator, dtype=torch.float64),
        torch.tensor([2, 0, 1, 0, 2, 2, 0]),
    )


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("salient", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "smooth_max"])
def test_every_snippet_is_compared_with_its_own_volume(pooling: str, salient: bool, similarity: str) -> None:
    tokens, mask, snippets, index = inputs()
    salience = torch.linspace(-2, 2, mask.numel(), dtype=torch.float64).view(mask.shape) * salient
    model = Localiser(0.1, pooling, 20.0, similarity).double()  # type: ignore[arg-type]
    found = model(tokens, mask, snippets, index, axis(), salience if salient else None)
    for s in range(S):
        for d in range(D):
            own = tokens[index[s], d][mask[index[s], d]]
            if not len(own):
                assert found.logits[s, d] == -torch.inf
                continue
            more = salience[index[s], d][mask[index[s], d]]
            likeness = F.cosine_similarity(own, snippets[s][None], dim=-1)
            expected = F.cosine_similarity(own.mean(0), snippets[s], dim=0) + more.mean()
            if similarity == "dot":
                likeness = own @ snippets[s] / snippets[s].norm() / math.sqrt(own.shape[1])
                expected = likeness.mean() + more.mean()
            if pooling == "smooth_max":
                expected = torch.logsumexp(20 * (likeness + more), 0) / 20 - math.log(len(own)) / 20
            assert found.logits[s, d].item() == pytest.approx(10 * expected.item(), abs=1e-9)
    assert (found.where.sum(dim=1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("pooling", ["mean", "smooth_max"])
def test_a_head_brings_tokens_into_the_space_of_words(pooling: str, similarity: str) -> None:
    tokens, mask, _, index = inputs()
    model, head = Localiser(0.1, pooling, 20.0, similarity).double(), torch.nn.Linear(C, 2 * C).double()  # type: ignore[arg-type]
    snippets = torch.randn(S, 2 * C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, gradients = [], []
    for ready in (False, True):
        given = (head(tokens), None) if ready else (tokens, head)
        depths = model(given[0], mask, snippets, index, axis(), None, given[1])
        head.zero_grad()
        depths.where.square().sum().backward()
        found.append(depths.logits)
        gradients.append([parameter.grad for parameter in head.parameters()])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1], atol=1e-12, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "smooth_max"])
def test_padding_has_no_say_and_no_gradient(pooling: str) -> None:
    tokens, mask, snippets, index = inputs()
    model = Localiser(0.1, pooling).double()  # type: ignore[arg-type]
    tokens = torch.where(mask[..., None], tokens, 1e6).requires_grad_()
    intervals = [torch.tensor([[5.0, 15.0, 1.0]], dtype=torch.float64)] * S
    loss = LocalisationLoss()(model(tokens, mask, snippets, index, axis()), intervals)
    loss.backward()
    assert tokens.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(tokens.grad).all()
    assert tokens.grad[~mask].abs().sum() == 0


def test_the_loss_is_least_where_the_target_is() -> None:
    criterion = LocalisationLoss(sigma_mm=8.0)
    several = axis().of_volumes(torch.tensor([0, 1, 1]))
    intervals = [torch.tensor([[12.0, 18.0, 1.0]]), torch.tensor([[41.0, 44.0, 1.0]]), torch.zeros(0, 3)]
    target = criterion.target(several, intervals)
    assert target.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert target[:, -1].tolist() == [0, 1, 1]  # the second lies on slices that the scan does not have
    assert target[0].argmax() == 1
    logits = target.clamp_min(1e-9).log().masked_fill(F.pad(~several.valid, (0, 1)), -torch.inf)
    best = criterion(Depths(logits, several), intervals)
    entropy = -(target * target.clamp_min(1e-30).log()).sum(dim=1).mean()
    assert best.item() == pytest.approx(entropy.item(), abs=1e-5)
    for column in range(D):
        changed = logits.clone()
        changed[:, column] += 0.3
        assert criterion(Depths(changed, several), intervals) > best


def test_a_rank_without_snippets_has_a_loss_of_zero_with_gradient() -> None:
    tokens, mask, snippets, index = inputs()
    snippets = snippets[:0].requires_grad_()
    loss = LocalisationLoss()(Localiser().double()(tokens, mask, snippets, index[:0], axis()), [])
    loss.backward()
    assert loss.item() == 0


def test_answers_are_in_mm() -> None:
    logits = torch.full((2, D + 1), -20.0, dtype=torch.float64)
    logits[0, 3], logits[1, 1], logits[1, -1] = 0.0, 0.0, 5.0
    answers = read(Depths(logits, axis().of_volumes(torch.tensor([0, 0]))))
    assert answers[0].mm == pytest.approx(35)
    assert (answers[0].low, answers[0].high) == pytest.approx((31, 39), abs=1e-3)
    assert answers[0].present == pytest.approx(1)
    assert answers[0].extents == ((30, 40),)
    assert answers[1].mm == pytest.approx(15)
    assert answers[1].present < 0.01


def test_presence_is_shifted_and_places_are_not() -> None:
    tokens, mask, snippets, index = inputs()
    depths = Localiser()(tokens, mask, snippets, index, axis())
    plain, shifted = read(depths), read(depths, shift=torch.tensor(1.5))
    for before, after, present in zip(plain, shifted, depths.present.tolist(), strict=True):
        assert before.present == pytest.approx(present, rel=1e-6)
        odds = math.log(present / (1 - present)) + 1.5
        assert after.present == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-6)
        assert (after.mm, after.low, after.high, after.extents) == (before.mm, before.low, before.high, before.extents)


def test_margins_need_no_bias_and_the_loss_ignores_what_is_not_known() -> None:
    generator = torch.Generator().manual_seed(1)
    volumes, positive, negative = (F.normalize(torch.randn(n, C, generator=generator), dim=-1) for n in (4, 3, 3))
    logits = margins(volumes, positive, negative, 10.0)
    assert logits[2, 1].item() == pytest.approx(
        10 * float(volumes[2] @ positive[1] - volumes[2] @ negative[1]), abs=1e-5
    )
    labels = torch.tensor([[1, 0, -1], [0, 0, float("nan")], [0, 1, -1], [0, 0, 0.0]])
    criterion = PromptDiseaseLoss(weight_cap=2.0)
    criterion.balance(labels)
    assert criterion.positive_weight.tolist() == [2.0, 2.0, 1.0]  # 3 to 1, capped; never positive
    loss = criterion(logits, labels)
    known = [(b, k) for b in range(4) for k in range(3) if labels[b, k] in (0, 1)]
    parts = [
        F.binary_cross_entropy_with_logits(
            logits[b, k], labels[b, k], pos_weight=torch.tensor([2.0, 2.0, 1.0])[k], reduction="sum"
        )
        for b, k in known
    ]
    assert loss.item() == pytest.approx(torch.stack(parts).mean().item(), abs=1e-6)
    assert PromptDiseaseLoss()(logits, torch.full((4, 3), -1.0)).item() == 0
    assert "positive_weight" not in criterion.state_dict()


def test_prompts_affirm_and_deny_every_class() -> None:
    prompts = Prompts.of(
        ["Pleural effusion", "Lung_nodule"], ["There is {}.", "{} is seen."], words={"Lung_nodule": "a nodule"}
    )
    assert prompts.positive == (
        ("There is pleural effusion.", "Pleural effusion is seen."),
        ("There is a nodule.", "A nodule is seen."),
    )
    generator = torch.Generator().manual_seed(0)
    drawn = {prompts.drawn(generator)[0][0] for _ in range(20)}
    assert drawn == set(prompts.positive[0])
    with pytest.raises(ConfigError, match="place"):
        Prompts.of(["x"], negative=["nothing"])
