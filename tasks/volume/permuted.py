"""The permutation check of depths: other volumes for the same snippets, other snippets for the same volumes."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch

from datamodules.batches import VolumeBatch
from medvl.evidence import Dealt, Part
from medvl.metrics.localisation import depth_errors
from tasks.volume.predictions import SnippetResult
from tasks.volume.scans import StepResults

SAME_MM, RIGHT_MM = 6.0, 24.0  # half a position of 12 mm; the wider of the two distances that are reported


class Locator(Protocol):
    """What is asked."""

    def predict_step(self, batch: VolumeBatch, batch_idx: int) -> list[SnippetResult]:
        """Answer the snippets of a batch."""


def deal(task: Locator, batch: VolumeBatch, results: StepResults, part: Part) -> list[Dealt]:
    """Ask a batch again, dealt out anew; not where it has but one volume, or a snippet meets its own words again.

    A volume keeps its frame and its place in mm, and lends its voxels only. An answer counts as right within 24 mm,
    and as the same within 6 mm.
    """
    if len(batch) < 2 or not batch.snippets:
        return []
    if part == "image":
        dealt = replace(batch, volumes=batch.volumes.roll(len(batch) // 2, 0))
    else:
        middle = len(batch.snippets) // 2 | 1  # odd, lest sentences that alternate meet their own kind
        dealt = replace(batch, snippets=[*batch.snippets[middle:], *batch.snippets[:middle]])
    before = torch.tensor([one.mm for one in results.snippets])
    after = torch.tensor([one.mm for one in task.predict_step(dealt, 0)])
    gold = [interval.cpu() for interval in batch.intervals]
    same = ((after - before).abs() <= SAME_MM).tolist()
    right, still = ((depth_errors(mm, gold) <= RIGHT_MM).tolist() for mm in (before, after))
    return [
        Dealt(same[i], right[i] if len(gold[i]) else None, still[i])
        for i in range(len(gold))
        if part == "image" or batch.snippets[i] != dealt.snippets[i]
    ]
