"""Reports from JSON lines, and what is wrong with a line; entities back from theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medvl.errors import DataError
from ontology.entities import Entity, Report, read_entities, read_reports, write_entities


def lines(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "reports.jsonl"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_lines_in_any_form(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        '{"id": 7, "text": "Edema.", "split": "val", "age": 3}',
        "",
        '{"id": "b", "findings": NaN, "impression": "Mass."}',
        '{"id": "c", "findings": "Cyst", "impression": null, "patient_id": "p"}',
        '{"id": "d", "text": null}',
    )
    reports = list(read_reports(path))
    assert [(report.id, report.text) for report in reports] == [
        (7, "Edema."), ("b", "\nMass."), ("c", "Cyst\n"), ("d", ""),
    ]  # fmt: skip
    assert [dict(report.passed_on) for report in reports] == [{"split": "val"}, {}, {"patient_id": "p"}, {}]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('{"id": 1', "not JSON"),
        ("[1]", "expected an object"),
        ('{"text": "Edema."}', "without id"),
        ('{"id": 1}', "without text"),
        ('{"id": 1, "text": 5}', "text is no text"),
        ('{"id": [1], "text": ""}', "without id"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as raised:
        list(read_reports(lines(tmp_path, '{"id": 0, "text": "Edema."}', row)))
    assert "reports.jsonl:2" in str(raised.value)
    assert "Edema" not in str(raised.value)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"id": 1, "text": "Ödem"}'.encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        list(read_reports(path))
    with pytest.raises(DataError, match="cannot read"):
        list(read_reports(tmp_path / "none.jsonl"))


def test_entities_come_back(tmp_path: Path) -> None:
    entity = Entity("edema", "present", ("mild",), ("left",), (5, 10), 0)
    path = tmp_path / "entities.jsonl"
    with path.open("w", encoding="utf-8") as file:
        report = Report.of("a", "Mild edema.", split="train")
        assert len(list(write_entities(file, [(report, [entity])]))) == 1
    ((row, entities),) = read_entities(path)
    assert entities == [entity]
    assert row["split"] == "train"
    assert list(json.loads(path.read_text())["entities"][0]) == [
        "disease", "status", "adjectives", "directions", "span", "sentence",
    ]  # fmt: skip
    path.write_text('{"id": 1, "entities": [{"disease": "edema"}]}\n')
    with pytest.raises(DataError, match="entities"):
        list(read_entities(path))
