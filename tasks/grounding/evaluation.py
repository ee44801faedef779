"""The metrics of one stage: of all sentences, and of those without a box by what they say."""

from __future__ import annotations

from torch import Tensor, nn

from medvl.metrics.grounding import GroundingMetrics
from tasks.grounding.predictions import SentenceResult, kind_of


class Evaluation(nn.Module):
    """Adds up what the model said of sentences.

    Args:
        threshold: Score above which a box was kept.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.all = GroundingMetrics(threshold=threshold)
        self.negated = GroundingMetrics(threshold=threshold)
        self.absent = GroundingMetrics(threshold=threshold)

    def update(self, results: list[SentenceResult]) -> None:
        """Add sentences."""
        self._add(self.all, results)
        self._add(self.negated, [result for result in results if kind_of(result.record) == "negated"])
        self._add(self.absent, [result for result in results if kind_of(result.record) == "absent"])

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of all sentences, `n_acc/negated` (or normal) and `n_acc/absent`; then start anew."""
        values: dict[str, Tensor] = self.all.compute()
        values["n_acc/negated"] = self.negated.compute()["n_acc"]
        values["n_acc/absent"] = self.absent.compute()["n_acc"]
        for metric in (self.all, self.negated, self.absent):
            metric.reset()
        return values

    def _add(self, metric: GroundingMetrics, results: list[SentenceResult]) -> None:
        preds = [{"boxes": result.kept.boxes, "scores": result.kept.scores} for result in results]
        metric.update(preds, [{"boxes": result.gold()} for result in results])
