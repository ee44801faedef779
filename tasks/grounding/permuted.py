"""The permutation check of grounding: other images for the same sentences, other sentences for the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from datamodules.batches import GroundingBatch
from medvl.evidence import Dealt, Part
from medvl.metrics.grounding import phrase_outcomes
from tasks.grounding.evaluation import SHOWN, item
from tasks.grounding.predictions import SentenceResult


class Grounder(Protocol):
    """What is asked."""

    def predict_step(self, batch: GroundingBatch, batch_idx: int) -> list[SentenceResult]:
        """Ground every sentence of a batch."""


def deal(task: Grounder, batch: GroundingBatch, results: Sequence[SentenceResult], part: Part) -> list[Dealt]:
    """Ask a batch again, dealt out anew; not where it has but one image, or a sentence meets its own words again.

    An image keeps its frame and lends its pixels only, for a model may read the frame. An answer is the same when its
    boxes match those of before one to one at IoU >= 0.5.
    """
    changed = np.ones(len(batch), dtype=np.bool_)
    if len(batch.images) < 2:
        return []
    if part == "image":
        dealt = replace(batch, images=batch.images.roll(len(batch.images) // 2, 0))
    else:
        middle = len(batch) // 2 | 1  # odd, lest sentences that alternate meet their own kind
        dealt = replace(batch, phrases=[*batch.phrases[middle:], *batch.phrases[:middle]])
        changed = np.array([one != other for one, other in zip(batch.phrases, dealt.phrases, strict=True)])
    before = [item(one.kept) for one in results]
    after = [item(one.kept) for one in task.predict_step(dealt, 0)]
    gold = [{"boxes": one.gold()} for one in results]
    pairs = ((after, before), (before, gold), (after, gold))
    same, right, still = (phrase_outcomes(*pair, threshold=SHOWN)["p_at_f1"] == 1 for pair in pairs)
    shown = [bool(len(one["boxes"]) or len(other["boxes"])) for one, other in zip(before, after, strict=True)]
    boxed = [bool(one.record.boxes) for one in results]
    return [
        Dealt(bool(same[i]) if shown[i] else None, bool(right[i]) if boxed[i] else None, bool(still[i]))
        for i in np.flatnonzero(changed)
    ]
