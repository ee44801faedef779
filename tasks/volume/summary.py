"""What the report shows of tested volumes: depth errors by organ and size beside a blind guess, retrieval, labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from medvl.distributed import rank
from medvl.metrics.bootstrap import Interval
from medvl.metrics.boxes import Array
from medvl.outputs import make_room
from medvl.summary import SUMMARY, Case, Row, Summary, Table, alone, tested, write_summary
from tasks.volume.judged import SIZES, Judged, in_the_middle
from tasks.volume.predictions import SnippetResult, read_results

_DRAWS = 500  # medians of many snippets are slow to draw
_WORST = 12
_SIZES = dict(zip(SIZES, ("under 12 mm", "12 to 24 mm", "24 to 48 mm", "over 48 mm"), strict=True))
_WAYS = {"i2t": "volume to report", "t2i": "report to volume"}
_TERMS = {
    "Error": "distance of the depth that is named from the nearest interval of the snippet, 0 inside one; mean over "
    "snippets that the scan shows",
    "Silent": "share of these for which the model says that the scan does not show it; about what it does not show, "
    "silence is right",
    "Silence counted": "where the model is silent, the largest error that an answer inside the scan could have",
    "Middle of the scan": "what an answer gets that looks neither at the scan nor at the words",
    "Intervals": "patients, not snippets, are drawn again and again (500 times)",
}


class SummaryWriter(Callback):
    """Writes `predictions/summary.json` after test, of what `DepthWriter`, which comes before, has written."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        if rank() == 0:
            folder = Path(trainer.default_root_dir) / "predictions"
            make_room(folder / SUMMARY, {**trainer.datamodule.facts, "split": "test"})  # type: ignore[attr-defined]
            found = summarise(read_results(folder / "test.jsonl"), tested(trainer.callback_metrics))
            write_summary(folder / SUMMARY, found)


def summarise(results: Sequence[SnippetResult], metrics: Mapping[str, float]) -> Summary:
    """Return what the report shows.

    Args:
        results: The answers.
        metrics: Of the test, without `test/`.
    """
    tiles: dict[str, Interval] = {}
    tables, cases = [], []
    if any(one.gold for one in results):
        judged = Judged.of(results)
        figures = judged.figures(_DRAWS)
        tiles = {
            "Median depth error, mm": figures["always/median"],
            "Within 24 mm": figures["always/within_24"],
            "Silent about what the scan shows": figures["abstained"],
        }
        if not judged.shown.all():
            tiles["Silent about what it does not show"] = figures["denied_absent"]
        tables.append(_depths(judged, figures, Judged.of(in_the_middle(results)).figures(_DRAWS)))
        cases = _worst(results, judged.answered[0])
    tiles |= {
        name: alone(metrics[key])
        for name, key in {"AUC of labels by prompts": "auc", "Report of a volume, R@5": "i2t/r@5"}.items()
        if key in metrics
    }
    tables += [_retrieval(metrics), _labels(metrics)]
    return Summary(tiles, tables, cases, _TERMS)


def _depths(judged: Judged, figures: Mapping[str, Interval], middle: Mapping[str, Interval]) -> Table:
    def row(name: str, key: str, silent: bool = False, source: Mapping[str, Interval] = figures) -> Row:
        counted = ~np.isnan(judged.means[f"{key}mae"])
        of_patients = len(np.unique(judged.patients[counted]))
        cells = (source[f"{key}mae"], source[f"{key}within_24"])
        return Row(
            name, (f"{counted.sum():,}", f"{of_patients:,}", *cells, figures["abstained"] if silent else ""), not silent
        )

    rows = [row("All, silence counted", "", silent=True), row("a depth for each", "always/")]
    rows.append(row("the middle of the scan", "always/", source=middle))
    for title, kind in (("By organ", "organ/"), ("By length of the finding", "size/")):
        names = [key.split("/")[1] for key in judged.means if key.startswith(kind) and key.endswith("/mae")]
        rows += [Row(title, ("",) * 5)] if names else []
        rows += [row(_SIZES.get(name, name.replace("_", " ")), f"{kind}{name}/") for name in names]
    note = (
        "Snippets that the scan shows. Small figures: 95 % interval, patients resampled. Rows by group count silence."
    )
    return Table(
        "Depths of snippets", note, ("Snippets", "Patients", "Mean error, mm", "Within 24 mm", "Silent"), tuple(rows)
    )


def _worst(results: Sequence[SnippetResult], errors: Array) -> list[Case]:
    order = np.argsort(-np.nan_to_num(errors, nan=-1.0), kind="stable")[:_WORST]
    return [Case(results[i].snippet, _note(results[i], errors[i])) for i in order if errors[i] > 0]


def _note(one: SnippetResult, error: float) -> str:
    low, high = min(span[0] for span in one.gold), max(span[1] for span in one.gold)
    where = f"{error:.0f} mm off: answered {one.mm:.0f}, is {low:.0f} to {high:.0f} in a scan of "
    return f"{where}{one.scan[0]:.0f} to {one.scan[1]:.0f} mm · {one.organ or 'organ unknown'} · {one.volume}"


def _retrieval(metrics: Mapping[str, float]) -> Table:
    ranks = [k for k in (1, 5, 10, 50, 100) if metrics.get(f"i2t/chance@{k}", 1.0) < 1]
    rows = [
        Row(
            f"R@{k}",
            tuple(alone(metrics.get(f"{way}/{kind}@{k}", math.nan)) for way in _WAYS for kind in ("r", "chance")),
        )
        for k in ranks
    ]
    columns = tuple(name for way in _WAYS.values() for name in (way, "chance"))
    return Table(
        "Retrieval", "The very report of a volume among all of the test, equal reports merged.", columns, tuple(rows)
    )


def _labels(metrics: Mapping[str, float]) -> Table:
    names = [key.removeprefix("auc/") for key in metrics if key.startswith("auc/") and key != "auc/minority"]
    rows = [
        Row(name, tuple(alone(metrics.get(f"{kind}{suffix}", math.nan)) for kind in ("auc", "f1")), bool(suffix))
        for name, suffix in (("Mean over labels", ""), *((name, f"/{name}") for name in names))
    ]
    return Table(
        "Labels by prompts", "Where the test has both kinds of a label.", ("AUC", "F1"), tuple(rows if names else ())
    )
