from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from medvl.encoders import TinyConv, TinyText
from tasks.grounding.layers import Scorer, grid_centres
from tasks.grounding.model import GroundingModel, GroundingOutput

PHRASES = ["small nodule", "there is no pleural effusion on either side", "left", "band-like opacity at the base"]
INDEX = torch.tensor([0, 0, 1, 2])


def make_model(queries: int = 5, fusion: int = 1, memory: int = 16, seed: int = 0) -> GroundingModel:
    torch.manual_seed(seed)
    model = GroundingModel(
        TinyConv(width=64, context=1), TinyText(width=32, depth=1, buckets=512),
        width=32, heads=4, fusion_layers=fusion, decoder_layers=2,
        queries=queries, memory=memory, ff_ratio=2, dropout=0.0,
    )  # fmt: skip
    for parameter in model.parameters():  # away from the start, where heads answer the same everywhere
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def make_images() -> tuple[Tensor, Tensor]:
    """Return three images of 48 x 80 pixels; the second has padding on the right, the third at the bottom."""
    images = torch.rand(3, 1, 48, 80, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(3, 48, 80, dtype=torch.bool)
    valid[1, :, 40:] = valid[2, 16:] = False
    return images, valid


@pytest.mark.parametrize("fusion", [0, 2])
def test_shapes_and_ranges(fusion: int) -> None:
    output = make_model(fusion=fusion)(*make_images(), PHRASES, INDEX)
    assert output.logits.shape == (2, 4, 5)
    assert output.boxes.shape == (2, 4, 5, 4)
    assert output.grid == (6, 10)
    assert output.heat.shape == (4, 60)
    assert output.any_heat.shape == (3, 60)
    assert output.any_boxes.shape == (3, 60, 4)
    for boxes in (output.boxes, output.any_boxes):
        assert (boxes > 0).all()
        assert (boxes < 1).all()
    assert (output.heat > -1e4).sum(1).tolist() == [60, 60, 30, 20]
    assert (output.any_heat > -1e4).sum(1).tolist() == [60, 30, 20]


def test_at_the_start_boxes_lie_at_distinct_tokens_and_confidence_is_low() -> None:
    torch.manual_seed(0)
    model = GroundingModel(TinyConv(width=64), TinyText(width=32), width=32, heads=4, fusion_layers=0).eval()
    output = model(*make_images(), PHRASES, INDEX)
    assert output.logits.sigmoid().max() < 0.2
    assert output.heat.sigmoid().max() < 0.1
    centres = grid_centres(output.grid, output.boxes.device)
    for boxes, mask in zip(output.boxes[-1, ..., :2], output.heat > -1e4, strict=True):
        nearest = torch.cdist(boxes, centres).argmin(1)
        assert nearest.unique().numel() == 8
        assert mask[nearest].all()


def test_padding_is_never_chosen_and_says_nothing() -> None:
    model = make_model(queries=20)  # as many as the smallest image has tokens
    images, valid = make_images()
    output = model(images, valid, PHRASES, INDEX)
    content = model.image_encoder(images, valid).mask[INDEX]
    assert (output.heat[~content] == -1e4).all()
    chosen, _ = model._choose(output.heat, output.grid)
    assert content.gather(1, chosen).all()
    other = model(torch.where(valid[:, None], images, 0.7), valid, PHRASES, INDEX)
    torch.testing.assert_close(other.boxes, output.boxes)
    torch.testing.assert_close(other.logits, output.logits)


def test_peaks_come_before_their_neighbours() -> None:
    heat = torch.tensor([[0.0, 9, 8, 0, 0], [0, 7, 6, 0, 3]]).reshape(1, 10)
    peaks, best = make_model(queries=3, memory=4)._choose(heat, (2, 5))
    assert peaks.tolist() == [[1, 9, 2]]
    assert best.tolist() == [[1, 2, 6, 7]]


def test_more_queries_than_tokens() -> None:
    output = make_model(queries=100)(*make_images(), PHRASES, INDEX)
    assert output.logits.shape == (2, 4, 60)
    assert output.boxes.isfinite().all()


def assert_same(found: GroundingOutput, expected: GroundingOutput, rows: list[int]) -> None:
    torch.testing.assert_close(found.logits, expected.logits[:, rows], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes[:, rows], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.heat, expected.heat[rows], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", [0, 1])
def test_a_sentence_does_not_notice_its_batch(fusion: int) -> None:
    model, (images, valid) = make_model(fusion=fusion), make_images()
    together = model(images, valid, PHRASES, INDEX)
    for row, image in enumerate(INDEX.tolist()):
        alone = model(images[image : image + 1], valid[image : image + 1], [PHRASES[row]], torch.tensor([0]))
        assert_same(alone, together, [row])
    order = [2, 0, 3, 1]
    assert_same(model(images, valid, [PHRASES[i] for i in order], INDEX[order]), together, order)


def test_image_and_sentence_both_matter() -> None:
    model, (images, _) = make_model(), make_images()
    output = model(images[:2], None, [PHRASES[0], PHRASES[1], PHRASES[0]], torch.tensor([0, 0, 1]))
    assert not output.heat[0].allclose(output.heat[1], atol=1e-3)
    assert not output.heat[0].allclose(output.heat[2], atol=1e-3)
    assert (output.heat > -1e4).all()


def test_features_without_a_plane_are_refused() -> None:
    model, (images, valid) = make_model(), make_images()
    text, image = model.text_encoder(PHRASES), model.image_encoder(images, valid)
    for grid in (None, (3, 4, 5)):
        with pytest.raises(ValueError, match="2D token grid"):
            model.ground(dataclasses.replace(image, grid=grid), text, INDEX)


def test_tokens_outside_the_memory_do_not_matter() -> None:
    """With a memory as large as the image nothing is left out; with a small one only the best tokens are looked at."""
    model, (images, valid) = make_model(fusion=0, memory=60), make_images()
    whole = model(images, valid, PHRASES, INDEX)
    model.memory = 1000
    torch.testing.assert_close(model(images, valid, PHRASES, INDEX).boxes, whole.boxes)
    model.memory = 8
    few = model(images, valid, PHRASES, INDEX)
    torch.testing.assert_close(few.heat, whole.heat)
    assert not few.boxes.allclose(whole.boxes, atol=1e-4)


def test_a_model_without_queries_or_memory_is_refused() -> None:
    for sizes in ({"queries": 0}, {"memory": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            make_model(**sizes)


def test_scores_are_additive_attention() -> None:
    torch.manual_seed(0)
    scorer, tokens, sentence = Scorer(8, 6, bias=-2.0), torch.randn(2, 5, 8), torch.randn(3, 8)
    row = torch.tensor([0, 1, 1])
    found = scorer.detect(tokens)
    scores = scorer.score(found, row, sentence)
    for p, b in enumerate(row.tolist()):
        threshold, weight = scorer.threshold(sentence[p]), scorer.weight(sentence[p])
        for n in range(5):
            moved = (found[b, n] + threshold).detach()
            expected = sum(weight[r] * max(0.0, float(moved[r])) for r in range(6)) - 2.0
            torch.testing.assert_close(scores[p, n], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", [0, 1])
def test_gradients_reach_every_parameter(fusion: int) -> None:
    model = make_model(fusion=fusion)
    output = model(*make_images(), PHRASES, INDEX)
    total = output.logits.sum() + output.boxes.sum() + output.heat.sum()
    (total + output.any_boxes.sum() + output.any_heat.sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_bfloat16_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = make_model()(*make_images(), PHRASES, INDEX)
    assert output.boxes.isfinite().all()
    assert output.logits.isfinite().all()
