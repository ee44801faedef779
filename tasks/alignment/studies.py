"""What a loss and the metrics are told of the studies in a batch: findings, who shares a patient, how alike."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.batches import StudyBatch
from medvl.distributed import gather_with_grad
from medvl.entities import EntityCodes, entity_scores

GAMMA = 0.85  # weight of diseases in the score of MedTrim (arXiv 2504.15929), to which its thresholds belong


@dataclass(frozen=True)
class Known:
    """What is known of this rank's studies beside their embeddings, row by row.

    Attributes:
        labels: Findings that are present, `(n, K)`; no column where the data set has no labels.
        groups: `(n,)`, the same for studies of one patient.
        entities: Their entities, where the data names them.
        triplets: `(T, 3)` rows of anchor, positive and negative, where the data mines them.
        halves: Bool `(n, 2)`, whether each has an image, and a text, for a loss that asks.
    """

    labels: Tensor
    groups: Tensor
    entities: EntityCodes | None = None
    triplets: Tensor | None = None
    halves: Tensor | None = None

    @classmethod
    def of(cls, batch: StudyBatch, kept: Tensor, halves: Tensor | None = None) -> Known:
        """Return what a batch tells of the studies that `kept`, bool `(B,)`, names.

        Args:
            batch: The studies.
            kept: Who counts.
            halves: `(B, 2)`, see above.
        """
        entities = None if batch.entities is None else batch.entities[kept]
        triplets = None if batch.triplets is None else kept_triplets(batch.triplets, kept)
        halves = None if halves is None else halves[kept]
        return cls(findings(batch)[kept], patients(batch)[kept], entities, triplets, halves)

    def nobody(self) -> Known:
        """Return the same of no study: what a rank brings that has run out of batches."""
        entities = None if self.entities is None else self.entities[torch.zeros_like(self.groups, dtype=torch.bool)]
        triplets, halves = (None if rows is None else rows[:0] for rows in (self.triplets, self.halves))
        return Known(self.labels[:0], self.groups[:0], entities, triplets, halves)

    def extras(self) -> dict[str, Tensor]:
        """Return what a loss takes beside embeddings (see `medvl.losses.base.Extras`); every rank must call it.

        Scores are those of entities where there are any, or else the overlap of labels.
        """
        found = {"groups": self.groups}
        if self.labels.shape[1]:
            found["labels"] = self.labels
        if self.entities is not None:
            found["scores"] = entity_scores(self.entities, self.entities.gathered())
        elif self.labels.shape[1]:
            found["scores"] = label_scores(self.labels)
        given = {"triplets": self.triplets, "halves": self.halves}
        return found | {name: rows for name, rows in given.items() if rows is not None}


def kept_triplets(triplets: Tensor, kept: Tensor) -> Tensor:
    """Return triplets `(T, 3)` of rows of which bool `(B,)` says which stay: those that stay whole, numbered anew."""
    whole = kept[triplets].all(dim=1)
    return (kept.long().cumsum(0) - 1)[triplets[whole]]


def findings(batch: StudyBatch) -> Tensor:
    """Return which findings are present, multi-hot `(B, K)`; `No Finding` is no column but a row of zeros."""
    kept = [k for k, name in enumerate(batch.label_names) if not is_normal(name)]
    return (batch.labels[:, kept] > 0).float()


def finding_names(label_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns of `findings`."""
    return tuple(name for name in label_names if not is_normal(name))


def is_normal(name: str) -> bool:
    """Return whether a label says that there is nothing to find."""
    return name.replace("_", " ").casefold() in ("no finding", "normal")


def patients(batch: StudyBatch) -> Tensor:
    """Return an integer >= 0 for each study, the same for those of one patient of one source, `(B,)`."""
    names = [f"{record.source}\0{record.patient_id}".encode() for record in batch.records]
    numbers = [int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1 for name in names]
    return torch.tensor(numbers, dtype=torch.long, device=batch.labels.device)


def label_scores(own: Tensor) -> Tensor:
    """Return how alike this rank's studies are to those of all ranks, `(n, N)`, from findings `(n, K)`.

    The disease term of MedTrim's score, gamma * |A and B| / |A or B|; two studies without any finding score gamma.
    """
    everyone = gather_with_grad(own).rows
    shared = own @ everyone.T
    either = own.sum(dim=1)[:, None] + everyone.sum(dim=1)[None] - shared
    return GAMMA * torch.where(either > 0, shared / either.clamp_min(1), 1.0)
