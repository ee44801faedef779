import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.batches import GroundingBatch
from tasks.grounding.criterion import GroundingCriterion
from tasks.grounding.model import GroundingOutput

GRID = (4, 5)


def make_output(phrases: int, seed: int = 0, queries: int = 3, layers: int = 2) -> GroundingOutput:
    g = torch.Generator().manual_seed(seed)
    tokens = GRID[0] * GRID[1]

    def boxes(*shape: int) -> Tensor:
        centre = 0.2 + 0.6 * torch.rand(*shape, 2, generator=g, dtype=torch.float64)
        return torch.cat([centre, 0.1 + 0.2 * torch.rand(*shape, 2, generator=g, dtype=torch.float64)], -1)

    return GroundingOutput(
        logits=torch.randn(layers, phrases, queries, generator=g, dtype=torch.float64).requires_grad_(),
        boxes=boxes(layers, phrases, queries).requires_grad_(),
        heat=torch.randn(phrases, tokens, generator=g, dtype=torch.float64).requires_grad_(),
        any_heat=torch.randn(phrases, tokens, generator=g, dtype=torch.float64).requires_grad_(),
        any_boxes=boxes(phrases, tokens).requires_grad_(),
        grid=GRID,
    )


def make_batch(boxes: list[Tensor], images: int | None = None) -> GroundingBatch:
    """Return a batch of these sentences, about an image each or all about one; the loss reads no pixels."""
    images = images or len(boxes)
    return GroundingBatch(
        images=torch.zeros(images, 1, 8, 8),
        valid=torch.ones(images, 8, 8, dtype=torch.bool),
        phrases=[""] * len(boxes),
        image_index=torch.arange(len(boxes)).clamp(max=images - 1),
        boxes=boxes,
        image_boxes=[torch.cat(boxes)] if images == 1 else boxes,
        share=torch.ones(images),
        transforms=[],
        records=[],
    )


