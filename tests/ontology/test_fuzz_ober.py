from __future__ import annotations

import pytest
from fuzz import few
from hypothesis import example, given
from hypothesis import strategies as st

from ontology.entities import Report
from ontology.extract import Ober

WORDS = st.sampled_from(
    [
        *("no", "small", "left", "right", "bilateral", "pleural", "effusion", "pneumothorax", "or", "and", "without"),
        *("kein", "keine", "Pleuraerguss", "links", "beidseits", "evidence", "of", "possible", "versus", "vs."),
        *(",", ".", ";", ":", "/", "-", "(", ")", "\n", "\0", "\u00a0", "\ufeff", "é", "İ", "ß", "2.5", "cm", "?"),
    ]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=80)


@pytest.fixture(scope="module")
def readers() -> list[Ober]:
    return [Ober("en"), Ober("de"), Ober("en", infer=True)]


@few
@given(TEXTS)
@example("")
@example("İ effusion")  # its lower case is longer than itself
def test_any_text_has_entities_or_none(readers: list[Ober], text: str) -> None:
    for reader in readers:
        for entity in reader.extract(Report("", text, ((0, len(text)),))):
            start, end = entity.span
            assert 0 <= start < end <= len(text)
