"""What the report shows of volumes and of alignment: the figures of the test, and pages that hold them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from test_volume_protocols import reference, snippets

from medvl.errors import DataError
from medvl.metrics.bootstrap import Interval
from medvl.summary import SUMMARY, Case, Row, Summary, Table, alone, read_summary, write_summary
from medvl.viz.report import write_report
from tasks.alignment import summary as alignment
from tasks.volume.summary import summarise

METRICS = {"auc": 0.7, "f1": 0.4, "auc/Edema": 0.7, "f1/Edema": 0.4, "auc/minority": 0.1}
METRICS |= {"i2t/r@5": 0.3, "i2t/chance@5": 0.1, "t2i/r@5": 0.25, "t2i/chance@5": 0.1, "i2t/chance@100": 1.0}


def test_depths_are_those_of_the_metric() -> None:
    results = snippets(0)
    found, metric, always = summarise(results, METRICS), reference(results, 0.5), reference(results, 0.0)
    depths = next(table for table in found.tables if table.title == "Depths of snippets")
    rows = {row.name: row.cells for row in depths.rows}

    def figure(row: str, column: str) -> float:
        cell = rows[row][depths.columns.index(column)]
        assert isinstance(cell, Interval)
        return cell.mean

    assert figure("All, silence counted", "Mean error, mm") == pytest.approx(metric["mae"])
    assert figure("All, silence counted", "Silent") == pytest.approx(metric["abstained"])
    absent = [one.present < 0.5 for one in results if not one.gold]
    assert found.tiles["Silent about what it does not show"].mean == pytest.approx(np.mean(absent))
    shown = summarise([one for one in results if one.gold], {})
    assert "Silent about what it does not show" not in shown.tiles
    assert figure("a depth for each", "Mean error, mm") == pytest.approx(always["mae"])
    assert found.tiles["Median depth error, mm"].mean == pytest.approx(always["median"])
    middle = [
        max(0, one.gold[0][0] - sum(one.scan) / 2, sum(one.scan) / 2 - one.gold[0][1]) for one in results if one.gold
    ]
    assert figure("the middle of the scan", "Mean error, mm") == pytest.approx(np.mean(middle))
    organs = [rows[name][0] for name in ("lung", "liver")]
    assert sum(map(int, organs)) == int(rows["All, silence counted"][0]) == len(middle)  # type: ignore[arg-type]


def test_the_worst_come_first() -> None:
    results = snippets(0)
    off = [float(case.note.partition(" mm off")[0]) for case in summarise(results, {}).cases]
    errors = [max(one.gold[0][0] - one.mm, one.mm - one.gold[0][1], 0) for one in results if one.gold]
    assert off == [round(error) for error in sorted(errors, reverse=True)[: len(off)]]


def test_without_snippets_there_are_labels_and_retrieval() -> None:
    found = summarise([], METRICS)
    assert {table.title: len(table.rows) for table in found.tables} == {"Retrieval": 1, "Labels by prompts": 2}
    assert list(found.tiles) == ["AUC of labels by prompts", "Report of a volume, R@5"]
    assert not any(table.rows for table in summarise([], {}).tables)


def test_a_summary_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = (Row("all <1>", (Interval(1.0, 0.5, 2.0), "7")), Row("some", (alone(math.nan), ""), True))
    told = Summary(
        {"Error, mm": Interval(3.25, 3.0, 4.0)}, [Table("T", "n", ("Error, mm", "Scans"), rows)], [Case("a <b>", "c")]
    )
    path = tmp_path / "predictions" / SUMMARY
    write_summary(path, told)
    back = read_summary(path)
    assert back is not None
    assert (back.tiles, back.cases, back.tables[0].rows[0]) == (told.tiles, [Case("a <b>", "c")], rows[0])
    assert math.isnan(back.tables[0].rows[1].cells[0].mean)  # type: ignore[union-attr]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for shown in ("all &lt;1&gt;", "1.0<small>0.5 to 2.0", "<td>–</td>", "3.2</span>", "<q>a &lt;b&gt;</q>"):
        assert shown in page, shown
    assert read_summary(tmp_path / "none.json") is None
    path.write_text('{"tiles": {}}')
    with pytest.raises(DataError, match="not readable as test left it"):
        read_summary(path)


def test_alignment_stands_beside_chance() -> None:
    ways = ("i2t", "t2i", "i2i", "t2t")
    metrics = {f"{way}/{kind}": value for way in ways for kind, value in (("p@10", 0.5), ("chance", 0.2))}
    metrics |= {"i2t/p@10/Edema": 0.6, "i2t/chance/Edema": 0.3, "i2t/r@5": 0.4, "i2t/chance@5": 0.05}
    metrics |= {"zero_shot/auc": 0.8, "zero_shot/auc/Edema": 0.8, "zero_shot/f1/Edema": 0.5}
    own, alike, prompts = alignment.summarise(metrics).tables
    assert [cell.mean for cell in own.rows[1].cells[:2] if not isinstance(cell, str)] == [0.4, 0.05]
    assert [row.name for row in alike.rows] == ["All findings", "Edema"]
    assert alike.rows[1].cells[0] == "0.600 (0.300)"
    assert alike.rows[1].cells[1] == "–"
    assert [row.name for row in prompts.rows] == ["Mean over findings", "Edema"]