def iou_terms(pred: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """L1 and 1 - GIoU of a cxcywh prediction and an xyxy gold box, written out."""
    centre = np.concatenate([(gold[:2] + gold[2:]) / 2, gold[2:] - gold[:2]])
    a = np.concatenate([pred[:2] - pred[2:] / 2, pred[:2] + pred[2:] / 2])
    inter = np.clip(np.minimum(a[2:], gold[2:]) - np.maximum(a[:2], gold[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (gold[2:] - gold[:2]).prod() - inter
    hull = (np.maximum(a[2:], gold[2:]) - np.minimum(a[:2], gold[:2])).prod()
    return float(np.abs(pred - centre).sum()), float(1 - (inter / union - (hull - union) / hull))


def focal(heat: np.ndarray, gold: np.ndarray, centre: int) -> float:
    """The loss of a map of centre logits with one bump, written out."""
    p = 1 / (1 + np.exp(-heat))
    rows, columns = np.divmod(np.arange(20), GRID[1])
    places = np.stack([(columns + 0.5) / GRID[1], (rows + 0.5) / GRID[0]], -1)
    sigma = np.maximum((gold[2:] - gold[:2]) / 6, 0.33 / 5)
    total = 0.0
    for token in range(20):
        if token == centre:
            total -= (1 - p[token]) ** 2 * np.log(p[token])
        else:
            truth = np.exp(-0.5 * (((places[token] - places[centre]) / sigma) ** 2).sum())
            total -= (1 - truth) ** 4 * p[token] ** 2 * np.log(1 - p[token])
    return float(total)


def test_sentences_of_one_image_share_its_map() -> None:
    output = replace(make_output(2), any_heat=torch.zeros(1, 20, dtype=torch.float64))
    boxes = [torch.tensor([[0.1, 0.1, 0.3, 0.3]]), torch.tensor([[0.6, 0.6, 0.9, 0.9]])]
    centres = [0 * 5 + 1, 3 * 5 + 3]
    sharp = torch.full((1, 20), -9.0, dtype=torch.float64)
    sharp[0, centres] = 9.0
    exact = output.any_boxes[:1].detach().clone()
    exact[0, centres] = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.75, 0.75, 0.3, 0.3]], dtype=torch.float64)
    loss = GroundingCriterion()
    batch = make_batch(boxes, images=1)
    assert loss(replace(output, any_heat=sharp), batch)["any_heat"] < 1e-3
    assert loss(output, batch)["any_heat"] > 0.1
    assert loss(replace(output, any_boxes=exact), batch)["any_l1"] < 1e-6
    assert loss(output, batch)["any_l1"] > 0.1


def test_an_image_cut_in_two_counts_once() -> None:
    output = make_output(2)
    boxes = [torch.tensor([[0.1, 0.1, 0.3, 0.3]]), torch.tensor([[0.6, 0.6, 0.9, 0.9]])]
    once = replace(output, any_heat=output.any_heat[:1], any_boxes=output.any_boxes[:1])
    twice = replace(once, any_heat=once.any_heat.repeat(2, 1), any_boxes=once.any_boxes.repeat(2, 1, 1))
    both = make_batch(boxes, images=1)
    halves = replace(make_batch(boxes), image_boxes=both.image_boxes * 2, share=torch.tensor([0.25, 0.75]))
    loss = GroundingCriterion()
    for part in ("any_heat", "any_l1", "any_giou"):
        torch.testing.assert_close(loss(twice, halves)[part], loss(once, both)[part])


def test_single_box_against_numpy() -> None:
    """One phrase, one box: every part written out by hand."""
    output = make_output(1, queries=1, layers=1)
    gold = np.array([0.30, 0.30, 0.55, 0.70])
    losses = GroundingCriterion()(output, make_batch([torch.tensor(gold[None])]))
    l1, giou = iou_terms(output.boxes[0, 0, 0].detach().numpy(), gold)
    score = math.log1p(math.exp(-output.logits[0, 0, 0].item()))
    assert losses["l1"].item() == pytest.approx(l1)
    assert losses["giou"].item() == pytest.approx(giou)
    assert losses["score"].item() == pytest.approx(score)
    centre_token = int(0.5 * GRID[0]) * GRID[1] + int(0.425 * GRID[1])
    total = focal(output.heat[0].detach().numpy(), gold, centre_token)
    assert losses["heat"].item() == pytest.approx(total)
    any_total = focal(output.any_heat[0].detach().numpy(), gold, centre_token)
    assert losses["any_heat"].item() == pytest.approx(any_total)
    any_l1, any_giou = iou_terms(output.any_boxes[0, centre_token].detach().numpy(), gold)
    assert losses["any_l1"].item() == pytest.approx(any_l1)
    assert losses["any_giou"].item() == pytest.approx(any_giou)
    expected = score + total + any_total + 5 * (l1 + any_l1) + 2 * (giou + any_giou)
    assert losses["loss"].item() == pytest.approx(expected)


def test_a_sentence_without_boxes_silences_every_query() -> None:
    output = make_output(2)
    losses = GroundingCriterion()(output, make_batch([torch.zeros(0, 4), torch.zeros(0, 4)]))
    losses["loss"].backward()
    assert losses["l1"] == losses["giou"] == losses["any_l1"] == 0
    assert output.logits.grad is not None
    assert (output.logits.grad > 0).all()
    assert output.heat.grad is not None
    assert (output.heat.grad > 0).all()


def test_degenerate_boxes_give_no_nan() -> None:
    output = make_output(1)
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9]], dtype=torch.float64)
    losses = GroundingCriterion()(output, make_batch([point]))
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert output.boxes.grad is not None
    assert torch.isfinite(output.boxes.grad).all()


def test_the_loss_falls_to_nothing_on_a_perfect_answer() -> None:
    gold = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.6, 0.5, 0.9, 0.9]])
    cxcywh = torch.cat([(gold[:, :2] + gold[:, 2:]) / 2, gold[:, 2:] - gold[:, :2]], -1)
    boxes = torch.cat([cxcywh, torch.full((1, 4), 0.5)])[None, None]
    logits = torch.tensor([[[20.0, 20.0, -20.0]]])
    base = make_output(1)
    output = replace(
        base,
        logits=logits,
        boxes=boxes,
        heat=base.heat.float(),
        any_heat=base.any_heat.float(),
        any_boxes=base.any_boxes.float(),
    )
    losses = GroundingCriterion()(output, make_batch([gold]))
    assert losses["score"] < 1e-6
    assert losses["l1"] < 1e-5
    assert losses["giou"] < 1e-5
