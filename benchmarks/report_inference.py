"""A report of ten sentences grounded in one pass of the image, beside ten calls with one sentence each.

Both go the way of `medvl predict --report`, from the shrunk image in memory to boxes in original pixels; that they
find the same boxes and scores, to 1e-4 of a side, is asserted. Rows: ResNet-50 at 640 px with a text encoder as large
as BERT base and the task's default sizes, and the quickstart's model at 128 px. One thread.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.grounders import InMemory, realistic, records, tiny
from benchmarks.harness import interleaved, write_result
from medvl.cli.grounder import Answers, Grounder
from tasks.grounding.task import GroundingTask

COUNT = 10


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `report-inference.json` and return it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = {
            "resnet50, 640 px": _row(realistic(seed), 640, seed, rounds=2),
            "quickstart, 128 px": _row(tiny(seed), 128, seed, rounds=15),
        }
    finally:
        torch.set_num_threads(threads)
    first = rows["resnet50, 640 px"]
    return write_result(
        "report-inference",
        f"ms per report of {COUNT} sentences, ResNet-50, 640 px, CPU",
        first["ours"],
        {"ten-single-calls": first["ten-single-calls"]},
        n=first["n"],
        seed=seed,
        higher_is_better=False,
        rows=rows,
    )


def _row(task: GroundingTask, size: int, seed: int, rounds: int) -> dict[str, Any]:
    grounder = Grounder(task, {"image_size": size}, "cpu")
    grounder.pixels = InMemory(size, seed)
    report = records(COUNT)

    found: dict[str, Answers] = {}

    def whole() -> None:
        found["ours"] = grounder.answers(report)

    def single() -> None:
        found["ten-single-calls"] = {
            key: answer for record in report for key, answer in grounder.answers([record]).items()
        }

    times = interleaved({"ours": whole, "ten-single-calls": single}, rounds)
    error = _difference(found["ours"], found["ten-single-calls"])
    row: dict[str, Any] = {name: 1000 * seconds for name, seconds in times.items()}
    return row | {"ratio": times["ten-single-calls"] / times["ours"], "largest_difference": error, "n": rounds}


def _difference(ours: Answers, single: Answers) -> float:
    """Return the largest difference of any box (in sides of the image) or score; all queries, kept or not.

    Raises:
        AssertionError: It is more than 1e-4.
    """
    largest = 0.0
    for key, one in ours.items():
        other, (height, width) = single[key].found, one.size
        boxes = (one.found.boxes - other.boxes).abs() / torch.tensor([width, height, width, height])
        largest = max(largest, float(boxes.max()), float((one.found.scores - other.scores).abs().max()))
    if not largest <= 1e-4:
        raise AssertionError(f"one pass and single calls differ by {largest:.2g}")
    return largest
