"""Generalised medical phrase grounding: an image and a sentence to zero, one or many scored boxes."""

from tasks.grounding.baselines import DenseTask, OneBoxTask
from tasks.grounding.criterion import GroundingCriterion
from tasks.grounding.gref import GrefMetrics
from tasks.grounding.laterality import LateralityCheck
from tasks.grounding.matcher import HungarianMatcher
from tasks.grounding.postprocess import Postprocess
from tasks.grounding.task import GroundingTask

__all__ = [
    "DenseTask",
    "GrefMetrics",
    "GroundingCriterion",
    "GroundingTask",
    "HungarianMatcher",
    "LateralityCheck",
    "OneBoxTask",
    "Postprocess",
]
