"""The annotated sentences: well formed, named as the guide names things, and frozen."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
GUIDE = (HERE.parents[1] / "docs" / "ontology-annotation.md").read_text(encoding="utf-8")
STATUSES = {"present", "absent", "uncertain", "historical"}

# file: (sha256, sentences, share with two findings or more, mentions by status)
FROZEN: dict[str, tuple[str, int, float, dict[str, int]]] = {
    "ober_sentences.jsonl": (
        "20732a5e35f85e27806e063398124877d89161290908eca9cc1d683dda184201",
        397,
        0.41,
        {"present": 318, "absent": 169, "uncertain": 70, "historical": 27},
    ),
    "ober_sentences_de.jsonl": (
        "90dfa6f3d4947f930bd61deafa0f87a37f46c5424223e3527a87fb4f50200481",
        62,
        0.33,
        {"present": 42, "absent": 30, "uncertain": 9, "historical": 4},
    ),
}
Row = dict[str, Any]


def named(section: str) -> set[str]:
    """The terms that one section of the guide sets in code type, up to its first bullet for diseases."""
    body = re.split(r"^## ", GUIDE, flags=re.M)
    (text,) = (part for part in body if part.startswith(section))
    return set(re.findall(r"`([^`]+)`", text.split("\n- ")[0] if section == "Diseases" else text))


def rows(name: str) -> list[Row]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", FROZEN)
def test_frozen(name: str) -> None:
    digest, number, multiple, statuses = FROZEN[name]
    assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == digest
    found = rows(name)
    assert len(found) == number
    assert Counter(entity["status"] for row in found for entity in row["entities"]) == statuses
    assert sum(len(row["entities"]) > 1 for row in found) >= multiple * number
    assert len({row["id"] for row in found}) == len({row["text"] for row in found}) == number


@pytest.mark.parametrize("name", FROZEN)
def test_names_are_the_guides(name: str) -> None:
    diseases, adjectives, directions = named("Diseases"), named("Adjectives"), named("Directions")
    for row in rows(name):
        assert set(row) == {"id", "text", "entities"}
        for entity in row["entities"]:
            assert set(entity) == {"disease", "status", "adjectives", "directions", "span"}
            assert entity["disease"] in diseases, row["id"]
            assert entity["status"] in STATUSES, row["id"]
            assert set(entity["adjectives"]) <= adjectives, row["id"]
            assert set(entity["directions"]) <= directions, row["id"]
            assert not {"left", "right"} <= set(entity["directions"]), row["id"]
            assert len({"left", "right", "bilateral"} & set(entity["directions"])) < 2, row["id"]
            for kind in ("adjectives", "directions"):
                assert entity[kind] == sorted(set(entity[kind])), row["id"]


@pytest.mark.parametrize("name", FROZEN)
def test_spans_are_whole_words_in_order(name: str) -> None:
    for row in rows(name):
        last = 0
        for start, end in (entity["span"] for entity in row["entities"]):
            assert last <= start < end <= len(row["text"]), row["id"]
            mention = row["text"][start:end]
            assert re.fullmatch(r"\w(.*\w)?", mention), row["id"]
            assert re.search(rf"(?<!\w){re.escape(mention)}(?!\w)", row["text"][max(0, start - 1) : end + 1]), row["id"]
            last = end


def test_one_mention_means_one_thing() -> None:
    """The same words are never given two diseases; only lungs may be clear or well expanded."""
    meant: dict[str, set[str]] = {}
    for name in FROZEN:
        for row in rows(name):
            for entity in row["entities"]:
                start, end = entity["span"]
                meant.setdefault(row["text"][start:end].lower(), set()).add(entity["disease"])
    assert {words for words, names in meant.items() if len(names) > 1} <= {"lungs"}


@pytest.mark.parametrize("name", FROZEN)
def test_sides_are_in_the_text(name: str) -> None:
    traces = {
        "left": r"\bleft|\bL[UL]L\b|\blt\b|\blinks|\blinke|\bli\b",
        "right": r"\bright|\bR[UML]L\b|\brt\b|\brecht|\bre\b",
        "bilateral": r"bilat|\bb/l\b|\bbi(basi?l|apic)|\bboth\b|left.*right|right.*left|\bbeid|link.*recht|recht.*link",
    }
    for row in rows(name):
        for entity in row["entities"]:
            for side in traces.keys() & set(entity["directions"]):
                assert re.search(traces[side], row["text"], re.I), row["id"]
