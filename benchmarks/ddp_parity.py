"""Several ranks against one process with the same global batch: gradients of every parameter, and metrics.

Every case of `ddp_cases` runs in float64, without dropout, on 1, 2 and 3 gloo ranks wrapped as Lightning wraps a model
for DDP, twice over, since DDP notices only in its second pass what got no gradient in the first. Ranks hold even
shares, uneven ones, and shares of which one counts for nothing. The error of a parameter is `max |a - b| / max |b|`, b
being the gradient of one process; where b is 0 but for rounding, less than 1e-9 of the largest gradient of all, that is
divided by in its place. The metrics of a validation epoch are compared alike, with a batch more on one rank than on
others.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.ddp_cases import CASES, Case, Parts, make
from benchmarks.harness import write_result
from benchmarks.ranks import on_ranks
from medvl.distributed import mean_over_ranks

GOAL, TINY, LIMIT = 1e-5, 1e-9, 1800.0
SHARES: dict[int, dict[str, Parts]] = {
    1: {"whole": [[0, 1, 2, 3, 4, 5, 6, 7]]},
    2: {"even": [[0, 1, 2, 3], [4, 5, 6, 7]], "uneven": [[0, 1, 2, 3, 4], [5, 6, 7]], "idle": [[7, 6, 5, 4, 3], [8]]},
    3: {
        "even": [[0, 1, 2], [3, 4, 5], [6, 7]],
        "uneven": [[0, 1, 2, 3], [4], [5, 6, 7]],
        "idle": [[7, 6, 5], [8], [0]],
    },
}
Found = Mapping[str, Tensor | float]


def run(ranks: int = 3, cases: list[str] | None = None) -> dict[str, Any]:
    """Measure, write `ddp-parity.json` and return it; about three minutes on two idle cores.

    Args:
        ranks: The most ranks; fewer are measured, too.
        cases: Some of `CASES`, as `volume/sigmoid`.
    """
    return report(measure(range(1, ranks + 1), cases or list(CASES)))


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the worst of all rows, and of each task's."""
    worst = max(row["error"] for row in rows)
    tasks = dict.fromkeys(row["case"].partition("/")[0] for row in rows)
    per_task = {task: max(row["error"] for row in rows if row["case"].startswith(f"{task}/")) for task in tasks}
    return write_result(
        "ddp-parity",
        "largest relative error of a parameter's gradient or a metric, several gloo ranks against one process, float64",
        worst,
        {"goal": GOAL},
        n=len(rows),
        seed=0,
        higher_is_better=False,
        worst_relative_error=worst,
        per_task=per_task,
        goal=GOAL,
        rows=rows,
    )


def measure(worlds: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each case, number of ranks and share: the largest error, of what, and how many were compared."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="medvl-") as folder:
        for world in worlds:
            on_ranks(_on_rank, folder, list(names), world_size=world, limit=LIMIT)
            for name in names:
                ranks = [torch.load(_file(folder, name, rank), weights_only=True) for rank in range(world)]
                for share, expected in _one_process(name, world).items():
                    error, worst = compared([found[share] for found in ranks], expected)
                    row = {"case": name, "ranks": world, "share": share, "error": error, "worst": worst}
                    rows.append(row | {"compared": len(expected)})
    return rows


def _on_rank(rank: int, folder: str, names: list[str]) -> None:
    """Write what one rank finds in every case: gradients for every share, and metrics."""
    world = torch.distributed.get_world_size()
    for name in names:
        found = {share: gradients(make(name), [parts[rank]], True) for share, parts in SHARES[world].items()}
        torch.save(found | {"metrics": make(name).metrics(_dealt(world)[rank])}, _file(folder, name, rank))


def _one_process(name: str, world: int) -> dict[str, Found]:
    """Return what one process finds with the batches of all ranks."""
    batches = [[items for (items,) in parts] for parts in itertools.zip_longest(*_dealt(world), fillvalue=([],))]
    found = {share: gradients(make(name), parts) for share, parts in SHARES[world].items()}
    return found | {"metrics": make(name).metrics(batches)}


def _dealt(world: int) -> list[list[Parts]]:
    """Return the batches of each rank in an epoch of validation: items strided, two at a time, none twice."""
    own = [list(range(rank, 7 if world == 3 else 9, world)) for rank in range(world)]  # rank 0 has a batch more
    return [[[items[start : start + 2]] for start in range(0, len(items), 2)] for items in own]


def _file(folder: str, name: str, rank: int) -> Path:
    return Path(folder) / f"{name.replace('/', '-')}-{rank}"


def gradients(case: Case, parts: Parts, spread: bool = False) -> Found:
    """Return the loss and the gradient of every parameter that the loss depends on.

    Args:
        case: Whose.
        parts: Items: of this rank only, or of all.
        spread: Whether this is one of several ranks, so that DDP makes the gradients that are not made by hand.
    """
    model = DistributedDataParallel(case) if spread and not case.chunk else case
    loss = torch.zeros(())
    for _ in range(2):
        case.zero_grad()
        loss = model(parts)
        if not case.chunk:
            loss.backward()
    mean = mean_over_ranks(loss) if spread else loss.detach()
    return {"loss": mean} | {name: p.grad for name, p in case.named_parameters() if p.grad is not None}


def compared(ranks: Sequence[Found], expected: Found) -> tuple[float, str]:
    """Return the largest relative error of any value on any rank, and which that is."""
    floor = 1e-300 + TINY * max(float(torch.as_tensor(value).nan_to_num().abs().max()) for value in expected.values())
    errors = {}
    for name, value in expected.items():
        target = torch.as_tensor(value, dtype=torch.float64)
        found = [torch.as_tensor(rank.get(name, torch.inf), dtype=torch.float64) for rank in ranks]
        away = max(float((one - target).masked_fill(one.isnan() & target.isnan(), 0).abs().max()) for one in found)
        errors[name] = math.inf if math.isnan(away) else away / max(float(target.nan_to_num().abs().max()), floor)
    for name in {name for rank in ranks for name, value in rank.items() if name not in expected and value.abs().max()}:
        errors[name] = math.inf
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst
