"""Retrieval over a whole split, during training and at the end."""

from __future__ import annotations

from itertools import compress

import torch
from torch import Tensor, nn

from datamodules.batches import StudyBatch
from medvl.metrics.neighbours import RANKS
from medvl.metrics.retrieval import ClassRetrieval, InstanceRetrieval
from tasks.alignment.model import Embeddings
from tasks.alignment.studies import findings, patients

RECALL_AT = (1, 5, 10)


class Evaluation(nn.Module):
    """Instance R@K with duplicate texts merged and class P@R, each with its level of chance.

    Beside what `InstanceRetrieval` and `ClassRetrieval` name, `mean_recall` is the mean R@K over both directions and
    every K, and `mean_chance` that of a random order. Where no study has a finding, there is no class P@R.

    Args:
        classes: Names of the findings, for P@R class by class.
        at: The R of class P@R.
    """

    def __init__(self, classes: tuple[str, ...] = (), at: tuple[int, ...] = RANKS) -> None:
        super().__init__()
        self.instances = InstanceRetrieval(RECALL_AT)
        self.classes = ClassRetrieval(at, classes=classes)

    def update(self, embeddings: Embeddings, batch: StudyBatch) -> None:
        """Add the studies of a batch that have an image and a text."""
        both = batch.has_image & batch.has_text
        image, text = embeddings.image[both], embeddings.text[both]
        self.instances.update(image, text, list(compress(batch.texts, both.tolist())))
        labels = findings(batch)[both]
        labels = labels if labels.shape[1] else labels.new_zeros(len(labels), 1)
        self.classes.update(image, text, labels, patients(batch)[both])

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of all ranks, and start anew."""
        found = self.instances.compute()
        for name, kind in (("mean_recall", "r"), ("mean_chance", "chance")):
            values = [found[f"{way}/{kind}@{k}"] for way in ("i2t", "t2i") for k in RECALL_AT]
            found[name] = torch.stack(values).nanmean()
        alike = self.classes.compute()  # on every rank, also on one that has seen no study
        if alike["i2t/chance"].isfinite():
            found |= alike
        self.instances.reset()
        self.classes.reset()
        return found
