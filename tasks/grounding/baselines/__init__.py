"""What set prediction is held against: other kinds of network, trained and judged by the same task and data."""

from tasks.grounding.baselines.dense import DenseTask
from tasks.grounding.baselines.one_box import OneBoxTask

__all__ = ["DenseTask", "OneBoxTask"]
