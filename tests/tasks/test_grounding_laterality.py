"""The laterality check on models whose handling of sides is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from datamodules.batches import GroundingBatch
from datamodules.records import PhraseRecord
from medvl.cli.main import main
from medvl.geometry import AxisTransform
from medvl.sides import names_side, swap_sides
from tasks.grounding.laterality import Laterality, mirror
from tasks.grounding.postprocess import Postprocess
from tasks.grounding.task import PhraseTask

SIDE, SIZE = 64, (100, 200)  # of the network input, of the original image
PHRASES = ["opacity in the left lung", "opacity in the right lung", "opacidad derecha", "two opacities", "Cardiomegaly"]
CONFIGS = Path(__file__).parents[2] / "configs"


def find(image: Tensor, phrase: str) -> list[list[float]]:
    """The patches of the named side (the patient's left is on the right of the image), xyxy in [0, 1]; or both."""
    boxes = []
    for word, half in (("left", slice(32, 64)), ("right", slice(0, 32))):
        said = phrase.replace("izquierda", "left").replace("derecha", "right")
        if word in said or not names_side(phrase):
            rows, columns = (image[0, :, half] > 0.5).nonzero(as_tuple=True)
            if len(rows):
                edges = columns.min() + half.start, rows.min(), columns.max() + half.start + 1, rows.max() + 1
                boxes.append([edge.item() / SIDE for edge in edges])
    return boxes


def habit(image: Tensor, phrase: str) -> list[list[float]]:
    return [[0.1, 0.3, 0.4, 0.6]]


def wrong_way_round(image: Tensor, phrase: str) -> list[list[float]]:
    """Takes the patient's left for the image's left: consistent in the mirror, and so not caught without gold."""
    return find(image, swap_sides(phrase) or phrase)


def deaf(image: Tensor, phrase: str) -> list[list[float]]:
    """Always shows the brightest patch of the image's left half, whatever the words say."""
    return find(image, "right")


def words_alone(image: Tensor, phrase: str) -> list[list[float]]:
    return [[0.6, 0.3, 0.9, 0.6]] if "left" in phrase or "izquierda" in phrase else [[0.1, 0.3, 0.4, 0.6]]


class Model(nn.Module):
    """Answers through `find` or the like, three queries a sentence."""

    def __init__(self, see: Callable[[Tensor, str], list[list[float]]]) -> None:
        super().__init__()
        self.see = see

    def forward(self, images: Tensor, valid: Tensor, phrases: list[str], image_index: Tensor) -> SimpleNamespace:
        logits, boxes = torch.full((1, len(phrases), 3), -9.0), torch.full((1, len(phrases), 3, 4), 0.1)
        for row, (phrase, image) in enumerate(zip(phrases, image_index.tolist(), strict=True)):
            for place, (x0, y0, x1, y1) in enumerate(self.see(images[image], phrase)):
                logits[0, row, place] = 2.0 - place
                boxes[0, row, place] = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
        return SimpleNamespace(logits=logits, boxes=boxes)


def make_batch() -> GroundingBatch:
    """Two images, each with a patch on either side; every phrase of each."""
    images = torch.zeros(2, 1, SIDE, SIDE)
    images[0, 0, 20:34, 6:22], images[0, 0, 36:46, 40:60] = 1.0, 0.8
    images[1, 0, 18:30, 8:30], images[1, 0, 30:44, 44:54] = 0.9, 1.0
    transform = AxisTransform.letterbox(SIZE, (SIDE, SIDE))
    boxes = [torch.tensor(find(images[i], phrase)).reshape(-1, 4) for i in range(2) for phrase in PHRASES]
    return GroundingBatch(
        images=images,
        valid=torch.ones(2, SIDE, SIDE, dtype=torch.bool),
        phrases=PHRASES * 2,
        image_index=torch.arange(2).repeat_interleave(len(PHRASES)),
        boxes=boxes,
        image_boxes=[torch.cat(boxes[: len(PHRASES)]), torch.cat(boxes[len(PHRASES) :])],
        share=torch.ones(2),
        transforms=[transform, transform],
        records=[PhraseRecord("", "", phrase, (), "", "", "test", "test") for phrase in PHRASES * 2],
    )


def shares(see: Callable[[Tensor, str], list[list[float]]]) -> tuple[float, float]:
    task = PhraseTask(Model(see), nn.Identity(), Postprocess(0.5, None))
    batch, laterality = make_batch(), Laterality()
    laterality.update(batch, task.predict_step(batch, 0), lambda other: task.predict_step(other, 0))
    values = laterality.compute()
    return values["laterality/sided"].item(), values["laterality/plain"].item()


@pytest.mark.parametrize(
    ("see", "sided", "plain"),
    [(find, 1, 1), (habit, 0, 0), (deaf, 0, 0), (wrong_way_round, 1, 1), (words_alone, 1, 0)],
)
def test_boxes_mirror_where_they_should(
    see: Callable[[Tensor, str], list[list[float]]], sided: float, plain: float
) -> None:
    assert shares(see) == (sided, plain)


def test_words_that_are_not_swapped_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The swap is what the check stands on: without it the model that is right fails."""
    monkeypatch.setattr("tasks.grounding.laterality.swap_sides", lambda phrase: phrase)
    assert shares(find) == (0, 1)


def test_nothing_shown_is_no_answer() -> None:
    assert all(math.isnan(share) for share in shares(lambda image, phrase: []))


def test_the_mirror_of_the_mirror_is_the_batch() -> None:
    batch = make_batch()
    other = mirror(batch)
    assert other.phrases[:5] == [
        "opacity in the right lung", "opacity in the left lung", "opacidad izquierda", "two opacities", "Cardiomegaly",
    ]  # fmt: skip
    for image, phrase, boxes in zip(other.image_index.tolist(), other.phrases, other.boxes, strict=True):
        expected = torch.tensor(find(other.images[image], phrase)).reshape(-1, 4)
        order = boxes[:, 0].argsort(descending=True)
        torch.testing.assert_close(boxes[order], expected[expected[:, 0].argsort(descending=True)])
    again = mirror(other)
    assert again.phrases == batch.phrases
    assert torch.equal(again.images, batch.images)
    torch.testing.assert_close(torch.cat(again.boxes), torch.cat(batch.boxes))
    assert again.transforms == batch.transforms


def test_it_and_the_figures_of_grec_are_options_of_test(
    padchest_twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    words = (
        f"test --config {CONFIGS}/quickstart/grounding.yaml --data.image_size 64 --data.source.root {padchest_twin} "
        "--untrained true --trainer.callbacks+=LateralityCheck --trainer.callbacks+=GrefMetrics "
        "--trainer.enable_progress_bar false --model.postprocess.threshold 0"
    )
    assert main(words.split()) == 0
    run = next((tmp_path / "runs/grounding/grounding").glob("2*"))
    last = (run / "metrics.jsonl").read_text().splitlines()[-1]
    assert '"test/laterality/sided": ' in last
    assert '"test/laterality/plain": ' in last
    assert '"test/gref/p_at_f1": ' in last
    report = (run / "report.html").read_text()
    assert "test/gref/n_acc" in report
    assert all(f">{word}<" in report for word in ("Sex", "Age", "View", "Scanner", "AP_horizontal"))
