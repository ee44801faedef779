"""Losses compared: relevance from what was painted, equal budgets, what is swept and tried, one run of two steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import alignment_losses, harness
from benchmarks.alignment_losses import grids
from benchmarks.alignment_methods import BATCH, METHODS, TRIPLETS, Bench, Method
from benchmarks.alignment_scores import Truth, compare
from benchmarks.training import Trainings, films
from medvl.errors import ConfigError
from medvl.viz.figure import bar_figure


def painted(**findings: list[tuple[str, str, str]]) -> list[str]:
    """Return lines of the side file; each study is a patient of its own."""
    names = ("disease", "side", "severity")
    return [
        json.dumps(
            {
                "study_id": study,
                "subject_id": f"p{study}",
                "split": "test",
                "findings": [dict(zip(names, one, strict=True)) for one in found],
            }
        )
        for study, found in findings.items()
    ]


def embeddings(path: Path, rows: dict[str, list[float]]) -> Path:
    """Write vectors, images and texts alike."""
    columns = {f"{name}_embedding": list(rows.values()) for name in ("image", "text")}
    pq.write_table(pa.table({"study_id": list(rows), **columns}), path)
    return path


def test_relevance_is_what_was_painted(tmp_path: Path) -> None:
    effusion = ("effusion", "left", "small")
    lines = painted(
        a=[effusion], b=[("effusion", "right", "small")], c=[("effusion", "bilateral", "large")], d=[], e=[]
    )
    (tmp_path / "twin_factors.jsonl").write_text("\n".join(lines))
    truth = Truth.read(tmp_path)
    ways = [[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0], [-0.1, 0.9]]
    path = embeddings(tmp_path / "e.parquet", {f"s{name}": way for name, way in zip("abcde", ways, strict=True)})
    values, chance = truth.judge(path)  # of four candidates, the three nearest
    assert values["class/i2t"] == pytest.approx([2 / 3, 2 / 3, 1 / 3, np.nan, np.nan], nan_ok=True)
    assert chance["class/i2t"] == pytest.approx([0.5, 0.5, 0.5, np.nan, np.nan], nan_ok=True)
    assert values["class+side/i2t"] == pytest.approx([1 / 3, 1 / 3, 1 / 3, np.nan, np.nan], nan_ok=True)
    assert chance["class+severity/i2t"][:2] == pytest.approx([0.25, 0.25])
    assert np.isnan(values["class+severity/i2t"][2:]).all()
    assert np.isnan(values["no finding/t2i"][:3]).all()
    assert values["no finding/t2i"][3:] == pytest.approx([1 / 3, 1 / 3])
    found = compare(truth, {"one": [path, path], "other": [path]}, draws=20)
    assert found.headline("one") == pytest.approx(5 / 9)
    assert found.ahead["other"]["class/cross"] == pytest.approx((0, 0, 0))


def test_rare_is_what_few_studies_have(tmp_path: Path) -> None:
    lines = painted(**{f"n{i}": [("edema", "", "")] for i in range(30)}, x=[("mass", "left", "small")])
    (tmp_path / "twin_factors.jsonl").write_text("\n".join(lines))
    truth = Truth.read(tmp_path)
    assert truth.rare == ("mass",)
    assert truth.labels["minority"].sum() == 1


def test_every_loss_has_as_many_variants() -> None:
    assert len({len(method.variants()) for method in METHODS.values()}) == 1
    assert all(len(set(map(str, method.variants()))) == 4 for method in METHODS.values())


def test_settings_are_tried_one_at_a_time() -> None:
    base = METHODS["medtrim-centred"]
    tried = {name: [one for points in lines.values() for one in points.values()] for name, lines in grids(base).items()}
    assert next(one.arguments["terms"] for one in tried["terms"][1:]) == ["tt", "it", "ti"]
    assert all(sum(one.mining["gamma"]) == pytest.approx(1, abs=1e-3) for one in tried["gamma"] if one.mining)
    for name in ("eta", "margin", "paired"):
        others = {
            str({key: one.arguments.get(key) for key in ("eta", "margin", "paired") if key != name})
            for one in tried[name]
        }
        assert len({one.arguments[name] for one in tried[name]}) == len(tried[name]) > 1
        assert len(others) == 1
        assert all(one.mining == base.mining for one in tried[name])
    assert all(base.with_loss(margin=0.3) in [one.with_loss(margin=0.3) for one in ones] for ones in tried.values())
    assert {one.centred for ones in tried.values() for one in ones} == {True}


def test_triplets_train_on_as_many_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["medvl"])
    bench = Bench.write(Trainings(tmp_path), 4, *films(60, 0, 64))
    assert METHODS["infonce"].steps(bench.twin, bench.files, 0, 4 * BATCH) == 4
    steps = METHODS["medtrim-random-centred"].steps(bench.twin, bench.files, 0, 4 * BATCH)
    assert 4 * BATCH / (3 * TRIPLETS) <= steps < 4 * BATCH / TRIPLETS  # some studies are in several triplets
    rows = {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in bench.files.items()}
    assert len({len(lines) for lines in rows.values()}) == 1
    counts = {
        name: sum(e["status"] == "present" for one in lines for e in one["entities"]) for name, lines in rows.items()
    }
    assert counts["negation-off"] > counts["oracle"] > 0
    assert counts["negation-off"] > counts["ours"] > 0


def test_the_benchmark_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods: dict[str, Method] = {name: METHODS[name] for name in ("medtrim-random-centred", "infonce")}
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setattr(alignment_losses, "METHODS", methods)
    monkeypatch.setattr(alignment_losses, "TOLD", ("medtrim-random-centred",))
    with pytest.raises(ConfigError, match="loses"):
        alignment_losses.run(parts=["loses"])
    alignment_losses.run(seeds=1, steps=2, tune_steps=0, studies=24, size=64, parts=["losses"])
    result = json.loads((tmp_path / "alignment-losses.json").read_text())
    assert 0 <= result["ours"] <= 1
    assert list(result["peers"]) == ["infonce"]
    assert set(result["metrics"]) == set(methods)
    assert result["encoded_studies"] == 2 * BATCH
    assert (tmp_path / "alignment-losses.png").stat().st_size > 1000


def test_bars_stand_beside_chance(tmp_path: Path) -> None:
    path = bar_figure(tmp_path / "a.png", "Title", {"one": (0.5, 0.4, 0.6), "other": (0.2, 0.1, 0.4)}, "P", 0.3)
    assert path.stat().st_size > 1000
