from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ensemble_boxes import weighted_boxes_fusion
from torch import Tensor

from medvl.geometry import AxisTransform
from tasks.grounding.model import GroundingOutput
from tasks.grounding.postprocess import Detections, Postprocess

SIDE = 64


def make_output(boxes_px: list[list[float]], logits: list[float], side: int = SIDE) -> GroundingOutput:
    """Return the output for one sentence whose boxes are xyxy in pixels of the network input; two decoder layers."""
    x1, y1, x2, y2 = (torch.tensor(boxes_px, dtype=torch.float64) / side).unbind(-1)
    answer = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1)[None]
    said = torch.tensor(logits, dtype=torch.float64)[None]
    heat = torch.zeros(1, 4)
    return GroundingOutput(
        logits=torch.stack([-said, said]),
        boxes=torch.stack([torch.full_like(answer, 0.5), answer]),
        heat=heat,
        any_heat=heat,
        any_boxes=torch.zeros(1, 4, 4),
        grid=(2, 2),
    )


def found(output: GroundingOutput, transform: AxisTransform) -> Detections:
    return Postprocess().raw(output, torch.tensor([0]), [transform])[0]


@pytest.mark.parametrize(
    ("size", "expected"),
    [  # a box from (20, 24) to (44, 48) in 64 x 64 pixels, worked out by hand
        ((200, 100), [12.5, 75.0, 87.5, 150.0]),  # portrait: scale 0.32, 16 columns of padding on the left
        ((100, 200), [62.5, 25.0, 137.5, 100.0]),  # landscape: 16 rows of padding on top
        ((32, 32), [10.0, 12.0, 22.0, 24.0]),  # enlarged
        ((3000, 2500), [687.5, 1125.0, 1812.5, 2250.0]),
    ],
)
def test_boxes_come_back_in_original_pixels(size: tuple[int, int], expected: list[float]) -> None:
    detections = found(make_output([[20, 24, 44, 48]], [2.0]), AxisTransform.letterbox(size, (SIDE, SIDE)))
    torch.testing.assert_close(detections.boxes, torch.tensor([expected]), atol=1e-3, rtol=0)


def test_a_crop_and_a_mirror_image_are_undone() -> None:
    # Columns 50 to 114 and rows 20 to 84, mirrored: input column c shows column 114 - c.
    crop = AxisTransform.crop((200, 150), (20.0, 50.0), (84.0, 114.0), (SIDE, SIDE)).mirrored()
    detections = found(make_output([[10, 5, 30, 25]], [0.0]), crop)
    torch.testing.assert_close(detections.boxes, torch.tensor([[84.0, 25.0, 104.0, 45.0]]), atol=1e-3, rtol=0)


def test_boxes_end_at_the_image_not_at_the_padding() -> None:
    output = make_output([[0, 0, 64, 64], [0, 10, 8, 20], [-5, 50, 40, 80]], [2.0, 1.0, 0.0])
    detections = found(output, AxisTransform.letterbox((200, 100), (SIDE, SIDE)))
    expected = torch.tensor([[0, 0, 100, 200], [0, 31.25, 0, 62.5], [0, 156.25, 75, 200]])
    torch.testing.assert_close(detections.boxes, expected, atol=1e-3, rtol=0)


def test_the_last_layer_answers_and_the_best_comes_first() -> None:
    output = make_output([[0, 0, 8, 8], [8, 8, 24, 24], [24, 24, 40, 40]], [-1.0, 3.0, 0.5])
    detections = found(output, AxisTransform.letterbox((SIDE, SIDE), (SIDE, SIDE)))
    torch.testing.assert_close(detections.scores, torch.tensor([3.0, 0.5, -1.0]).sigmoid())
    torch.testing.assert_close(detections.boxes[:, 0], torch.tensor([8.0, 24.0, 0.0]))


def test_every_sentence_takes_the_transform_of_its_image() -> None:
    one = make_output([[16, 16, 48, 48]], [0.0])
    both = replace(one, logits=one.logits.repeat(1, 3, 1), boxes=one.boxes.repeat(1, 3, 1, 1))
    transforms = [AxisTransform.letterbox((n, n), (SIDE, SIDE)) for n in (64, 128)]
    sides = [each.boxes[0, 2].item() for each in Postprocess().raw(both, torch.tensor([1, 0, 1]), transforms)]
    assert sides == pytest.approx([96, 48, 96])


def detections(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = torch.tensor(rows).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def test_kept_is_what_scores_above_the_threshold() -> None:
    given = detections((0, 0, 9, 9, 0.7), (50, 50, 60, 60, 0.5), (80, 80, 90, 90, 0.2))
    assert Postprocess().keep(given).scores.tolist() == pytest.approx([0.7])  # greater, not equal
    assert len(Postprocess(threshold=0.4).keep(given).scores) == 2
    nothing = Postprocess(threshold=0.9).keep(given)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.scores.shape == (0,)


def weighted_mean(boxes: Tensor, scores: Tensor) -> Tensor:
    return (boxes * scores[:, None]).sum(0) / scores.sum()


def test_boxes_that_overlap_are_fused_into_their_weighted_mean() -> None:
    given = detections((100, 100, 300, 300, 0.9), (110, 100, 310, 300, 0.6), (600, 50, 700, 90, 0.8))
    kept = Postprocess().keep(given)
    assert len(kept.scores) == 2
    order = kept.boxes[:, 0].argsort()
    fused, single = kept.boxes[order[0]], kept.boxes[order[1]]
    torch.testing.assert_close(fused, weighted_mean(given.boxes[:2], given.scores[:2]), atol=1e-2, rtol=0)
    torch.testing.assert_close(single, given.boxes[2], atol=1e-2, rtol=0)
    assert kept.scores.tolist() == sorted(kept.scores.tolist(), reverse=True)


def test_fusion_leaves_what_is_apart_and_can_be_turned_off() -> None:
    apart = detections((0, 0, 10, 10, 0.9), (5, 0, 15, 10, 0.8))  # IoU 1/3
    assert len(Postprocess(fusion_iou=0.5).keep(apart).scores) == 2
    assert len(Postprocess(fusion_iou=0.3).keep(apart).scores) == 1
    same = detections((0, 0, 10, 10, 0.9), (0, 0, 10, 10, 0.8))
    assert Postprocess(fusion_iou=None).keep(same).boxes.equal(same.boxes)


@pytest.mark.parametrize("seed", range(5))
def test_fusion_does_not_depend_on_the_size_of_the_image(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(6, 2, generator=generator) * 0.5
    boxes = torch.cat([corner, corner + 0.1 + 0.4 * torch.rand(6, 2, generator=generator)], -1)
    scores = (0.5 + 0.5 * torch.rand(6, generator=generator)).sort(descending=True).values
    expected, weights, _ = weighted_boxes_fusion([boxes.tolist()], [scores.tolist()], [[0] * 6], iou_thr=0.5)
    kept = Postprocess().keep(Detections(boxes * 2000, scores))
    torch.testing.assert_close(kept.boxes, torch.tensor(expected * 2000).float(), atol=0.1, rtol=0)
    torch.testing.assert_close(kept.scores, torch.tensor(weights).float())
