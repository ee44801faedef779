"""Metrics: torchmetrics classes for training, and the pure functions that they and the report share."""

from medvl.metrics.bootstrap import Interval, bootstrap_statistics, paired_bootstrap, patient_bootstrap
from medvl.metrics.class_lists import ClassList, draw_class_list
from medvl.metrics.grounding import GREF, GroundingMetrics, phrase_outcomes
from medvl.metrics.localisation import LocalisationMetrics, depth_errors
from medvl.metrics.mean_ap import PhraseMeanAP
from medvl.metrics.ranking import FROC, BoxCalibrationError, rank_boxes
from medvl.metrics.retrieval import ClassRetrieval, InstanceRetrieval
from medvl.metrics.rodeo import RoDeO, rodeo_outcomes
from medvl.metrics.set_f1 import SetF1
from medvl.metrics.zero_shot import ZeroShotClassification, best_f1_thresholds, pair_probability, prompt_scores

__all__ = [
    "FROC",
    "GREF",
    "BoxCalibrationError",
    "ClassList",
    "ClassRetrieval",
    "GroundingMetrics",
    "InstanceRetrieval",
    "Interval",
    "LocalisationMetrics",
    "PhraseMeanAP",
    "RoDeO",
    "SetF1",
    "ZeroShotClassification",
    "best_f1_thresholds",
    "bootstrap_statistics",
    "depth_errors",
    "draw_class_list",
    "pair_probability",
    "paired_bootstrap",
    "patient_bootstrap",
    "phrase_outcomes",
    "prompt_scores",
    "rank_boxes",
    "rodeo_outcomes",
]
