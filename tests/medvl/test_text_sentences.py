"""Reports to sentences: sections, lists, wrapped lines, abbreviations."""

from __future__ import annotations

import time

import pytest

from medvl.text.sentences import LONGEST, Splitter, split_report

HOSPITAL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with cough.  Evaluate for pneumonia.

 FINDINGS:

 The lungs are clear of focal consolidation, pleural effusion or pneumothorax. Right
 PICC terminates in the superior vena cava.  No. 3 rib is fractured. The heart
 measures approx. 12.5 cm. across, unchanged vs. the study of 12.03.2019. Told
 to Dr. ___ at 8:30 a.m. by J. Smith.

 IMPRESSION:

 1. No acute process.
 2.  Stable 2.5 cm nodule in the left
 upper lobe. Follow-up advised.
"""


def texts(report: str) -> list[str]:
    return [sentence.text for sentence in split_report(report)]


def test_a_hospital_report() -> None:
    sentences = split_report(HOSPITAL)
    found = [(sentence.section, sentence.text) for sentence in sentences if sentence.about_image]
    assert found == [
        ("findings", "The lungs are clear of focal consolidation, pleural effusion or pneumothorax."),
        ("findings", "Right PICC terminates in the superior vena cava."),
        ("findings", "No. 3 rib is fractured."),
        ("findings", "The heart measures approx. 12.5 cm. across, unchanged vs. the study of 12.03.2019."),
        ("findings", "Told to Dr. ___ at 8:30 a.m. by J. Smith."),
        ("impression", "No acute process."),
        ("impression", "Stable 2.5 cm nodule in the left upper lobe."),
        ("impression", "Follow-up advised."),
    ]
    context = [(sentence.section, sentence.text) for sentence in sentences if not sentence.about_image]
    assert context == [
        ("examination", "CHEST (PA AND LAT)"),
        ("indication", "___ year old woman with cough."),
        ("indication", "Evaluate for pneumonia."),
    ]


def test_a_sentence_knows_where_it_stands() -> None:
    for sentence in split_report(HOSPITAL):
        assert " ".join(HOSPITAL[sentence.start : sentence.stop].split()) == sentence.text


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("Findings: lungs are clear. heart normal.No edema.", ["lungs are clear.", "heart normal.", "No edema."]),
        ("Impression: 1. Mild edema. 2. No mass. 3) Scar", ["Mild edema.", "No mass.", "Scar"]),
        ("Lungs are clear\nNo effusion\r\nHeart normal", ["Lungs are clear", "No effusion", "Heart normal"]),
        ("- small effusion\n- clip in\n  the lobe\n• No mass", ["small effusion", "clip in the lobe", "No mass"]),
        ("LUNGS: CLEAR. HEART: BIG.\nBONES: FRACTURE.", ["LUNGS: CLEAR.", "HEART: BIG.", "BONES: FRACTURE."]),
        ("New? It is (see image 3, e.g. its apex). Yes!", ["New?", "It is (see image 3, e.g. its apex).", "Yes!"]),
        ("A nodule of 5 mm. The rest is clear.", ["A nodule of 5 mm.", "The rest is clear."]),
        ("Findings\r\n\r\nClear lungs.\r\n\r\nNo mass.", ["Clear lungs.", "No mass."]),
        ("", []),
        (" \n 12. 3 ... !", []),
        ("FINDINGS:\n\nIMPRESSION:", []),
    ],
)  # fmt: skip
def test_forms_that_reports_take(report: str, expected: list[str]) -> None:
    assert texts(report) == expected


def test_headings_in_one_line_and_unknown_ones() -> None:
    report = "HISTORY: Cough. FINDINGS: No mass. IMPRESSION: Normal. LEFT HAND:\nNo fracture."
    sentences = split_report(report + "\n\nLEFT HAND:\nNo fracture.")
    assert [(s.section, s.text) for s in sentences][:3] == [
        ("history", "Cough."), ("findings", "No mass."), ("impression", "Normal."),
    ]  # fmt: skip
    assert (sentences[-1].section, sentences[-1].about_image) == ("left hand", True)
    assert texts("The findings: none. An impression of mass.") == ["The findings: none.", "An impression of mass."]


def cut(text: str, *abbreviations: str) -> list[str]:
    return [text[start:stop] for start, stop in Splitter(abbreviations)(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No effusion.Left nodule", ["No effusion.", "Left nodule"]),
        ("A nodule ? artefact. Edema? No.", ["A nodule ? artefact.", "Edema?", "No."]),
        ("No mass.\u200b Edema.\x00Scar.\ufeffNodule", ["No mass.", "\u200b Edema.", "\x00Scar.", "\ufeffNodule"]),
        ("(No mass.) Edema.", ["(No mass.)", "Edema."]),
        ("a\nb\n\nc\n2. d", ["a\nb", "c", "d"]),
        ("1. Edema. 2. Mass vs. scar. No. 3 rib", ["Edema.", "Mass vs. scar.", "No. 3 rib"]),
        ("5 cm. mass. 5 cm. Mass", ["5 cm. mass.", "5 cm.", "Mass"]),
    ],
)
def test_sentences_of_any_text(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_a_language_has_abbreviations_of_its_own() -> None:
    assert cut("Erguss re. basal.") == ["Erguss re.", "basal."]
    assert cut("Erguss re. basal.", "re") == ["Erguss re. basal."]


def test_text_without_any_full_stop_is_cut_at_a_blank() -> None:
    parts = cut("effusion and " * 1000)
    assert max(map(len, parts)) <= LONGEST
    assert " ".join(parts) == ("effusion and " * 1000).strip()
    assert [len(part) for part in cut("a" * (LONGEST + 1))] == [LONGEST, 1]


@pytest.mark.parametrize("unit", ["No effusion. ", "no edema\n", "No edema\n", "no effusion and ", "1. ", "\n", "Dr. "])
def test_a_megabyte_of_text(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    start = time.process_time()
    split_report(text)
    assert time.process_time() - start < 5
