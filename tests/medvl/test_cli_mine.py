from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medvl.cli.main import main
from medvl.cli.mine import COLUMNS, run
from medvl.errors import ConfigError, MedvlError


def study(name: object, *diseases: str, **others: Any) -> dict[str, Any]:
    """Return a line with these diseases, each once absent, too."""
    entities = [
        {"disease": disease, "status": status, "adjectives": ["mild"], "directions": [], "span": [0, 4], "sentence": 0}
        for disease in diseases
        for status in ("present", "absent")
    ]
    return {"id": name, "entities": entities, **others}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return f"--entities {path} --output {path.with_name('triplets.parquet')}"


ROWS = [study(f"s{i}", *("edema", "mass")[: 1 + i % 2], patient_id=f"p{i}") for i in range(8)] + [
    study("n"),
    study("m"),
]


def test_mine_writes_triplets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = write(tmp_path / "e.jsonl", ROWS)
    assert main(["ontology", "mine", *words.split()]) == 0
    told = capsys.readouterr().out
    assert "10 studies, 2 without a finding, 3 distinct, 1 splits" in told
    assert "8 triplets" in told
    assert "positives: " in told
    table = pq.read_table(tmp_path / "triplets.parquet")
    assert table.column_names == list(COLUMNS)
    assert table["anchor"].to_pylist() == [f"s{i}" for i in range(8)]
    for row in table.to_pylist():
        number = {name: int(row[name][1:]) for name in COLUMNS[:3]}
        assert number["positive"] % 2 == number["anchor"] % 2 != number["negative"] % 2
        assert row["positive_score"] == pytest.approx(1)
        assert row["negative_score"] == pytest.approx(0.425 + 0.15 / (1 + number["anchor"] % 2))
    kept = json.loads(table.schema.metadata[b"medvl"])
    assert kept["counts"]["no negative"] == 2
    assert kept["tau_max"] == 0.6
    first = (tmp_path / "triplets.parquet").read_bytes()
    assert run(words.split()) == 0
    assert (tmp_path / "triplets.parquet").read_bytes() == first
    assert run([*words.split(), "--epoch", "1"]) == 0
    assert pq.read_table(tmp_path / "triplets.parquet")["positive"] != table["positive"]


def test_numbers_stay_numbers_and_splits_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [study(i, *("edema", "mass")[: 1 + i % 2], split=("train", "test")[i // 6]) for i in range(12)]
    options = [
        "--fallback",
        "below",
        "--negatives",
        "least",
        "--scope",
        "batch",
        "--gamma",
        ".8",
        ".1",
        ".1",
        "--symmetric",
    ]
    assert run([*write(tmp_path / "e.jsonl", rows).split(), *options]) == 0
    found = pq.read_table(tmp_path / "triplets.parquet").to_pylist()
    assert [row["anchor"] for row in found] == list(range(12))
    assert all(row["anchor"] // 6 == row["positive"] // 6 == row["negative"] // 6 for row in found)
    assert "2 splits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS[:2], "three studies"),
        ([study("a"), study("b"), study("c")], "no study has a present finding"),
        ([study(name, "edema") for name in "abcd"], "same entities"),
        ([study(name, name) for name in "abcd"], "--fallback below"),
        ([{"id": "a", "text": "report"}], "its keys are: id, text"),
        ([study("a"), study("a")], "was there in line 1"),
        ([study("a"), study(3)], "ids of one kind"),
        ([{"entities": []}], "a study without id"),
        ([{"id": "a", "entities": [{"disease": "edema", "status": "yes"}]}], "present, absent"),
        ([{"id": "a", "entities": [{"disease": "edema", "status": "present", "adjectives": "mild"}]}], "not entities"),
        ([{"id": "a", "entities": 3}], "not entities"),
        ([{"id": "a", "entities": [{"disease": "edema"}]}], "not entities"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_mined(rows: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(MedvlError) as caught:
        run(write(tmp_path / "e.jsonl", rows).split())
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4
    assert not (tmp_path / "triplets.parquet").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--output t.csv", "*.parquet"),
        ("--tau-min .7", "tau_min < tau_max"),
        ("--negatives hard", "'hardest'"),
        ("--epoch -1", "0 or more"),
        ("--tau 3", "--tau-m"),
    ],
)
def test_options_that_do_not_fit(options: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run([*write(tmp_path / "e.jsonl", ROWS).split(), *options.split()])
    assert said in str(caught.value)
