"""Metrics: torchmetrics classes for training, and the pure functions that they and the report share."""

from medvl.metrics.bootstrap import Interval, paired_bootstrap, patient_bootstrap
from medvl.metrics.grounding import GroundingMetrics, phrase_outcomes

__all__ = ["GroundingMetrics", "Interval", "paired_bootstrap", "patient_bootstrap", "phrase_outcomes"]
