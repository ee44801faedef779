from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import tensor

from datamodules.records import PhraseRecord
from datamodules.sources import PadChestGR, VinDrCXR
from datamodules.twins import vindr
from medvl.metrics.grounding import GroundingMetrics
from medvl.metrics.readers import inter_reader
from medvl.outputs import PhrasePrediction
from medvl.viz.scores import READERS, Scores
from tasks.grounding.postprocess import Detections
from tasks.grounding.predictions import SentenceResult, _prediction

NOTHING = torch.zeros(0, 4)
BOX, SHIFTED, FAR = (tensor([[x, 0.1, x + 0.4, 0.5]]) for x in (0.1, 0.15, 0.55))


def test_ceiling_by_hand() -> None:
    first = [BOX, BOX, BOX, NOTHING, NOTHING, BOX]
    second = [SHIFTED, FAR, NOTHING, NOTHING, BOX, None]
    values = {name: value.item() for name, value in inter_reader(first, second).items()}
    assert values["phrases"] == 5
    assert values["p_at_f1"] == pytest.approx(2 / 5)
    assert values["p_at_f1/single"] == pytest.approx(1 / 3)
    assert values["n_acc"] == pytest.approx(1 / 2)
    assert values["t_acc"] == pytest.approx(2 / 3)
    assert values["coverage"] == pytest.approx((0.35 / 0.45) / 3, abs=1e-5)
    strict = inter_reader(first, second, iou_threshold=0.9)
    assert strict["p_at_f1/single"] == 0
    with pytest.raises(ValueError, match="zip"):
        inter_reader(first, second[1:])


def test_no_second_reader_is_no_figure() -> None:
    values = inter_reader([BOX], [None])
    assert values.pop("phrases") == 0
    assert all(value.isnan() for value in values.values())


def tensors(records: list[PhraseRecord]) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    gold = [tensor(r.boxes).reshape(-1, 4) for r in records]
    return gold, [None if r.extra_boxes is None else tensor(r.extra_boxes).reshape(-1, 4) for r in records]


def test_ceiling_of_the_twins(padchest_twin: Path, tmp_path: Path) -> None:
    records = PadChestGR(padchest_twin).load().records
    values = inter_reader(*tensors(records))
    assert 0 < values["phrases"] < sum(bool(r.boxes) for r in records)
    assert values["p_at_f1"] > 0.6  # their second reader has boxes wherever the first has, a little apart
    assert values["n_acc"].isnan()

    vindr.write(tmp_path / "twin", 30, seed=0, size=64)
    single = VinDrCXR(tmp_path / "twin", readers="single").load().records
    values = inter_reader(*tensors(single))
    assert values["phrases"] == sum(not r.path.startswith("test") for r in single)
    assert 0.5 < values["p_at_f1/boxed"] < values["n_acc"] <= 1  # readers miss findings
    assert inter_reader(*tensors(VinDrCXR(tmp_path / "twin").load().records))["phrases"] == 0


def prediction(second: tuple[tuple[float, ...], ...] | None, patient: str = "p") -> PhrasePrediction:
    gold = (10.0, 10.0, 50.0, 50.0)
    return PhrasePrediction(
        "a.png", "nodule", (gold,), (0.6,), 0.5, kind="boxed", patient=patient, gold_xyxy_px=(gold,),
        all_boxes_xyxy_px=(gold, gold), all_scores=(0.6, 0.1), second_boxes_xyxy_px=second,  # type: ignore[arg-type]
    )  # fmt: skip


def test_predictions_carry_the_second_reader() -> None:
    boxes = ((12.5, 10.0, 50.0, 50.0),)
    for second in (boxes, (), None):
        one = prediction(second)
        assert PhrasePrediction.from_json(one.to_json()) == one
        other = one.by_second_reader()
        assert (None if other is None else (other.boxes_xyxy_px, len(other.scores))) == (
            None if second is None else (second, len(second))
        )
    assert PhrasePrediction.from_json(prediction(boxes).to_json(full=False)).second_boxes_xyxy_px == boxes


def test_records_reach_predictions_in_pixels() -> None:
    found = Detections(torch.zeros(0, 4), torch.zeros(0))
    for extra, expected in ((((0.1, 0.2, 0.5, 0.5),), ((20.0, 20.0, 100.0, 50.0),)), ((), ()), (None, None)):
        record = PhraseRecord("a", "a.png", "x", (), "p", "s", "test", "toy", extra_boxes=extra)
        made = _prediction(SentenceResult(record, (100, 200), found, found), "", b"", 0.5, True)
        drawn = made.second_boxes_xyxy_px
        assert (None if drawn is None else tuple(tuple(map(round, box)) for box in drawn)) == expected


def test_report_sets_the_model_beside_the_second_reader() -> None:
    good, bad = ((12.0, 10.0, 50.0, 50.0),), ((200.0, 10.0, 250.0, 50.0),)
    rows = [prediction(second, f"p{i}") for i, second in enumerate([good, good, good, bad, None])]
    table = Scores.of(rows).table()
    found = {name: re.findall(r"<td[^>]*>(.*?)</td>", table.partition(name)[2])[:3] for name in READERS}
    assert [cells[0] for cells in found.values()] == ["4", "4"]
    assert [cells[2][:5] for cells in found.values()] == ["1.000", "0.750"]
    assert READERS[0] not in Scores.of(rows[-1:]).table()


def test_ceiling_equals_the_metric_on_the_same_phrases() -> None:
    torch.manual_seed(0)
    low = torch.rand(40, 2, 2) * 0.5
    boxes = torch.cat([low, low + 0.1 + 0.3 * torch.rand(40, 2, 2)], -1)
    second = (boxes + 0.03 * torch.randn_like(boxes)).sort(dim=-1).values.clamp(0, 1)
    second = torch.cat(
        [torch.minimum(second[..., :2], second[..., 2:]), torch.maximum(second[..., :2], second[..., 2:])], -1
    )
    metric = GroundingMetrics(overlap="giou", matching="greedy")
    metric.update([{"boxes": each, "scores": torch.ones(2)} for each in second], [{"boxes": each} for each in boxes])
    found = inter_reader(list(boxes), list(second), overlap="giou", matching="greedy")
    torch.testing.assert_close({k: v for k, v in found.items() if k != "phrases"}, metric.compute(), equal_nan=True)
