"""The test split in words that training never shows: about the same images, and really unseen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from datamodules.records import PhraseRecord
from datamodules.sources import PadChestGR
from datamodules.twins import lexicon, padchest_gr, synonyms
from datamodules.twins.findings import KINDS
from datamodules.twins.phrases import affirm
from datamodules.twins.shapes import Lesion
from datamodules.twins.studies import plan

SEED, STUDIES = 0, 160


def forms(nouns: tuple[str, ...]) -> list[str]:
    return [form for noun in nouns for form in noun.split("|")]


def words(sentences: set[str], found: list[str]) -> set[str]:
    """Return which of `found` are said in any of the sentences."""
    text = "\n".join(sentences).lower()
    return {word for word in found if re.search(rf"\b{re.escape(word.lower())}\b", text)}


NEW = [form for nouns in synonyms.NOUNS.values() for form in forms(nouns)]
OLD = [form for entry in lexicon.WORDS.values() for form in forms(entry.en)]
PLACES = [*synonyms.BOTH.values(), *(zone for zones in synonyms.ZONES.values() for zone in zones)]


def test_every_kind_has_synonyms_that_nobody_else_uses() -> None:
    assert synonyms.NOUNS.keys() == KINDS.keys()
    assert not set(NEW) & set(OLD)
    assert len(set(NEW)) == len(NEW), "no synonym means two kinds"
    usual = {finding.sentence_en for i in range(STUDIES) for finding in plan(i, SEED).findings}
    assert words(usual, [*NEW, *PLACES]) == set()


def test_unseen_sentences_say_findings_by_synonyms_only() -> None:
    said = {f.sentence_en for i in range(STUDIES) for f in plan(i, SEED, unseen=True).findings if f.kind != "normal"}
    assert all(words({sentence}, NEW) for sentence in said)
    assert words(said, OLD) == set()
    assert {"bibasilar", "apex", "blunted angle"} <= words(said, [*NEW, *PLACES])
    assert not [sentence for sentence in said if re.search(r"\ba [aeiou]|\ban [^aeiou]", sentence.lower())]


def test_the_images_and_the_boxes_are_the_same() -> None:
    for i in range(60):
        usual, unseen = plan(i, SEED), plan(i, SEED, unseen=True)
        assert usual.painted == unseen.painted
        boxes = [{box for finding in each.findings for box in finding.boxes} for each in (usual, unseen)]
        assert boxes[0] == boxes[1]


@pytest.mark.parametrize(("zone", "word"), [("upper", "biapical"), ("lower", "bibasilar")])
def test_both_sides_of_a_zone(zone: str, word: str) -> None:
    lesions = tuple(Lesion("blob", side, zone, 0, {}) for side in ("right", "left"))
    rng = np.random.default_rng(0)
    said = {affirm(rng, "consolidation", lesions, "mass", True, unseen=True).en for _ in range(40)}
    assert words(said, [word, "bilateral"]) == {word}


def test_only_the_test_split_is_unseen(tmp_path: Path) -> None:
    padchest_gr.write(tmp_path / "usual", 24, seed=SEED, size=64, workers=0)
    padchest_gr.write(tmp_path / "unseen", 24, seed=SEED, size=64, workers=0, unseen_test=True)
    usual, unseen = (PadChestGR(tmp_path / name).load().records for name in ("usual", "unseen"))
    assert "unseen_test" not in json.loads((tmp_path / "usual/twin.json").read_text())
    assert json.loads((tmp_path / "unseen/twin.json").read_text())["unseen_test"] is True

    def of(records: list[PhraseRecord], test: bool) -> set[tuple[str, str]]:
        return {(record.image, record.phrase) for record in records if (record.split == "test") == test}

    assert of(usual, test=False) == of(unseen, test=False)
    assert words({phrase for _, phrase in of(unseen, test=True)}, OLD) == set()
    assert {image for image, _ in of(usual, test=True)} == {image for image, _ in of(unseen, test=True)}
    for name in {image for image, _ in of(usual, test=True)}:
        first, second = (tmp_path / each / "PadChest_GR" / name for each in ("usual", "unseen"))
        assert first.read_bytes() == second.read_bytes()
