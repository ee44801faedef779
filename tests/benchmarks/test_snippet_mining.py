"""How the snippet benchmark counts: planted mistakes of either kind, over the frozen sentences' own format."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import snippet_mining
from benchmarks.snippet_mining import SETS, matches, rows, score
from datamodules.snippets.references import Reference

TEXT = "Nodule in the right upper lobe (series 4, image 38)."
RIGHT: dict[str, Any] = {"series": 4, "images": [[38, 38]], "span": [32, 50], "inherited": False, "plane": None}
SENTENCE = {"text": TEXT, "context": None, "references": [RIGHT], "snippet": "Nodule in the right upper lobe."}


def test_hits_false_ones_and_missed_ones_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        SENTENCE,
        SENTENCE | {"references": [RIGHT | {"images": [[38, 39]]}]},  # found is another image: false, and one missed
        SENTENCE | {"references": [], "snippet": None},  # found where nothing is
        SENTENCE | {"text": "Nodule in the right upper lobe.", "references": [RIGHT, RIGHT]},  # nothing found
        SENTENCE | {"references": [RIGHT | {"plane": "axial"}], "snippet": "A nodule."},
    ]
    monkeypatch.setattr(snippet_mining, "rows", lambda language, sets: said)
    found = score("en")
    assert (found.hits, found.false, found.missed) == (2, 2, 3)
    assert (found.inherited, found.planes, found.snippets, found.sentences) == (2, 1, 2, 4)
    assert (found.precision, found.recall) == (0.5, 0.4)
    assert found.summary() == {
        "precision": 0.5, "recall": 0.4, "n": 5, "inherited": 1.0, "planes": 0.5, "snippets": 0.5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "same"),
    [
        (Reference(4, ((38, 38),), (45, 60)), True),  # spans overlap
        (Reference(4, ((38, 38),), (50, 60)), False),
        (Reference(5, ((38, 38),), (32, 50)), False),
        (Reference(None, ((38, 38),), (32, 50)), False),
        (Reference(4, ((38, 38), (38, 38)), (32, 50)), True),  # the set of images counts
    ],
)
def test_a_match_has_series_images_and_place(ours: Reference, same: bool) -> None:
    assert matches(ours, RIGHT) is same


def test_the_first_set_is_large_and_all_sets_add_up() -> None:
    for language in ("en", "de"):
        assert len(rows(language, ("first",))) >= 300
        assert len(rows(language)) == sum(len(rows(language, (name,))) for name in SETS)
