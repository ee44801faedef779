"""The metrics of one stage: of all sentences, and of those without a box by what they say."""

from __future__ import annotations

import math
import re

from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from medvl.metrics import FROC, BoxCalibrationError, GroundingMetrics, PhraseMeanAP, RoDeO, SetF1
from tasks.grounding.postprocess import Detections
from tasks.grounding.predictions import SentenceResult, kind_of

_DETAIL = re.compile(r"(?:froc@|rodeo/).*/(?:boxed|single|multi|zero)$")  # more than a table of a run can bear
SHOWN = -math.inf  # the boxes handed over as kept have passed the task's threshold


class Evaluation(nn.Module):
    """Adds up what the model said of sentences.

    Args:
        full: Measure SetF1 and RoDeO of the boxes kept, and FROC, mAP and calibration error of every query, too.
    """

    def __init__(self, full: bool = False) -> None:
        super().__init__()
        self.all = GroundingMetrics(threshold=SHOWN)
        self.negated = GroundingMetrics(threshold=SHOWN)
        self.absent = GroundingMetrics(threshold=SHOWN)
        kept: list[Metric] = [SetF1(threshold=SHOWN), RoDeO(threshold=SHOWN)]
        proposed: list[Metric] = [FROC(), PhraseMeanAP(), BoxCalibrationError()]
        self.of_kept = MetricCollection(kept if full else [], compute_groups=False)
        self.of_proposed = MetricCollection(proposed if full else [], compute_groups=False)

    def update(self, results: list[SentenceResult]) -> None:
        """Add sentences."""
        kept, proposed = [item(result.kept) for result in results], [item(result.found) for result in results]
        gold, kinds = [{"boxes": result.gold()} for result in results], [kind_of(result.record) for result in results]
        self.all.update(kept, gold)
        self.of_kept.update(kept, gold)
        self.of_proposed.update(proposed, gold)
        for kind, metric in (("negated", self.negated), ("absent", self.absent)):
            chosen = [i for i, other in enumerate(kinds) if other == kind]
            metric.update([kept[i] for i in chosen], [gold[i] for i in chosen])

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of all sentences, `n_acc/negated` (or normal) and `n_acc/absent`; then start anew."""
        values: dict[str, Tensor] = self.all.compute()
        values["n_acc/negated"] = self.negated.compute()["n_acc"]
        values["n_acc/absent"] = self.absent.compute()["n_acc"]
        further = self.of_kept.compute() | self.of_proposed.compute()
        values |= {name: value for name, value in further.items() if not _DETAIL.match(name)}
        for metric in (self.all, self.negated, self.absent, self.of_kept, self.of_proposed):
            metric.reset()
        return values


def item(boxes: Detections) -> dict[str, Tensor]:
    """Return boxes as the metrics take them."""
    return {"boxes": boxes.boxes, "scores": boxes.scores}
