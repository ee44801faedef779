"""Three ranks give the gradients and the metrics of one process, whatever they hold; and the comparison can fail."""

from __future__ import annotations

import math

import torch

from benchmarks.ddp_cases import make
from benchmarks.ddp_parity import GOAL, SHARES, compared, gradients, measure

# Of each task one case with everything that crosses ranks, and one whose loss leaves parts of the model out.
CASES = ("grounding/criterion", "alignment/mined-halves", "volume/infonce", "volume/contrastive-only")


def test_three_ranks_equal_one_process() -> None:
    rows = measure((3,), CASES)
    assert [(row["case"], row["share"]) for row in rows] == [(c, s) for c in CASES for s in (*SHARES[3], "metrics")]
    assert [row for row in rows if row["error"] > GOAL] == []
    assert min(row["compared"] for row in rows) > 20


def test_what_differs_is_seen() -> None:
    parts = SHARES[3]["uneven"]
    whole = gradients(make("alignment/infonce"), parts)
    assert compared([whole, whole], whole)[0] == 0.0
    one_rank_alone = gradients(make("alignment/infonce"), [parts[0]])
    assert compared([whole, one_rank_alone], whole)[0] > 0.1
    missing = {name: value for name, value in whole.items() if not name.endswith("image_proj.weight")}
    assert compared([whole, missing], whole) == (math.inf, "task.model.image_proj.weight")
    assert compared([whole | {"new": torch.ones(1)}], whole) == (math.inf, "new")
    assert compared([{"a": math.nan, "b": 1.0}], {"a": math.nan, "b": 1.0})[0] == 0.0
    assert compared([{"a": 1.0, "b": 1.0}], {"a": math.nan, "b": 1.0})[0] == math.inf
