"""Losses that align images with texts, behind one contract (`medvl.losses.base`)."""

from medvl.losses.base import AlignmentLoss
from medvl.losses.contrastive import InfoNCE, SoftInfoNCE, SupCon
from medvl.losses.grad_cache import GradCache
from medvl.losses.medtrim import MedTrimLoss
from medvl.losses.mining import BatchMiner
from medvl.losses.sigmoid import SigmoidLoss

__all__ = [
    "AlignmentLoss",
    "BatchMiner",
    "GradCache",
    "InfoNCE",
    "MedTrimLoss",
    "SigmoidLoss",
    "SoftInfoNCE",
    "SupCon",
]
