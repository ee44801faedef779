"""`medvl data mine-snippets`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medvl.cli.main import main
from medvl.io.sidecar import Sidecar, Slice

REPORTS = [
    {
        "id": 1,
        "text": "FINDINGS: Cyst in the liver (series 7, image 2). Previously 8 mm (3/35). Stone, image 90.\n",
        "patient_id": "p",
    },
    {"id": "b", "findings": "Zyste der Leber (Serie 7, Bilder 1-2). Die Kraft ist gut (3/5).", "impression": ""},
]


def mine(folder: Path, *words: str, lines: str | None = None) -> tuple[int, Path]:
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in REPORTS) if lines is None else lines)
    return main(["data", "mine-snippets", "--input", str(source), "--output", str(output), *words]), output


def test_sentences_with_their_images_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = mine(tmp_path)
    assert code == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["id"], row["snippet"]) for row in found] == [
        (1, "Cyst in the liver."),
        (1, "Stone."),
        ("b", "Zyste der Leber."),
    ]
    assert found[0]["patient_id"] == "p"
    assert found[0]["section"] == "findings"
    assert [row["references"][0]["series"] for row in found] == [7, 7, 7]
    assert "intervals" not in found[0]
    text = str(REPORTS[0]["text"])
    assert text[slice(*found[0]["references"][0]["span"])] == "series 7, image 2"
    told = capsys.readouterr().out
    assert "2 reports, 3 references in 3 sentences" in told
    assert "1 prior" in told
    assert "1 score" in told


def test_series_turn_images_into_mm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sidecar = tmp_path / "series.json"
    sidecar.write_text(json.dumps(Sidecar((Slice(5.0, 2, "", 2.0), Slice(7.0, 1, "", 2.0)), 7).as_dict()))
    code, output = mine(tmp_path, "--series", str(sidecar))
    assert code == 0
    found = [json.loads(line)["intervals"] for line in output.read_text().splitlines()]
    assert found[0] == [{"low": 4.0, "high": 6.0, "weight": 1.0}]
    assert found[1] == []  # the series has no image 90
    assert found[2] == [{"low": 4.0, "high": 8.0, "weight": 1.0}]
    told = capsys.readouterr()
    assert "2 linked, 1 image not in the series" in told.out
    assert "report 1: image not in the series: series 7 images 90" in told.err
    assert "Stone" not in told.err


def test_a_study_without_series_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "studies").mkdir()
    sidecar = Sidecar((Slice(5.0, 2, "", 2.0), Slice(7.0, 1, "", 2.0)), 7)
    (tmp_path / "studies" / "b.json").write_text(json.dumps(sidecar.as_dict()))
    code, _ = mine(tmp_path, "--series", str(tmp_path / "studies"))
    assert code == 0
    told = capsys.readouterr().out
    assert "2 no series of this report" in told
    assert "1 linked" in told


@pytest.mark.parametrize(
    ("lines", "where"),
    [("", "no report"), ('{"id": 1, "text": "x"}\n{"id": 2,\n', "in.jsonl:2"), ('{"text": "x"}\n', "in.jsonl:1")],
)
def test_bad_input_is_named_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str, where: str
) -> None:
    code, output = mine(tmp_path, lines=lines)
    assert code == 2
    assert not output.exists()
    told = capsys.readouterr().err
    assert where in told
    assert len(told.strip().splitlines()) <= 4


def test_wrong_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = mine(tmp_path, "--language", "fr")
    assert code == 2
    assert not output.exists()
    assert "auto, de, en" in capsys.readouterr().err
