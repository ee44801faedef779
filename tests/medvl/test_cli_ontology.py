"""`medvl ontology check|extract|show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medvl.cli.main import main
from medvl.viz.entities import Mark, entity_page, pieces

TEXT = "FINDINGS: Small right pleural effusion. No pneumothorax. <script>\n"


def test_extract_keeps_order_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"id": 2, "text": TEXT, "patient_id": "p"}, {"id": 1, "text": ""}, {"id": 3, "text": "Nil."}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["ontology", "extract", "--input", str(source), "--output", str(output)]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["id"] for row in found] == [2, 1, 3]
    assert found[0]["patient_id"] == "p"
    assert [TEXT[slice(*entity["span"])] for entity in found[0]["entities"]] == ["pleural effusion", "pneumothorax"]
    told = capsys.readouterr().out
    assert "3 reports, 2 entities (1 present, 1 absent" in told
    assert "1 without text" in told
    assert "1 with text but no entity" in told


def test_extract_leaves_nothing_half_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": 1, "text": "Edema."}\n{"id": 2,\n')
    assert main(["ontology", "extract", "--input", str(source), "--output", str(output)]) == 2
    assert not output.exists()
    assert "in.jsonl:2" in capsys.readouterr().err
    source.write_text("")
    assert main(["ontology", "extract", "--input", str(source), "--output", str(output)]) == 2


def test_other_language_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 1, "text": "Pleuraerguss links."}\n')
    words = ["ontology", "extract", "--input", str(source), "--output", str(tmp_path / "out.jsonl")]
    assert main(words) == 0
    assert "another language" in capsys.readouterr().err
    assert main([*words, "--language", "de"]) == 0
    assert "another language" not in capsys.readouterr().err
    source.write_text('{"id": 1, "text": "Kein Pneumothorax."}\n{"id": 2, "text": "No effusion."}\n')
    for language in ("en", "de"):
        assert main([*words, "--language", language]) == 0
        assert f"1 deny in another language than {language}" in capsys.readouterr().err


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ontology", "check"]) == 0
    assert "en: 53 findings" in capsys.readouterr().out
    assert main(["ontology", "check", "--language", "xx"]) == 2


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, page = tmp_path / "report.txt", tmp_path / "page.html"
    report.write_text(TEXT)
    assert main(["ontology", "show", str(report)]) == 0
    assert "small right pleural effusion" in capsys.readouterr().out
    assert main(["ontology", "show", str(report), "--html", str(page)]) == 0
    html = page.read_text()
    assert "<script>" not in html
    assert "pneumothorax (absent)" in html
    assert html.count("<mark ") == 2
    assert main(["ontology", "show", str(tmp_path / "none.txt")]) == 2


def test_pieces_cover_the_text() -> None:
    marks = [Mark(2, 6, "present", "a"), Mark(4, 8, "absent", "b")]
    found = pieces("0123456789", marks)
    assert "".join(piece for piece, _ in found) == "0123456789"
    assert [len(covering) for _, covering in found] == [0, 1, 2, 1, 0]
    assert entity_page("t", "", []).startswith("<!DOCTYPE html>")
