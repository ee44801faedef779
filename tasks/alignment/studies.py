"""What a loss and the metrics are told of the studies in a batch: findings, who shares a patient, how alike."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from datamodules.batches import ReportBatch
from medvl.distributed import gather_with_grad

GAMMA = 0.85  # weight of diseases in the score of MedTrim (arXiv 2504.15929), to which its thresholds belong


def findings(batch: ReportBatch) -> Tensor:
    """Return which findings are present, multi-hot `(B, K)`; `No Finding` is no column but a row of zeros."""
    kept = [k for k, name in enumerate(batch.label_names) if not is_normal(name)]
    return (batch.labels[:, kept] > 0).float()


def finding_names(label_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns of `findings`."""
    return tuple(name for name in label_names if not is_normal(name))


def is_normal(name: str) -> bool:
    """Return whether a label says that there is nothing to find."""
    return name.replace("_", " ").casefold() in ("no finding", "normal")


def patients(batch: ReportBatch) -> Tensor:
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
