"""What is measured over a split: retrieval of reports, diseases by prompts, depths of snippets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import torch
from torch import Tensor, nn

from datamodules.batches import VolumeBatch
from medvl.distributed import rank, world_size
from medvl.metrics.localisation import LocalisationMetrics
from medvl.metrics.retrieval import InstanceRetrieval
from medvl.metrics.zero_shot import ZeroShotClassification
from tasks.volume.localisation import Answer

RECALL_AT = (1, 5, 10, 50, 100)


class Evaluation(nn.Module):
    """Instance R@K with duplicate reports merged, zero-shot AUC and F1 by class, depth errors.

    Depth errors come twice: as the model answers, silent where it finds a snippet not in the scan (which counts against
    it where the scan shows it), and under `always/` where it must name a depth for every snippet.

    Args:
        classes: The labels, for the zero-shot figures; without any there are none.
        silence: Calibrates what the model denies (see `LocalisationMetrics`).
    """

    def __init__(self, classes: Sequence[str] = (), silence: float | None = None) -> None:
        super().__init__()
        self.instances = InstanceRetrieval(RECALL_AT)
        self.diseases = ZeroShotClassification(tuple(classes), "multilabel") if classes else None
        self.depths, self.always = LocalisationMetrics(silence=silence), LocalisationMetrics(threshold=0.0)
        self.scans = 0

    def update(
        self,
        batch: VolumeBatch,
        volumes: Tensor,
        reports: Tensor,
        probability: Tensor | None,
        answers: Sequence[Answer],
    ) -> None:
        """Add a batch.

        Args:
            batch: What was asked.
            volumes: Embeddings `(B, C)`.
            reports: Embeddings `(B, C)`; those of studies without a report do not count.
            probability: Of each class, `(B, K)`.
            answers: One of each snippet.
        """
        told = batch.has_text
        self.instances.update(volumes[told], reports[told], list(compress(batch.texts, told.tolist())))
        if self.diseases is not None and probability is not None:
            self.diseases.update(probability, batch.labels)
        mm = torch.tensor([one.mm for one in answers], device=volumes.device)
        present = torch.tensor([one.present for one in answers], device=volumes.device)
        index = batch.snippet_index
        extent, scan = batch.extent_mm[index], self._numbers(batch)[index]
        for metric in (self.depths, self.always):
            metric.update(mm, present, batch.intervals, extent, scan)

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of all ranks, and start anew."""
        found = self.instances.compute()
        recall = [found[f"{way}/r@{k}"] for way in ("i2t", "t2i") for k in RECALL_AT[:3]]
        found["mean_recall"] = torch.stack(recall).nanmean()
        if self.diseases is not None:
            found |= self.diseases.compute()
        found |= self.depths.compute()
        found |= {f"always/{name}": value for name, value in self.always.compute().items()}
        for metric in (self.instances, self.diseases, self.depths, self.always):
            if metric is not None:
                metric.reset()
        self.scans = 0
        return found

    def _numbers(self, batch: VolumeBatch) -> Tensor:
        """Return a number for each volume that no other volume has, on any rank."""
        own = torch.arange(self.scans, self.scans + len(batch), device=batch.volumes.device)
        self.scans += len(batch)
        return own * world_size() + rank()
