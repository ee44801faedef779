"""Peers of OBER: MedTrim's rule as it is restated, and an extractor in another interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import ober_peers
from benchmarks.ober_peers import ClauseRule, medspacy, terms
from medvl.errors import ConfigError
from ontology.lexicon import load


def found(text: str, *silent: str) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return disease, adjectives and directions of what the rule finds."""
    entities = ClauseRule(load("en"), silent).extract(text)
    return [(one.disease, one.adjectives, one.directions) for one in entities]


def test_every_attribute_of_a_clause_is_of_every_finding_in_it() -> None:
    both = ("moderate", "small"), ("basilar", "left", "right")
    assert found("Small right pleural effusion and moderate left basilar atelectasis.") == [
        ("atelectasis", *both),
        ("pleural effusion", *both),
    ]
    assert found("Small right effusion with left edema") == [
        ("pleural effusion", ("small",), ("right",)),
        ("edema", (), ("left",)),
    ]


def test_a_word_of_the_list_empties_its_clause_alone() -> None:
    text = "No effusion. Edema but no pneumothorax. Atelectasis without pneumonia."
    names = [name for name, *_ in found(text, "no")]
    assert names == ["edema", "atelectasis"]
    assert [name for name, *_ in found(text)] == ["pleural effusion", "edema", "pneumothorax", "atelectasis"]


def test_terms_know_that_a_heart_is_enlarged() -> None:
    surfaces = terms(load("en"))
    assert {surfaces[one] for one in ("enlarged heart", "heart size is mildly enlarged")} == {"cardiomegaly"}
    assert "heart" not in surfaces


def test_a_peer_runs_in_its_own_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, sys\n"
        "task = json.load(sys.stdin)\n"
        "found = [[c for s, c in task['terms'].items() if s in text] for text in task['texts']]\n"
        "json.dump({'version': '0', 'seconds': 1.0, 'found': found}, sys.stdout)\n"
    )
    monkeypatch.setattr(ober_peers, "WORKER", worker)
    told = medspacy(sys.executable, {"effusion": "pleural effusion"}, ["an effusion", "clear"])
    assert told == {"version": "0", "seconds": 1.0, "found": [["pleural effusion"], []]}
    worker.write_text("raise ModuleNotFoundError('no module named medspacy')")
    with pytest.raises(ConfigError, match="no module named medspacy"):
        medspacy(sys.executable, {}, [])
    with pytest.raises(ConfigError, match="interpreter"):
        medspacy(str(tmp_path / "none"), {}, [])
