"""Records of volumes: what a snippet's depths mean, and what is told of those that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from datamodules.records import Interval, Snippet, VolumeRecord, leaks, sift_volumes
from datamodules.volume_records import interval_fault, merged

RECORD = VolumeRecord(
    ("a.nii.gz", "b.nii.gz"), "p1", "s1", "train", "mine", findings="A cyst.", impression="Cyst.", row="t.csv:2"
)


def with_snippets(*snippets: Snippet, **changes: Any) -> tuple[list[VolumeRecord], dict[str, bool]]:
    records, problems = sift_volumes([replace(RECORD, snippets=snippets, **changes)])
    return records, {problem.code: problem.fatal for problem in problems}


def test_texts_are_those_of_a_report() -> None:
    assert RECORD.text == "A cyst.\nCyst."
    assert RECORD.text_of("findings") == "A cyst."
    assert replace(RECORD, findings="").text_of("findings") == "Cyst."
    assert replace(RECORD, findings="", impression="", other="Free.").text == "Free."
    assert not VolumeRecord(("a",), "p", "s", "train", "x").teaches


def test_a_volume_lost_takes_its_own_snippets_along() -> None:
    here, there = Snippet("x", (Interval(0, 1),)), Snippet("y", (Interval(0, 1),), volume="b.nii.gz")
    record = replace(RECORD, snippets=(here, there))
    left = record.without({"b.nii.gz"})
    assert left == replace(RECORD, volumes=("a.nii.gz",), snippets=(here,))
    assert record.without({"a.nii.gz", "b.nii.gz"}) is None
    assert record.without({"c.nii.gz"}) is record
    assert record.snippets_of("a.nii.gz") == (here,)
    assert record.snippets_of("b.nii.gz") == (here, there)


def test_intervals_join_where_they_overlap() -> None:
    found = merged([Interval(10, 12), Interval(0, 5, 0.5), Interval(4, 6, 2.0)])
    assert found == (Interval(0, 6, 2.0), Interval(10, 12))
    assert Snippet("x", found).extent == (0, 12)
    assert Snippet("x", ()).extent is None
    assert not Snippet("x", ()).present
    assert Interval(-4, 2).middle == -1


@pytest.mark.parametrize(
    ("interval", "code"),
    [
        (Interval(2, 1), "interval-inverted"),
        (Interval(float("nan"), 1), "interval-nan"),
        (Interval(0, float("inf")), "interval-nan"),
        (Interval(0, 1, 0), "interval-weight"),
    ],
)
def test_an_unusable_interval_costs_its_snippet_alone(interval: Interval, code: str) -> None:
    assert (interval_fault(interval) or ("",))[0] == code
    good = Snippet("A cyst.", (Interval(0, 1),), row="s.jsonl:1")
    records, codes = with_snippets(good, Snippet("A stone.", (interval,), row="s.jsonl:2"))
    assert records[0].snippets == (good,)
    assert codes == {code: True}
    assert interval_fault(Interval(1, 1)) is None


def test_the_same_words_twice() -> None:
    first = Snippet("A cyst.", (Interval(0, 1),), row="s:1")
    assert with_snippets(first, replace(first, row="s:2"))[1] == {"duplicate": False}
    records, codes = with_snippets(first, Snippet("A cyst.", (Interval(8, 9),), row="s:2"))
    assert records[0].snippets[0].intervals == (Interval(0, 1), Interval(8, 9))
    assert codes == {"snippet-merged": False}
    assert with_snippets(first, Snippet("A cyst.", (), row="s:2"))[1] == {"snippet-contradicts": True}
    other = Snippet("A cyst.", (), volume="b.nii.gz", row="s:2")  # of one reconstruction only: no contradiction
    assert with_snippets(first, other)[1] == {}
    assert with_snippets(Snippet("x", (), volume="c.nii.gz"))[1] == {"snippet-volume": True}
    assert with_snippets(Snippet(" ", ()))[1] == {"snippet-empty": True}


def test_studies_that_cannot_be_used() -> None:
    none = replace(RECORD, findings="", impression="", labels={"Cardiomegaly": 1})
    assert sift_volumes([none])[0] == []
    assert [p.code for p in sift_volumes([none])[1]] == ["text-empty"]
    assert sift_volumes([none], unpaired=True) == ([none], [])
    assert [p.code for p in sift_volumes([RECORD, RECORD])[1]] == ["duplicate"]
    assert with_snippets(labels={"Cardiomegaly": 2}) == ([], {"label-outside": True})
    assert with_snippets(split="dev") == ([], {"split-unknown": True})
    assert with_snippets(patient_id="") == ([], {"study-unnamed": True})
    assert [p.code for p in leaks([RECORD, replace(RECORD, study_id="s2", split="test")])] == ["patient-leak"]
