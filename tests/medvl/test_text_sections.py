"""Sections of typed reports: what is a heading, what is read, findings and impression."""

from __future__ import annotations

import pytest

from medvl.text.sections import readable, sectioned, split

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old man, rule out pneumonia.

 COMPARISON:  Effusion on ___.

 FINDINGS:

 The lungs are clear.  Heart size
 is normal.

 IMPRESSION:

 No edema.
"""


def body(text: str) -> list[str]:
    return [" ".join(text[start:end].split()) for start, end in readable(text)]


def test_sections_of_mimic() -> None:
    assert body(MIMIC) == ["The lungs are clear. Heart size is normal.", "No edema."]
    assert [section.name for section in split(MIMIC)] == [
        "technique", "indication", "comparison", "findings", "impression",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("No edema.", ["No edema."]),
        ("Findings: Edema.\nConclusion: Mass.", ["Edema.", "Mass."]),
        ("CHEST, TWO VIEWS: Edema.\n", ["Edema."]),
        ("INDICATION: Cough.\n\n COMPARISON: None.\n\n Heart is large.\n Edema.\n", ["Heart is large. Edema."]),
        ("INDICATION: Cough.", []),
        ("The lungs: clear.", ["The lungs: clear."]),
        ("FINDINGS:\nLUNGS: Clear.\nHEART: Big.\nIMPRESSION: Mass.", ["LUNGS: Clear. HEART: Big.", "Mass."]),
        ("FINDINGS: Edema. RECOMMENDATIONS: CT of the mass.", ["Edema."]),
        ("Edema. COMPARISON: Effusion.", ["Edema."]),
        ("Chest Comparison: there is a mass.", ["Chest Comparison: there is a mass."]),
        ("FINAL REPORT\n\nFindings\n\nEdema.", ["Edema."]),
        ("Klinische Angaben: Husten.\nBefund: Erguss.\nBeurteilung: Ödem.", ["Erguss.", "Ödem."]),
        ("IMPRESSION: Edema.\n\nElectronically signed by me: no mass", ["Edema."]),
    ],
)  # fmt: skip
def test_what_is_read(text: str, read: list[str]) -> None:
    assert body(text) == read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" FINAL REPORT\n FINDINGS: \n\n It is\n big.\n \n IMPRESSION:\n 1. A ___.", ("It is big.", "1. A ___.", "")),
        (" FINAL REPORT\n \n Heart large.\n\n Lungs clear.", ("", "", "Heart large. Lungs clear.")),
        ("FINDINGS:  A.\r\n\r\nCONCLUSION:  B.\r\n", ("A.", "B.", "")),
        ("ADDENDUM  IMPRESSION: Old.\nIMPRESSION: First.\n IMPRESSION:  Last.", ("", "Last.", "")),
        ("Findings: clear at 2:30.\nImpresson: fine", ("clear at 2:30.", "fine", "")),
        ("EXAMINATION:  CHEST\n \n INDICATION:  Cough.\n \n The lungs\n are clear.", ("", "", "The lungs are clear.")),
        ("INDICATION: cough", ("", "", "")),
        ("CHEST, TWO VIEWS: Edema.", ("", "", "Edema.")),
        ("CHEST RADIOGRAPH\n\nEdema.", ("", "", "Edema.")),
        ("NORMAL CHEST", ("", "", "NORMAL CHEST")),
        ("FINDINGS:\n\nIMPRESSION:\n", ("", "", "")),
        ("The heart is large.\x07", ("", "", "The heart is large.")),
        ("", ("", "", "")),
    ],
)  # fmt: skip
def test_sections(text: str, expected: tuple[str, str, str]) -> None:
    assert tuple(sectioned(text)) == expected


def test_a_megabyte_is_read_soon() -> None:
    assert len(sectioned("FINDINGS: " + "No effusion. " * 80_000).findings) > 10**6
