import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tasks.grounding.boxes import paired_giou, to_cxcywh, to_xyxy
from tasks.grounding.matcher import HungarianMatcher, Targets


def random_boxes(generator: torch.Generator, *shape: int) -> Tensor:
    corner = torch.rand(*shape, 2, generator=generator) * 0.7
    return torch.cat([corner, corner + 0.05 + torch.rand(*shape, 2, generator=generator) * 0.25], dim=-1)


def reference_giou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap
    hull = (np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])).prod()
    return float(overlap / union - (hull - union) / hull)


def reference_cost(logit: float, box: np.ndarray, gold: np.ndarray) -> float:
    centre = np.concatenate([(gold[:2] + gold[2:]) / 2, gold[2:] - gold[:2]])
    corners = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
    return -1 / (1 + np.exp(-logit)) + 5 * np.abs(box - centre).sum() - 2 * reference_giou(corners, gold)


@pytest.mark.parametrize("seed", range(5))
def test_equals_scipy_phrase_by_phrase(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers, queries = 3, 6
    counts = torch.randint(0, 5, (7,), generator=generator).tolist()
    gold = [random_boxes(generator, n) for n in counts]
    logits = torch.randn(layers, 7, queries, generator=generator)
    boxes = to_cxcywh(random_boxes(generator, layers, 7, queries))
    found = HungarianMatcher()(logits, boxes, Targets.pack(gold, like=boxes))
    got = set(zip(found.layer.tolist(), found.phrase.tolist(), found.query.tolist(), found.gold.tolist(), strict=True))
    expected = set()
    for layer in range(layers):
        start = 0
        for phrase, n in enumerate(counts):
            cost = np.array(
                [
                    [
                        reference_cost(
                            float(logits[layer, phrase, q]), boxes[layer, phrase, q].numpy(), gold[phrase][g].numpy()
                        )
                        for q in range(queries)
                    ]
                    for g in range(n)
                ]
            ).reshape(n, queries)
            rows, columns = linear_sum_assignment(cost)
            expected |= {(layer, phrase, int(q), start + int(g)) for g, q in zip(rows, columns, strict=True)}
            start += n
    assert got == expected


@pytest.mark.parametrize("seed", range(4))
def test_crowded_tied_and_empty_boxes_cost_as_little_as_scipys(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers, phrases, queries = 2, 16, 12
    counts = torch.randint(0, 16, (phrases,), generator=generator).tolist()
    gold = [random_boxes(generator, n) for n in counts]
    boxes = to_cxcywh(random_boxes(generator, layers, phrases, queries))
    boxes[:, :, 4:8] = boxes[:, :, :4]  # ties
    boxes[:, :, 9, 2:], boxes[:, :, 10, 2] = 0.0, 0.0  # a point and a line
    for own in gold:
        own[1:3] = own[:2].roll(1, 0)[: len(own[1:3])]
        own[4:5, 2:] = own[4:5, :2]
    logits = torch.zeros(layers, phrases, queries)
    found = HungarianMatcher()(logits.requires_grad_(), boxes.requires_grad_(), Targets.pack(gold, like=boxes))
    for layer in range(layers):
        start = 0
        for phrase, own in enumerate(gold):
            pairs = own.double()[:, None].expand(-1, queries, -1), to_xyxy(boxes.detach()[layer, phrase].double())
            distance = (to_cxcywh(pairs[0]) - to_cxcywh(pairs[1])).abs().sum(-1)
            cost = (5 * distance - 2 * paired_giou(pairs[0], pairs[1][None])).numpy()
            here = (found.layer == layer) & (found.phrase == phrase)
            rows, columns = found.gold[here].numpy() - start, found.query[here].numpy()
            assert len(set(rows)) == len(set(columns)) == len(rows) == min(len(own), queries)
            assert cost[rows, columns].sum() == pytest.approx(cost[linear_sum_assignment(cost)].sum(), abs=1e-4)
            start += len(own)


def test_numpy_and_torch_find_the_same_cost() -> None:
    generator = torch.Generator().manual_seed(0)
    gold = random_boxes(generator, 5).t()[:, None, :, None]
    own, score = to_cxcywh(random_boxes(generator, 2, 5, 7)).permute(3, 0, 1, 2), torch.rand(2, 5, 7)
    matcher = HungarianMatcher()
    expected = matcher.pair_cost(torch, own, score, gold).numpy()
    got = matcher.pair_cost(np, own.numpy(), score.numpy(), gold.numpy())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e20, -1e20])
def test_the_cost_of_wild_predictions_is_finite(value: float) -> None:
    gold = [torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.2, 0.2, 0.2, 0.2]])]
    boxes = torch.where(torch.arange(16)[:, None] // 2 ** torch.arange(4) % 2 == 1, value, 0.2)[None, None]
    targets = Targets.pack(gold, like=boxes)
    assert np.isfinite(HungarianMatcher().cost(torch.full((1, 1, 16), value), boxes, targets)).all()
    assert len(HungarianMatcher()(torch.full((1, 1, 16), value), boxes, targets).gold) == 2


def test_boxes_that_want_the_same_query_share_out_the_cheapest_way() -> None:
    gold = [torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.12, 0.1, 0.32, 0.3]])]
    boxes = to_cxcywh(torch.tensor([[0.11, 0.1, 0.31, 0.3], [0.1, 0.6, 0.3, 0.9], [0.13, 0.1, 0.4, 0.3]]))[None, None]
    matcher, targets = HungarianMatcher(), Targets.pack(gold, like=boxes)
    cost = matcher.cost(torch.zeros(1, 1, 3), boxes, targets)[0]
    assert cost.argmin(-1).tolist() == [0, 0]
    found = matcher(torch.zeros(1, 1, 3), boxes, targets)
    assert (found.gold.tolist(), found.query.tolist()) == ([0, 1], [0, 2])


def test_more_boxes_than_queries_fill_every_query() -> None:
    generator = torch.Generator().manual_seed(0)
    gold = [random_boxes(generator, 5), random_boxes(generator, 1), random_boxes(generator, 0)]
    boxes = to_cxcywh(random_boxes(generator, 2, 3, 3))
    found = HungarianMatcher()(torch.zeros(2, 3, 3), boxes, Targets.pack(gold, like=boxes))
    for layer in range(2):
        queries = found.query[(found.layer == layer) & (found.phrase == 0)]
        assert sorted(queries.tolist()) == [0, 1, 2]
    assert (found.phrase == 1).sum() == 2


def test_no_boxes_at_all() -> None:
    boxes = torch.rand(2, 3, 4, 4)
    found = HungarianMatcher()(torch.zeros(2, 3, 4), boxes, Targets.pack([torch.zeros(0, 4)] * 3, like=boxes))
    assert found.layer.numel() == found.query.numel() == found.gold.numel() == 0


def test_degenerate_and_nan_predictions_still_match() -> None:
    gold = [torch.tensor([[0.1, 0.1, 0.3, 0.3]])]
    boxes = torch.full((1, 1, 3, 4), float("nan"))
    boxes[0, 0, 1] = torch.tensor([0.2, 0.2, 0.2, 0.2])
    boxes[0, 0, 2] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    found = HungarianMatcher()(torch.zeros(1, 1, 3), boxes, Targets.pack(gold, like=boxes))
    assert found.query.tolist() == [1]


def test_giou_of_empty_boxes_is_finite() -> None:
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)
    value = paired_giou(point, point)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


def test_box_forms_are_inverse() -> None:
    boxes = random_boxes(torch.Generator().manual_seed(1), 20)
    torch.testing.assert_close(to_xyxy(to_cxcywh(boxes)), boxes)
