"""OBER: status, attachment and spans, on the annotated sentences and on what reports come with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ontology.entities import Report
from ontology.extract import Ober, extract_all

HERE = Path(__file__).resolve().parent
Found = tuple[str, str, frozenset[str], frozenset[str]]


@pytest.fixture(scope="module")
def english() -> Ober:
    return Ober("en")


def read(ober: Ober, text: str) -> list[Found]:
    entities = ober.extract(Report("study", text, ((0, len(text)),)))
    return [(e.disease, e.status, frozenset(e.adjectives), frozenset(e.directions)) for e in entities]


def of(disease: str, status: str = "present", adjectives: str = "", directions: str = "") -> Found:
    return disease, status, frozenset(adjectives.split()), frozenset(directions.split())


CASES = {
    "No effusion or pneumothorax.": [of("pleural effusion", "absent"), of("pneumothorax", "absent")],
    "The effusion has resolved.": [of("pleural effusion", "historical")],
    "The cardiac silhouette is enlarged.": [of("cardiomegaly")],
    "The cardiac silhouette is normal.": [of("cardiomegaly", "absent")],
    "Small right effusion and moderate left basilar atelectasis.": [
        of("pleural effusion", "present", "small", "right"),
        of("atelectasis", "present", "moderate", "left basilar"),
    ],
    "Small left upper lung pneumothorax.": [of("pneumothorax", "present", "small", "left upper")],
    "Cavitary lesion in the right upper lobe.": [of("cavity", "present", "", "right upper")],
    "No pneumothorax, stable cardiomegaly.": [of("pneumothorax", "absent"), of("cardiomegaly", "present", "stable")],
    "No effusion, and the heart is mildly enlarged.": [
        of("pleural effusion", "absent"),
        of("cardiomegaly", "present", "mild"),
    ],
    "There is no opacity suspicious for pneumonia.": [of("lung opacity", "absent"), of("pneumonia", "absent")],
    "Pneumonia cannot be excluded.": [of("pneumonia", "uncertain")],
    "No change in the left effusion.": [of("pleural effusion", "present", "stable", "left")],
    "Right basilar opacity, likely pneumonia.": [
        of("lung opacity", "present", "", "right basilar"),
        of("pneumonia", "uncertain"),
    ],
    "Left basilar atelectasis or pneumonia.": [
        of("atelectasis", "present", "", "left basilar"),
        of("pneumonia", "present", "", "left basilar"),
    ],
    "Nodules and scarring in both apices.": [
        of("nodule", "present", "", "bilateral apical"),
        of("scarring", "present", "", "bilateral apical"),
    ],
    "Effusions, right greater than left.": [of("pleural effusion", "present", "", "bilateral")],
    "Heart size, mediastinal contours and pulmonary vascularity are within normal limits.": [
        of("cardiomegaly", "absent"),
        of("enlarged cardiomediastinum", "absent"),
        of("vascular congestion", "absent"),
    ],
    "Left PICC tip in the right atrium.": [of("support device", "present", "", "left")],
    "Sternotomy. No acute cardiopulmonary process.": [],
}


@pytest.mark.parametrize("text", CASES)
def test_case(english: Ober, text: str) -> None:
    assert read(english, text) == CASES[text]


def agreement(ober: Ober, name: str) -> dict[str, float]:
    """Score against the annotation: F1 of mentions, and of mentions with all that is said of them."""
    hits = exact = given = annotated = 0
    for row in map(json.loads, (HERE / name).read_text(encoding="utf-8").splitlines()):
        entities = ober.extract(Report(row["id"], row["text"], ((0, len(row["text"])),)))
        given, annotated, used = given + len(entities), annotated + len(row["entities"]), set[int]()
        for gold in row["entities"]:
            for i, ours in enumerate(entities):
                overlaps = ours.span[0] < gold["span"][1] and gold["span"][0] < ours.span[1]
                if i not in used and ours.disease == gold["disease"] and overlaps:
                    used.add(i)
                    hits += 1
                    same = all(set(getattr(ours, kind)) == set(gold[kind]) for kind in ("adjectives", "directions"))
                    exact += same and ours.status == gold["status"]
                    break
    return {"mention": 2 * hits / (given + annotated), "exact": 2 * exact / (given + annotated)}


def test_annotated_sentences(english: Ober) -> None:
    found = agreement(english, "ober_sentences.jsonl")
    assert found["mention"] >= 0.985
    assert found["exact"] >= 0.97


def test_annotated_sentences_in_german() -> None:
    found = agreement(Ober("de"), "ober_sentences_de.jsonl")
    assert found["mention"] >= 0.985
    assert found["exact"] >= 0.95


def test_infers_places_only_when_asked(english: Ober) -> None:
    text = "Left basilar opacity representing atelectasis. Scarring in the lung bases."
    assert read(english, text)[1:] == [of("atelectasis"), of("scarring", "present", "", "basilar")]
    inferred = read(Ober("en", infer=True), text)
    assert inferred[1:] == [
        of("atelectasis", "present", "", "left basilar"),
        of("scarring", "present", "", "bilateral basilar"),
    ]


def test_spans_survive_what_is_tidied(english: Ober) -> None:
    text = "\x00 Large\tleft \n  pleural\x07  effu\u00adsion;  o\u200bpacity "
    entities = english.extract(Report("study", text, ((0, len(text)),)))
    assert [text[slice(*e.span)] for e in entities] == ["pleural\x07  effu\u00adsion", "o\u200bpacity"]
    assert entities[0].adjectives == ("large",)
    assert entities[0].directions == ("left",)


def test_a_sentence_ends_before_what_cannot_be_seen(english: Ober) -> None:
    text = "No effusion.\u200b Mild edema.\x00Opacity."
    found = [(e.disease, e.status) for e in english.extract(Report("study", text, ((0, len(text)),)))]
    assert found == [("pleural effusion", "absent"), ("edema", "present"), ("lung opacity", "present")]


def test_german_letters_in_two_parts() -> None:
    text = "Pleuraergu\u0308sse beidseits."
    (entity,) = Ober("de").extract(Report("study", text, ((0, len(text)),)))
    assert text[slice(*entity.span)] == "Pleuraergu\u0308sse"
    assert entity.directions == ("bilateral",)


@pytest.mark.parametrize("text", ["", "   \n ", "XXXX ___ XXXX.", "Bonjour, rien à signaler.", "\x00\x01", "...", "no"])
def test_nothing_to_find(english: Ober, text: str) -> None:
    assert read(english, text) == []


def test_sentence_and_section_numbers(english: Ober) -> None:
    report = Report.of("study", "Mild edema. 1.5 cm nodule", "1. No effusion.\n2. Vs. prior, stable mass.")
    entities = english.extract(report)
    assert [(e.disease, e.sentence) for e in entities] == [
        ("edema", 0),
        ("nodule", 1),
        ("pleural effusion", 2),
        ("mass", 3),
    ]
    assert [report.text[slice(*e.span)] for e in entities] == ["edema", "nodule", "effusion", "mass"]


@pytest.mark.parametrize("unit", ["No effusion. ", "no effusion and left nodule, ", "left right or and not ", "a"])
def test_a_megabyte(english: Ober, unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    english.extract(Report("study", text, ((0, len(text)),)))
    assert time.process_time() - start < 10


def test_workers_change_nothing(english: Ober) -> None:
    reports = [Report.of(i, text, "") for i, text in enumerate([*CASES] * 3)]
    alone = [(report.id, entities) for report, entities in extract_all(reports, english)]
    shared = [(report.id, entities) for report, entities in extract_all(iter(reports), workers=2)]
    assert shared == alone


def test_any_extractor_fits() -> None:
    class Silent:
        def extract(self, report: Report) -> list[Any]:
            return []

    assert [entities for _, entities in extract_all([Report.of(1, "Edema.")], Silent())] == [[]]


def test_hash_seed_changes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(CASES)))
    command = [sys.executable, "-m", "medvl", "ontology", "extract", "--input", str(source), "--output"]
    written = []
    for seed in ("1", "2"):
        output = tmp_path / f"{seed}.jsonl"
        subprocess.run(
            [*command, str(output)], check=True, env=os.environ | {"PYTHONHASHSEED": seed}, cwd=HERE.parents[1]
        )
        written.append(output.read_bytes())
    assert written[0] == written[1]
    assert written[0].count(b"\n") == len(CASES)
