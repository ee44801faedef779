"""The sentences annotated for snippet mining: as docs/snippet-annotation.md says, varied, and frozen."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
BRACKETS = {")": "(", "]": "[", "}": "{"}
LABEL = r"(?:series|ser|se|images?|ims?|imgs?|slices?|serien?|bild(?:er)?|schicht(?:en)?|ima)"
POINTS = re.compile(rf"\b{LABEL}[\s.:#]*\d|[(\[]\s*\d+\s*[/:]\s*\d+\s*[)\]]", re.IGNORECASE)

# file: (sha256, sentences, sentences without a reference, references, inherited series)
FROZEN: dict[str, tuple[str, int, int, int, int]] = {
    "snippets_en.jsonl": (
        "f1a901fa3bc2a9107d81a0f86962ffa63d92eac77605f7bcf1ca15c643abf507",
        440,
        185,
        281,
        32,
    ),
    "snippets_de.jsonl": (
        "e5ef7cf307f49a24c1a437a4ece8c108d2f1aa10f982509d359ba55cc9d6e03c",
        605,
        266,
        389,
        39,
    ),
    "snippets2_en.jsonl": (
        "c9594e7f19dccaf15fcbdb6dab38d1d67d355cdd1d16850866c747c7e8b4da76",
        220,
        89,
        148,
        15,
    ),
    "snippets2_de.jsonl": (
        "cfb520b4ed8f84bceead56cc0ddc5070a7c0c96c389e53bf220e7c5519e1cf93",
        220,
        89,
        147,
        13,
    ),
    "snippets3_en.jsonl": (
        "b431b942aab450950654ab6011764485c8f17fc249f7031f7c51f76594ee0676",
        155,
        62,
        117,
        14,
    ),
    "snippets3_de.jsonl": (
        "139373a29b5c19b14e689e47c08921dcaa27427db922f30ebe0bf1a68e82cc5f",
        157,
        64,
        115,
        14,
    ),
}
# the second and third set, written after the rules without them, go on counting
FIRST = {
    "snippets2_en.jsonl": 441,
    "snippets2_de.jsonl": 606,
    "snippets3_en.jsonl": 661,
    "snippets3_de.jsonl": 826,
}
LEAST = {"snippets2_en.jsonl": 220, "snippets2_de.jsonl": 220, "snippets3_en.jsonl": 120, "snippets3_de.jsonl": 120}
# sentences whose snippet keeps a bracketed pair that is a score, a date or a count
KEPT_PAIRS = {"de-213", "en-020", "en-108", "en-198", "en-366"}
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def cited(row: Row) -> list[str]:
    """The words of each reference."""
    return [row["text"][slice(*reference["span"])] for reference in row["references"]]


def balanced(words: str) -> bool:
    opened: list[str] = []
    for character in words:
        if character in BRACKETS.values():
            opened.append(character)
        elif character in BRACKETS and (not opened or opened.pop() != BRACKETS[character]):
            return False
    return not opened


@pytest.mark.parametrize("name", FROZEN)
def test_frozen(name: str) -> None:
    digest, number, without, references, inherited = FROZEN[name]
    assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == digest
    found = rows(name)
    assert len(found) == number >= LEAST.get(name, 330)
    assert sum(not row["references"] for row in found) == without >= 0.4 * number
    assert sum(len(row["references"]) for row in found) == references
    assert sum(reference["inherited"] for row in found for reference in row["references"]) == inherited
    numbers = range(FIRST.get(name, 1), FIRST.get(name, 1) + number)
    assert [row["id"] for row in found] == [f"{name[-8:-6]}-{index:03d}" for index in numbers]
    assert len({(row["context"], " ".join(row["text"].split()).casefold()) for row in found}) == number


def test_no_sentence_is_in_both_sets() -> None:
    texts = [(row["context"], " ".join(row["text"].split()).casefold()) for name in FROZEN for row in rows(name)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", FROZEN)
def test_references_are_well_formed(name: str) -> None:
    for row in rows(name):
        assert list(row) == ["id", "text", "context", "references", "snippet"]
        end = 0
        for reference, words in zip(row["references"], cited(row), strict=True):
            assert list(reference) == ["series", "images", "span", "inherited", "plane"], row["id"]
            assert end <= reference["span"][0] < reference["span"][1] <= len(row["text"]), row["id"]
            end = reference["span"][1]
            assert words == words.strip(), row["id"]
            assert balanced(words), row["id"]
            assert reference["plane"] in {None, "axial", "coronal", "sagittal"}, row["id"]
            ends = [number for pair in reference["images"] for number in pair]
            assert ends == sorted(ends), row["id"]
            assert min(ends) > 0, row["id"]
            assert all(len(pair) == 2 for pair in reference["images"]), row["id"]
            starts = [pair[0] for pair in reference["images"]]
            assert len(set(starts)) == len(starts), row["id"]


@pytest.mark.parametrize("name", FROZEN)
def test_numbers_are_those_of_the_words(name: str) -> None:
    for row in rows(name):
        for reference, words in zip(row["references"], cited(row), strict=True):
            told = re.findall(r"\d+", words)
            if not told:
                continue  # spelled out
            series = reference["series"]
            for number in {number for pair in reference["images"] for number in pair}:
                assert any(str(number).endswith(digits) for digits in told), row["id"]
            if series is None:
                assert not reference["inherited"], row["id"]
            elif reference["inherited"]:
                start, end = reference["span"]
                around = f"{row['context'] or ''} {row['text'][:start]} {row['text'][end:]}"
                assert str(series) in re.findall(r"\d+", around), row["id"]
            else:
                assert str(series) in told, row["id"]


@pytest.mark.parametrize("name", FROZEN)
def test_snippets_hold_no_reference(name: str) -> None:
    for row in rows(name):
        snippet = row["snippet"]
        assert (snippet is None) == (not row["references"]), row["id"]
        if not snippet:
            continue
        assert snippet == " ".join(snippet.split()), row["id"]
        assert balanced(snippet), row["id"]
        assert row["id"] in KEPT_PAIRS or not POINTS.search(snippet), row["id"]
        assert not any(words in snippet for words in cited(row)), row["id"]
        kept = list(row["text"])
        for reference in row["references"]:
            kept[slice(*reference["span"])] = " " * (reference["span"][1] - reference["span"][0])
        left = iter(re.findall(r"\w+", "".join(kept).casefold()))
        assert all(word in left for word in re.findall(r"\w+", snippet.casefold())), row["id"]


@pytest.mark.parametrize("name", FROZEN)
def test_references_are_written_in_many_ways(name: str) -> None:
    shapes = {re.sub(r"\d+", "0", words) for row in rows(name) for words in cited(row)}
    assert len(shapes) >= 60
