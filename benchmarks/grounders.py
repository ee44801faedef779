"""Untrained grounding models and reports for timing: what a sentence costs does not depend on the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.radiographs import HEIGHT, WIDTH, radiographs
from datamodules.pixels import Pixels
from datamodules.records import PhraseRecord
from medvl.encoders.image2d import TimmEncoder
from medvl.encoders.tiny import TinyConv, TinyText
from medvl.io.image import WINDOW, ImageArray
from tasks.grounding.task import GroundingTask

SENTENCES = (
    "The heart is enlarged.", "There is a small left pleural effusion.", "No pneumothorax is seen.",
    "A nodule of 8 mm in the right upper lobe.", "The mediastinal contours are unremarkable.",
    "Patchy opacity at the left lung base, perhaps atelectasis.", "Old fractures of the right sixth and seventh rib.",
    "The tip of the catheter is in the superior vena cava.", "Mild degenerative change of the spine.",
    "There is no evidence of free air below the diaphragm.",
)  # fmt: skip


class InMemory(Pixels):
    """One radiograph that needs no reading, already shrunk as `Pixels` would."""

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(Path(), size, WINDOW, "none")
        (picture,) = radiographs(1, seed)
        step = HEIGHT // self.size
        self.image = ImageArray(np.ascontiguousarray(picture[::step, ::step]), (HEIGHT, WIDTH))

    def __call__(self, path: str) -> ImageArray:
        """Return the one image there is."""
        return self.image


def records(count: int) -> list[PhraseRecord]:
    """Return `count` different sentences about one image."""
    texts = [SENTENCES[i % 10] + (f" Series {i // 10}." if i >= 10 else "") for i in range(count)]
    return [PhraseRecord("x.png", "x.png", text, (), "", "", "test", "benchmark") for text in texts]


def realistic(seed: int) -> GroundingTask:
    """Return the task at its default sizes: ResNet-50 and a text encoder as large as BERT base."""
    torch.manual_seed(seed)
    return stirred(GroundingTask(TimmEncoder("resnet50", norm="frozen"), TinyText(width=768, depth=12, heads=12)))


def tiny(seed: int) -> GroundingTask:
    """Return the quickstart's model."""
    torch.manual_seed(seed)
    image, text = TinyConv(width=128, depth=1, context=2), TinyText(width=128, depth=1, buckets=4096)
    return stirred(
        GroundingTask(image, text, width=128, heads=4, fusion_layers=0, decoder_layers=1, memory=32, ff_ratio=2)
    )


@torch.no_grad()
def stirred(task: GroundingTask) -> GroundingTask:
    """Move the heads away from zero, where all queries of an untrained model would say the same."""
    for parameter in task.model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return task.eval()
