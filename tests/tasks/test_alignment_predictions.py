"""What test and predict of an alignment run leave: embeddings as they were, and the neighbours that NumPy finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from test_alignment_task import TEXTS, make_batch, make_task, medvl, short

from datamodules.twins import mimic_cxr
from medvl.evidence import Evidence
from tasks.alignment.predictions import StudyResult, neighbours, results_of, write_embeddings

WAYS = {"i2t": ("image", "text"), "t2i": ("text", "image"), "i2i": ("image", "image"), "t2t": ("text", "text")}


@pytest.fixture(scope="module")
def results() -> list[StudyResult]:
    """Return six studies: the fifth has no image, the sixth no text."""
    batch = make_batch()
    batch.valid[4], batch.texts[5], batch.paths[4] = False, "", ""
    task = make_task().eval()
    with torch.no_grad():
        return results_of(task(batch), batch)


def by_hand(results: list[StudyResult], way: str, row: int, count: int) -> list[str] | None:
    asked, answering = WAYS[way]
    query = getattr(results[row], asked)
    if query is None:
        return None
    keys = [(i, getattr(one, answering)) for i, one in enumerate(results)]
    known = [(i, key) for i, key in keys if key is not None and (asked != answering or i != row)]
    order = np.argsort([-float(query.numpy() @ key.numpy()) for _, key in known], kind="stable")
    return [results[known[place][0]].record.study_id for place in order[:count]]


@pytest.mark.parametrize("count", [3, 10])
def test_neighbours_are_those_of_a_plain_sort(results: list[StudyResult], count: int) -> None:
    lines = list(neighbours(results, count))
    assert [line["study_id"] for line in lines] == [f"s{row}" for row in range(len(TEXTS))]
    sets = {one.record.study_id: set(one.findings.nonzero().flatten().tolist()) for one in results}
    for row, line in enumerate(lines):
        for way in WAYS:
            expected = by_hand(results, way, row, count)
            assert (line[way]["studies"] if way in line else None) == expected
            own = sets[line["study_id"]]
            alike = [bool(own & sets[name]) or not (own or sets[name]) for name in expected or ()]
            assert (line[way]["alike"] if way in line else []) == alike
    assert "i2t" not in lines[4]
    assert "t2t" not in lines[5]
    assert lines[0]["i2i"]["cosines"] == sorted(lines[0]["i2i"]["cosines"], reverse=True)


def test_images_of_one_study_do_not_find_each_other(results: list[StudyResult]) -> None:
    lines = list(neighbours([*results, replace(results[0], path="b.png")]))
    assert "s0" not in lines[0]["i2i"]["studies"]
    assert lines[0]["i2t"]["studies"].count("s0") == 2
    assert list(neighbours([])) == []


def test_embeddings_come_back_as_they_were(results: list[StudyResult], tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e.parquet", results)
    table = pq.read_table(tmp_path / "e.parquet").to_pydict()
    assert table["study_id"] == [f"s{row}" for row in range(6)]
    assert table["image_embedding"][4] is None
    assert table["text_embedding"][5] is None
    assert results[0].image is not None
    np.testing.assert_array_equal(np.float32(table["image_embedding"][0]), results[0].image.numpy())
    assert table["patient"][0] == table["patient"][1] != table["patient"][2]
    assert "p0" not in table["patient"]
    write_embeddings(tmp_path / "none.parquet", [])
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_a_run_leaves_embeddings_and_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mimic_cxr.write(tmp_path / "twin", 24, seed=0, size=64, workers=0)
    monkeypatch.chdir(tmp_path)
    medvl(f"fit {short(tmp_path / 'twin', 1)}")
    run = Path("runs/alignment/alignment/latest").resolve()
    assert any("val/loss" in line for line in (run / "metrics.jsonl").read_text().splitlines())
    medvl(f"test --run {run}")
    tested = list(map(json.loads, (run / "predictions/neighbours.jsonl").read_text().splitlines()))
    assert "One&#x27;s own partner" in (run / "report.html").read_text()
    known = Evidence.of(run)
    assert len(known.image) == len(known.said) == len(known.shows) == len(tested) > 0
    assert "mean_recall" in known.metrics
    medvl(f"predict --run {run} --data.predict_split all")
    table = pq.read_table(run / "predictions/embeddings.parquet").to_pydict()
    assert set(table["split"]) == {"train", "val", "test"}
    assert {line["study_id"] for line in tested} == {
        study for study, split in zip(table["study_id"], table["split"], strict=True) if split == "test"
    }
    assert json.loads((run / "predictions/embeddings.data.json").read_text())["split"] == "all"
    assert len(list((run / "predictions").glob("*/embeddings.parquet"))) == 1  # those of test, put aside
    lengths = np.linalg.norm([row for row in table["image_embedding"] if row is not None], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
