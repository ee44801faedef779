"""GREC's figures from a test run: of every query, whatever the task shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from datamodules.records import PhraseRecord
from medvl.metrics.boxes import pairwise_overlap
from tasks.grounding import GrefMetrics
from tasks.grounding.postprocess import Detections
from tasks.grounding.predictions import SentenceResult

Boxes = list[list[float]]
SIDE = 100
A, B = [10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]
ASKEW = [17.0, 17.0, 57.0, 57.0]  # with `A`: IoU over one half, GIoU under it
FAR = [0.0, 0.0, 5.0, 5.0]


def result(gold: Boxes, found: list[tuple[list[float], float]], shown: Boxes) -> SentenceResult:
    boxes = tuple((x0 / SIDE, y0 / SIDE, x1 / SIDE, y1 / SIDE) for x0, y0, x1, y1 in gold)
    record = PhraseRecord("i", "i.png", "A phrase.", boxes, "p", "s", "test", "made")
    every = Detections(torch.tensor([box for box, _ in found]), torch.tensor([score for _, score in found]))
    kept = Detections(torch.tensor(shown).reshape(-1, 4), torch.ones(len(shown)))
    return SentenceResult(record, (SIDE, SIDE), every, kept)


RESULTS = [
    result([A], [(A, 0.7), (FAR, 0.69)], [FAR]),  # right, although what is shown is wrong
    result([A], [(ASKEW, 0.9)], [A]),  # wrong, for it goes by GIoU
    result([A, B], [(B, 0.8), (A, 0.75)], []),  # right
    result([A], [(A, 0.6)], [A]),  # silent
    result([], [(A, 0.71)], []),  # not silent
    result([], [(A, 0.3)], [A]),  # silent, and right
    result([], [(A, 0.1)], []),
]
EXPECTED = {
    "p_at_f1": 4 / 7,
    "p_at_f1/single": 1 / 3,
    "p_at_f1/multi": 1,
    "p_at_f1/boxed": 2 / 4,
    "p_at_f1/zero": 2 / 3,
    "n_acc": 2 / 3,
    "t_acc": 3 / 4,
    "t_acc/single": 2 / 3,
    "t_acc/multi": 1,
}


class Told(LightningModule):
    """Says what it is told to."""

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return [RESULTS[int(i)] for i in batch]


def test_figures_are_of_all_queries_by_the_definition_of_grec(tmp_path: Path) -> None:
    iou, giou = pairwise_overlap(*(torch.tensor([[box]]).double().numpy() for box in (A, ASKEW)))
    assert giou.item() < 0.5 < iou.item()  # else the second case proves nothing
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                      default_root_dir=tmp_path, callbacks=[GrefMetrics()])  # fmt: skip
    for _ in range(2):  # a second test does not add to the first
        trainer.test(Told(), DataLoader(range(len(RESULTS)), batch_size=3), verbose=False)  # type: ignore[arg-type]
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        assert logged == pytest.approx({f"test/gref/{name}": value for name, value in EXPECTED.items()})
