"""The permutation check, of models that look at image and words, at one of them, and at neither."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from test_volume_task import batch as volume_batch

from datamodules.batches import GroundingBatch, VolumeBatch
from datamodules.records import PhraseRecord
from medvl.evidence import Shares
from tasks.grounding import permuted as grounding
from tasks.grounding.postprocess import Detections
from tasks.grounding.predictions import SentenceResult
from tasks.volume import permuted as volume
from tasks.volume.localisation import Answer
from tasks.volume.predictions import SnippetResult
from tasks.volume.scans import StepResults

SIDE, IMAGES = 32, 8
VALUE = {"bright": 1.0, "dark": 0.0}


def grounding_batch() -> GroundingBatch:
    """Grey images with a bright and a dark square, each at a place of its own, and a sentence about each."""
    rng = torch.Generator().manual_seed(0)
    images, records = torch.full((IMAGES, 1, SIDE, SIDE), 0.5), []
    for i in range(IMAGES):
        places = torch.randperm(16, generator=rng)[:2].tolist()
        for word, place in zip(VALUE, places, strict=True):
            y, x = 8 * (place // 4), 8 * (place % 4)
            images[i, 0, y : y + 8, x : x + 8] = VALUE[word]
            box = (x / SIDE, y / SIDE, (x + 8) / SIDE, (y + 8) / SIDE)
            records.append(PhraseRecord(f"{i}", f"{i}.png", f"A {word} square.", (box,), f"p{i}", f"s{i}", "test", "x"))
    records[-1] = PhraseRecord("7", "7.png", "A bright square.", (), "p7", "s7", "test", "x")
    return GroundingBatch(
        images=images,
        valid=torch.ones(IMAGES, SIDE, SIDE, dtype=torch.bool),
        phrases=[one.phrase for one in records],
        image_index=torch.arange(IMAGES).repeat_interleave(2),
        boxes=[torch.tensor(one.boxes).reshape(-1, 4) for one in records],
        image_boxes=[],
        share=torch.ones(IMAGES),
        transforms=[],
        records=records,
    )


@dataclass
class Finder:
    """Finds the square that a sentence names, in its image or in one that it remembers; by its word, or always one."""

    looks: bool = True
    reads: bool = True
    speaks: bool = True

    def predict_step(self, batch: GroundingBatch, batch_idx: int) -> list[SentenceResult]:
        results = []
        for phrase, i, record in zip(batch.phrases, batch.image_index.tolist(), batch.records, strict=True):
            word = phrase.split()[1] if self.reads else "bright"
            image = batch.images[i, 0] if self.looks else grounding_batch().images[0, 0]
            ys, xs = (image == VALUE[word]).nonzero().unbind(1)
            box = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()[None]
            found = Detections(box[: int(self.speaks)], torch.ones(int(self.speaks)))
            results.append(SentenceResult(record, (SIDE, SIDE), found, found))
        return results


def shares(finder: Finder, part: str) -> Shares:
    batch = grounding_batch()
    return Shares.of(grounding.deal(finder, batch, finder.predict_step(batch, 0), part))  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["image", "text"])
def test_a_model_that_looks_and_reads_changes_its_answers(part: str) -> None:
    found = shares(Finder(), part)
    assert found.same < 0.2
    assert found.right == 1
    assert found.asked >= 14
    assert found.still < 0.3


def test_a_blind_model_keeps_its_answers() -> None:
    assert shares(Finder(looks=False), "image").same == 1
    assert shares(Finder(looks=False), "text").same < 0.2


def test_a_deaf_model_keeps_its_answers() -> None:
    assert shares(Finder(reads=False), "text").same == 1
    assert shares(Finder(reads=False), "image").same < 0.2


def test_what_is_counted() -> None:
    batch = grounding_batch()
    found = shares(Finder(), "image")
    assert (found.answers, found.asked) == (16, 15)
    assert shares(Finder(speaks=False), "image") == Shares(0, 0.0, 15, 0.0, 0.0)
    finder = Finder()
    one = GroundingBatch(
        **{**vars(batch), "images": batch.images[:1], "image_index": torch.zeros(16, dtype=torch.long)}
    )
    assert grounding.deal(finder, one, finder.predict_step(one, 0), "image") == []
    alike = GroundingBatch(**{**vars(batch), "phrases": ["A bright square."] * 16})
    assert grounding.deal(finder, alike, finder.predict_step(alike, 0), "text") == []


@dataclass
class Diver:
    """Finds the depth of the cube that a snippet names, as `Finder` does."""

    looks: bool = True
    reads: bool = True

    def predict_step(self, batch: VolumeBatch, batch_idx: int) -> list[SnippetResult]:
        answers = []
        for text, i in zip(batch.snippets, batch.snippet_index.tolist(), strict=True):
            value = VALUE["bright" if "bright" in text or not self.reads else "dark"]
            seen = (batch.volumes[i, 0] if self.looks else volume_batch(8).volumes[0, 0]) == value
            depth = seen[: int(batch.slices[i])].flatten(1).any(dim=1).nonzero().float()
            mm = float(batch.first_mm[i] + batch.step_mm[i] * (depth.mean() if len(depth) else 0.0))
            answers.append(Answer(mm, mm, mm, 1.0, ()))
        return SnippetResult.of(batch, answers)


@pytest.mark.parametrize(
    ("diver", "blind", "deaf"), [(Diver(), 0, 0), (Diver(looks=False), 1, 0), (Diver(reads=False), 0, 1)]
)
def test_depths_that_stay(diver: Diver, blind: int, deaf: int) -> None:
    batch = volume_batch(8)
    results = StepResults(diver.predict_step(batch, 0), [])
    found = {part: Shares.of(volume.deal(diver, batch, results, part)) for part in ("image", "text")}  # type: ignore[arg-type]
    assert (found["image"].same > 0.9, found["text"].same > 0.9) == (bool(blind), bool(deaf))
    assert found["image"].asked == sum(bool(len(one)) for one in batch.intervals)
    if not blind and not deaf:
        assert found["image"].right == 1
        assert found["image"].still < 0.6
    alone = VolumeBatch(**{**vars(batch), "texts": batch.texts[:1]})
    assert volume.deal(diver, alone, results, "image") == []
