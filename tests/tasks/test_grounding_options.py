"""Options of the grounding model and loss that are off by default: denoising, IoU as confidence, learned queries."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_grounding_criterion import iou_terms, make_batch, make_output
from test_grounding_model import INDEX, PHRASES, make_images, make_model

from tasks.grounding.boxes import to_cxcywh, to_xyxy
from tasks.grounding.criterion import GroundingCriterion
from tasks.grounding.denoising import Denoising
from tasks.grounding.matcher import Targets
from tasks.grounding.model import GroundingModel

BOXES = [
    torch.zeros(0, 4),
    torch.tensor([[0.1, 0.2, 0.3, 0.6], [0.5, 0.5, 0.9, 0.8]]),
    torch.tensor([[0.4, 0.1, 0.7, 0.3]]),
]


def targets(boxes: list[torch.Tensor] = BOXES) -> Targets:
    return Targets.pack(boxes, like=torch.zeros(1))


def test_starts_take_the_boxes_of_a_sentence_in_turn() -> None:
    starts = Denoising(queries=3, noise=0.0).starts(targets())
    first, second, third = to_cxcywh(torch.cat(BOXES)).unbind()
    whole = torch.tensor([0.5, 0.5, 1.0, 1.0])
    expected = [[whole] * 3, [first, second, first], [third] * 3]
    torch.testing.assert_close(starts, torch.stack([torch.stack(row) for row in expected]))


def test_noise_moves_a_centre_within_the_box_and_changes_its_size() -> None:
    torch.manual_seed(0)
    starts = Denoising(queries=2000, noise=0.4).starts(targets([BOXES[2]]))[0]
    centre, side = torch.tensor([0.55, 0.2]), torch.tensor([0.3, 0.2])
    drift = (starts[:, :2] - centre).abs() / (side / 2)
    growth = (starts[:, 2:] / side - 1).abs()
    for moved in (drift, growth):
        assert (moved <= 0.4 + 1e-5).all()
        assert moved.mean() == pytest.approx(0.2, abs=0.02)


def test_a_sentence_with_more_boxes_than_starts() -> None:
    many = torch.rand(5, 4).sort(dim=1).values
    pairs = Denoising(queries=2).matches(targets([many]), layers=2)
    assert pairs.gold.tolist() == [0, 1, 0, 1]
    assert pairs.layer.tolist() == [0, 0, 1, 1]
    assert pairs.query.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("boxes", [[], BOXES[:1]])
def test_nothing_to_denoise(boxes: list[torch.Tensor]) -> None:
    denoising = Denoising(queries=4)
    assert denoising.starts(targets(boxes)).shape == (len(boxes), 4, 4)
    assert len(denoising.matches(targets(boxes), layers=2).gold) == 0


@pytest.mark.parametrize("learned", [False, True])
def test_further_starts_change_no_answer_and_do_not_see_each_other(learned: bool) -> None:
    model = make_model()
    if learned:
        model = with_learned(model)
    images, valid = make_images()
    plain = model(images, valid, PHRASES, INDEX)
    assert plain.denoised is None
    starts = to_cxcywh(torch.rand(4, 3, 4).sort(dim=-1).values)
    output = model(images, valid, PHRASES, INDEX, starts)
    torch.testing.assert_close(output.boxes, plain.boxes)
    torch.testing.assert_close(output.logits, plain.logits)
    assert output.denoised.shape == (2, 4, 3, 4)
    alone = model(images, valid, PHRASES, INDEX, starts[:, 1:2]).denoised
    torch.testing.assert_close(output.denoised[:, :, 1:2], alone)
    assert not output.denoised[0].allclose(starts, atol=1e-4)


def with_learned(like: GroundingModel) -> GroundingModel:
    torch.manual_seed(2)
    return GroundingModel(
        like.image_encoder, like.text_encoder, width=32, heads=4, fusion_layers=1, decoder_layers=2, queries=5,
        memory=16, ff_ratio=2, dropout=0.0, learned_queries=True,
    ).eval()  # fmt: skip


def test_learned_queries_start_alike_for_every_sentence() -> None:
    model = with_learned(make_model())
    content, place = model.learned(3)
    assert content.shape == (3, 5, 32)
    assert (content[0] == content[2]).all()
    assert ((place > 0) & (place < 1)).all()
    output = model(*make_images(), PHRASES, INDEX)
    (output.logits.sum() + output.boxes.sum()).backward()
    assert model.learned.content.grad.abs().sum() > 0
    assert model.learned.place.grad is not None


def test_the_denoising_part_is_written_out() -> None:
    """Two starts per sentence, two layers: the mean over the starts of sentences with boxes, of either layer."""
    output = make_output(3)
    denoised = torch.rand(2, 3, 2, 4, dtype=torch.float64).requires_grad_()
    loss = GroundingCriterion(denoising=Denoising(queries=2))
    parts = loss(replace(output, denoised=denoised), make_batch(BOXES))
    without = GroundingCriterion()(output, make_batch(BOXES))
    golds = [(1, 0, BOXES[1][0]), (1, 1, BOXES[1][1]), (2, 0, BOXES[2][0]), (2, 1, BOXES[2][0])]
    terms = [
        iou_terms(denoised[layer, phrase, query].detach().numpy(), gold.double().numpy())
        for layer in range(2)
        for phrase, query, gold in golds
    ]
    l1, giou = (sum(column) / len(terms) for column in zip(*terms, strict=True))
    assert parts["denoise_l1"].item() == pytest.approx(l1)
    assert parts["denoise_giou"].item() == pytest.approx(giou)
    assert parts["loss"].item() == pytest.approx(without["loss"].item() + 5 * l1 + 2 * giou)
    parts["loss"].backward()
    assert (denoised.grad[:, 0] == 0).all()
    assert (denoised.grad[:, 1:].abs().sum(-1) > 0).all()


def test_nothing_is_denoised_in_evaluation() -> None:
    batch = make_batch(BOXES)
    loss = GroundingCriterion(denoising=Denoising(queries=2))
    assert loss.starts(batch).shape == (3, 2, 4)
    assert loss.eval().starts(batch) is None
    assert "denoise_l1" not in loss(make_output(3), batch)
    assert GroundingCriterion().starts(batch) is None


def test_confidence_learns_the_iou_of_its_box() -> None:
    gold = torch.tensor([[0.2, 0.2, 0.6, 0.6]], dtype=torch.float64)
    shifted = to_cxcywh(gold + torch.tensor([0.1, 0.0, 0.1, 0.0]))  # IoU 0.3 / 0.5
    output = replace(make_output(1, queries=1, layers=1), boxes=shifted[None, None].requires_grad_())
    for score in (0.59, 0.61):
        logits = torch.tensor([[[score]]], dtype=torch.float64).logit().requires_grad_()
        GroundingCriterion(confidence="iou")(replace(output, logits=logits), make_batch([gold]))["score"].backward()
        torch.testing.assert_close(logits.grad.squeeze(), torch.tensor(score - 0.6, dtype=torch.float64))
    assert output.boxes.grad is None, "confidence pulls at no box"
    assert to_xyxy(shifted).allclose(gold + torch.tensor([0.1, 0.0, 0.1, 0.0]))


def test_sentences_without_boxes_are_silent_whatever_the_confidence() -> None:
    batch = make_batch(BOXES[:1])
    expected = GroundingCriterion()(make_output(1), batch)["score"]
    torch.testing.assert_close(GroundingCriterion(confidence="iou")(make_output(1), batch)["score"], expected)
