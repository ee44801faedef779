"""Metrics: torchmetrics classes for training, and the pure functions that they and the report share."""

from medvl.metrics.bootstrap import Interval, bootstrap_statistics, paired_bootstrap, patient_bootstrap
from medvl.metrics.grounding import GREF, GroundingMetrics, phrase_outcomes
from medvl.metrics.mean_ap import PhraseMeanAP
from medvl.metrics.ranking import FROC, BoxCalibrationError, rank_boxes
from medvl.metrics.rodeo import RoDeO, rodeo_outcomes
from medvl.metrics.set_f1 import SetF1

__all__ = [
    "FROC",
    "GREF",
    "BoxCalibrationError",
    "GroundingMetrics",
    "Interval",
    "PhraseMeanAP",
    "RoDeO",
    "SetF1",
    "bootstrap_statistics",
    "paired_bootstrap",
    "patient_bootstrap",
    "phrase_outcomes",
    "rank_boxes",
    "rodeo_outcomes",
]
