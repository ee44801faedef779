"""The baselines: what the rule denies, what each token is to find, and that each kind of network learns what it can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from datamodules.batches import GroundingBatch
from datamodules.records import PhraseRecord
from medvl.cli.main import main
from medvl.encoders import TinyConv, TinyText
from medvl.geometry import AxisTransform
from medvl.metrics.grounding import phrase_outcomes
from medvl.outputs import read_predictions
from tasks.grounding.baselines import DenseTask, OneBoxTask
from tasks.grounding.baselines.dense import DenseModel, owners
from tasks.grounding.baselines.negation import denies
from tasks.grounding.baselines.one_box import OneBoxCriterion, OneBoxModel
from tasks.grounding.baselines.shared import hulls
from tasks.grounding.boxes import to_xyxy
from tasks.grounding.matcher import Targets
from tasks.grounding.task import PhraseTask

CONFIGS = Path(__file__).parents[2] / "configs"
SIDE = 48


@pytest.mark.parametrize(
    "sentence",
    [
        "No focal airspace disease.",
        "There are no displaced rib fractures.",
        "Negative for effusion or pneumothorax.",
        "A pneumothorax is not identified.",
        "The opacity on the left has resolved.",
        "Cardiomediastinal silhouette is within normal limits.",
        "The lungs are clear.",
        "No se observan condensaciones.",
        "Sin signos de derrame pleural.",
        "Silueta cardíaca de tamaño normal.",
        "Senos costofrénicos libres.",
    ],
)
def test_the_rule_denies(sentence: str) -> None:
    assert denies(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Right pleural effusion without pneumothorax.",
        "No significant change in the left basal consolidation.",
        "No interval increase of the known effusion.",
        "Abnormal density in the right apex.",
        "Large free effusion.",
        "Derrame pleural libre.",
        "Sin cambios en el nódulo conocido.",
        "Nódulo bien definido en el lóbulo superior derecho.",
        "Central venous catheter.",
    ],
)
def test_the_rule_leaves(sentence: str) -> None:
    assert not denies(sentence)


def test_one_box_shall_enclose_all() -> None:
    boxes = [torch.tensor([[0.1, 0.4, 0.3, 0.5], [0.6, 0.2, 0.9, 0.45]]), torch.zeros(0, 4), torch.rand(1, 4)]
    boxed, around = hulls(boxes)
    assert boxed.tolist() == [True, False, True]
    torch.testing.assert_close(around[0], torch.tensor([0.1, 0.2, 0.9, 0.5]))
    assert torch.equal(around[1:], boxes[2])
    assert hulls([torch.zeros(0, 4)])[1].shape == (0, 4)


def test_each_token_finds_the_smallest_box_whose_middle_it_is_near() -> None:
    rng = torch.Generator().manual_seed(0)
    height, width, radius = 5, 8, 1.5
    corner, size = torch.rand(12, 2, generator=rng) * 0.6, 0.02 + torch.rand(12, 2, generator=rng) * 0.38
    boxes = torch.cat([corner, corner + size], dim=1)
    per_phrase = [boxes[:5], boxes[5:5], boxes[5:6], boxes[6:]]
    owner = owners(Targets.pack(per_phrase, like=boxes), (height, width), 4, radius)
    expected, start = torch.full((4, height * width), -1), 0
    for phrase, own in enumerate(per_phrase):
        for token in range(height * width):
            x, y = (token % width + 0.5) / width, (token // width + 0.5) / height
            best = float("inf")
            for row, (x1, y1, x2, y2) in enumerate(own.tolist()):
                cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
                near = abs(x - cx) * width <= radius and abs(y - cy) * height <= radius
                holds = int(cx * width) + int(cy * height) * width == token  # the token that its middle lies in
                area = (x2 - x1) * (y2 - y1)
                if ((x1 <= x <= x2 and y1 <= y <= y2 and near) or holds) and area < best:
                    best, expected[phrase, token] = area, start + row
        start += len(own)
    assert torch.equal(owner, expected)
    assert owners(Targets.pack([boxes[:0]], like=boxes), (height, width), 1, radius).eq(-1).all()


def test_nms_is_that_of_each_sentence_alone() -> None:
    torch.manual_seed(0)
    model = DenseModel(TinyConv(width=64), TinyText(width=32), width=32, most=6, nms=0.4)
    scores, boxes = torch.randn(3, 40), torch.rand(3, 40, 4) * 0.3 + 0.3
    logits, found = model._suppress(scores, boxes)
    for own, own_boxes, logit, box in zip(scores, boxes, logits, found, strict=True):
        left = nms(to_xyxy(own_boxes), own, 0.4)[:6]
        torch.testing.assert_close(logit[: len(left)], own[left])
        torch.testing.assert_close(box[: len(left)], own_boxes[left])
        assert (logit[len(left) :] == -1e4).all()


def test_padding_gets_no_box() -> None:
    torch.manual_seed(0)
    model = DenseModel(TinyConv(width=64), TinyText(width=32), width=32, nms=1.0)
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    valid[:, :, SIDE // 2 :] = False
    output = model(torch.rand(1, 1, SIDE, SIDE), valid, ["a nodule"], torch.tensor([0]))
    shown = output.logits[0, 0] > -1e3
    width, own = output.grid[1], output.token_logits[0].view(output.grid) > -1e3
    assert own[:, : width // 2].all()
    assert not own[:, width // 2 :].any()
    assert shown.any()


def test_the_rule_answers_alone() -> None:
    torch.manual_seed(0)
    batch = toy()
    batch.phrases = ["No bright patch.", *batch.phrases[1:]]
    asked, ruled = (
        OneBoxModel(TinyConv(width=64), TinyText(width=32), 32, 2, 1, 2, 0.0, rule) for rule in (False, True)
    )
    ruled.load_state_dict(asked.state_dict())
    first, second = (model(batch.images, batch.valid, batch.phrases, batch.image_index) for model in (asked, ruled))
    assert second.denied.tolist() == [True] + [False] * (len(batch) - 1)
    assert second.logits[0, 0].sigmoid() == 0 < first.logits[0, 0].sigmoid()
    torch.testing.assert_close(first.logits[0, 1:], second.logits[0, 1:])
    score = OneBoxCriterion()(second, batch)["score"]
    left = torch.tensor([float(len(boxes) > 0) for boxes in batch.boxes[1:]])
    expected = torch.nn.functional.binary_cross_entropy(second.logits[0, 1:, 0].sigmoid(), left)
    torch.testing.assert_close(score, expected)


def toy() -> GroundingBatch:
    """Three pictures of bright and dark patches; a phrase asks for one kind: one box, two boxes, or none."""
    patches = [([(4, 4, 18, 20)], [(28, 26, 44, 42)]), ([(26, 6, 44, 22)], []), ([(6, 28, 20, 44)], [(28, 4, 42, 20)])]
    patches[2][0].append((30, 30, 46, 46))
    images = torch.full((3, 1, SIDE, SIDE), 0.5)
    boxes: list[Tensor] = []
    for image, kinds in zip(images, patches, strict=True):
        for value, kind in zip((1.0, 0.0), kinds, strict=True):
            for x1, y1, x2, y2 in kind:
                image[0, y1:y2, x1:x2] = value
            boxes.append(torch.tensor(kind, dtype=torch.float32).reshape(-1, 4) / SIDE)
    index = torch.arange(6) // 2
    records = [PhraseRecord(f"{i}", f"{i}.png", "", (), f"{i}", f"{i}", "train", "toy") for i in index.tolist()]
    whole = [AxisTransform.letterbox((SIDE, SIDE), (SIDE, SIDE)) for _ in range(3)]
    valid = torch.ones(3, SIDE, SIDE, dtype=torch.bool)
    phrases = ["a bright patch", "something dark"] * 3
    image_boxes = [torch.cat(boxes[2 * i : 2 * i + 2]) for i in range(3)]
    return GroundingBatch(images, valid, phrases, index, boxes, image_boxes, torch.ones(3), whole, records)


def right(task: PhraseTask, batch: GroundingBatch) -> list[float]:
    """Return which phrases are answered exactly at IoU .5."""
    output = task.eval()(batch)
    preds = [
        {"boxes": to_xyxy(boxes), "scores": logits.sigmoid()}
        for boxes, logits in zip(output.boxes[-1].detach(), output.logits[-1].detach(), strict=True)
    ]
    found = phrase_outcomes(preds, [{"boxes": boxes} for boxes in batch.boxes], threshold=0.5)
    answers: list[float] = found["p_at_f1"].tolist()
    return answers


@pytest.mark.parametrize("kind", ["dense", "one-box"])
def test_it_learns_what_it_can(kind: str) -> None:
    torch.manual_seed(0)
    encoders = TinyConv(width=64), TinyText(width=32, depth=1, buckets=256)
    task: PhraseTask = (
        DenseTask(*encoders, width=48, dropout=0.0)
        if kind == "dense"
        else OneBoxTask(*encoders, width=48, heads=4, layers=1, dropout=0.0)
    )
    batch, optimizer = toy(), torch.optim.AdamW(task.parameters(), lr=2e-3)
    possible = [1.0] * 6 if kind == "dense" else [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]  # one box cannot answer two
    for step in range(1, 301):
        loss = task.train().criterion(task(batch), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 and right(task, batch) == possible:
            break
    assert right(task, batch) == possible


@pytest.mark.parametrize("name", ["one_box_rule", "dense"])
def test_its_config_trains_on_the_data_of_the_quickstart(
    name: str, padchest_twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    words = f"--config {CONFIGS}/grounding/baseline_{name}.yaml --data.source.root {padchest_twin}"
    short = "--trainer.max_steps 2 --trainer.val_check_interval 2 --data.image_size 64 --data.batch_size 8"
    assert main(f"fit {words} {short} --trainer.enable_progress_bar false".split()) == 0
    run = (tmp_path / f"runs/grounding/baseline_{name}/latest").resolve()
    assert main(f"test --run {run}".split()) == 0
    lines = read_predictions(run / "predictions/test.jsonl")
    assert {len(line.all_boxes_xyxy_px) for line in lines} == {8 if name == "dense" else 1}
    denied = [line for line in lines if denies(line.phrase)]
    assert denied
    if name == "one_box_rule":
        assert all(line.all_scores == (0.0,) for line in denied)
