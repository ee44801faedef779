"""The ontology as judge of sentences: against the annotated ones, and where words alone are wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from datamodules.cleanup.statuses import Judge, Status, judge_by_words
from medvl.cli.judge import ontology_judge

ANNOTATED = Path(__file__).resolve().parents[1] / "ontology" / "ober_sentences.jsonl"


@pytest.mark.parametrize(
    ("sentence", "status"),
    [
        ("Low lung volumes without focal consolidation.", Status.FINDING),
        ("No pneumothorax, possible small effusion on the left.", Status.FINDING),
        ("Normal heart size with postoperative changes.", Status.FINDING),  # the lexicon does not name these
        ("Prior granulomatous disease.", Status.FINDING),  # past, but there to be seen
        ("Interval removal of the chest tube.", Status.NEGATED),
        ("Nothing to suggest tuberculosis.", Status.NEGATED),
        ("The cardiac shadow is of normal size.", Status.NORMAL),
        ("Recommend CT to exclude a nodule.", Status.NON_DIAGNOSTIC),
        ("No comparison available.", Status.NON_DIAGNOSTIC),
    ],
)
def test_a_sentence_is_what_it_says(sentence: str, status: Status) -> None:
    assert ontology_judge()(sentence) is status


def wrong(judge: Judge) -> Counter[str]:
    """Count annotated sentences that lose boxes though they affirm a finding, or keep them though all is denied."""
    found = Counter[str]()
    for row in map(json.loads, ANNOTATED.read_text(encoding="utf-8").splitlines()):
        said = {entity["status"] for entity in row["entities"]}
        status = judge(row["text"])
        found["lost"] += bool(said & {"present", "uncertain"}) and status is not Status.FINDING
        found["kept"] += said == {"absent"} and status is Status.FINDING
    return found


def test_it_is_better_than_words_on_annotated_sentences() -> None:
    ours, words = wrong(ontology_judge()), wrong(judge_by_words)
    assert ours["lost"] <= 1 < words["lost"]
    assert ours["kept"] <= 1 < words["kept"]
