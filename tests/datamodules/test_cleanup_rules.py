from __future__ import annotations

import itertools
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.cleanup.audit import audit, markdown, write_audit
from datamodules.cleanup.regions import denied, redundant
from datamodules.cleanup.rules import RULES, Cleaned, Cleanup, anatomies, clean, open_questions
from datamodules.cleanup.statuses import Status
from datamodules.records import PhraseRecord
from datamodules.sources import ChestImaGenome, PhraseTable
from datamodules.sources.clean_table import write_pairs
from datamodules.twins import imagenome
from medvl.errors import ConfigError, DataError

LUNG, ZONE, APEX, HEART = (0.0, 0.0, 0.4, 1.0), (0.0, 0.0, 0.4, 0.3), (0.1, 0.0, 0.3, 0.1), (0.4, 0.5, 0.8, 0.8)
LEFT_HEART = (0.5, 0.5, 0.8, 0.8)


def pair(phrase: str, places: dict[str, Any], context: str | None = None, **other: Any) -> PhraseRecord:
    told = {"locations": "; ".join(places), "context": context or "; ".join("yes" for _ in places)} if places else {}
    return PhraseRecord(
        image="1", path="files/1.jpg", phrase=phrase, boxes=tuple(places.values()), patient_id="p", study_id="s",
        split="train", source="imagenome", attributes={"sex": "F"} | told, row="g.json:sentence 1", **other,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("places", "sentence", "left"),
    [
        ({"lung": LUNG, "zone": ZONE, "apex": APEX}, "a", ["apex"]),
        ({"apex": APEX, "heart": HEART, "lung": LUNG}, "a", ["apex", "heart"]),
        ({"one": ZONE, "other": ZONE}, "a", ["one"]),
        ({"heart": HEART, "left heart": LEFT_HEART}, "large", ["heart"]),
        ({"heart": HEART, "left heart": LEFT_HEART}, "large on the left", ["left heart"]),
        ({"zone": ZONE, "heart": HEART}, "a", ["zone", "heart"]),
    ],
)
def test_the_smallest_boxes_that_tell_the_place_stay(places: dict[str, Any], sentence: str, left: list[str]) -> None:
    for order in itertools.permutations(places.items()):
        names, boxes = zip(*order, strict=True)
        gone = redundant(names, boxes, sentence)
        stay = [name for i, name in enumerate(names) if i not in gone]
        assert sorted(stay) == sorted(left) or {"one", "other"} >= set(stay) != set()
        assert len(stay) == len(left)


def test_a_place_denied_beside_one_affirmed_goes() -> None:
    assert denied(["yes", "no", "", "yes + no", "no + "]) == {1, 4}
    assert denied(["no", "no", ""]) == set()


def test_each_rule_does_its_part_and_no_more() -> None:
    given = [
        pair("A nodule.", {"lung": LUNG, "apex": APEX, "heart": HEART}, "yes; yes; no", abnormal=True, labels=("x",)),
        pair("No nodule.", {"lung": LUNG}, "no", abnormal=True, labels=("x",)),
        pair("The lungs are clear.", {}, abnormal=False),
        pair("Comparison is made to prior.", {"lung": LUNG}, ""),
        pair("A mass.", {"heart": HEART}, abnormal=True),
    ]
    done = clean(given)
    first, second, third, last = done.records
    assert (first.boxes, first.attributes) == ((APEX,), {"sex": "F", "locations": "apex", "context": "yes"})
    assert (second.boxes, second.abnormal, second.attributes) == ((), False, {"sex": "F"})
    assert (third.boxes, third.abnormal, last) == ((), False, given[4])
    assert [(c.rule, c.outcome, c.lost) for c in done.changes] == [
        ("denied", "trimmed", ["heart"]),
        ("redundant", "trimmed", ["lung"]),
        ("negated", "emptied", ["lung"]),
        ("non-diagnostic", "dropped", ["lung"]),
    ]
    other = clean(given, Cleanup(negated="drop", non_diagnostic="empty"))
    assert [(r.phrase[:5], len(r.boxes), r.abnormal) for r in other.records] == [
        ("A nod", 1, True), ("Compa", 0, None), ("A mas", 1, True),
    ]  # fmt: skip
    assert clean(given, Cleanup(off=frozenset(RULES))) == Cleaned(given, [])
    with pytest.raises(ConfigError, match="did you mean 'redundant'"):
        Cleanup(off=frozenset({"redundent"}))


def test_a_second_judge_decides_what_the_first_let_pass_and_nothing_else() -> None:
    given = [pair("A bump.", {"lung": LUNG}), pair("No bump.", {"lung": LUNG}), pair("A mass.", {"lung": LUNG})]

    def judge(sentence: str) -> Status:
        return Status.NEGATED if sentence.startswith("No") else Status.FINDING

    assert open_questions([*given, pair("A fold.", {})], judge) == ["A bump.", "A mass."]
    verdicts = {"A bump.": Status.NON_DIAGNOSTIC, "No bump.": Status.FINDING, "A mass.": Status.FINDING}
    done = clean(given, judge=judge, verdicts=verdicts)
    assert [c.rule for c in done.changes] == ["llm-non-diagnostic", "negated"]
    assert [r.phrase for r in done.records] == ["No bump.", "A mass."]
    kept = clean(given, Cleanup(off=frozenset({"llm-non-diagnostic"})), judge, verdicts)
    assert [c.rule for c in kept.changes] == ["negated"]


def test_a_trimmed_pair_keeps_boxes_and_labels_in_step() -> None:
    shared = pair("A mass.", {"lung + wing": LUNG, "apex": APEX}, "yes + ; yes")
    (left,) = clean([shared]).records
    assert (left.boxes, left.attributes["locations"], left.attributes["context"]) == ((APEX,), "apex", "yes")
    assert anatomies(shared) == ["lung", "wing", "apex"]
    bare = replace(shared, attributes={})  # a source that names no anatomy
    assert clean([bare]).records[0].boxes == (APEX,)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cleanup") / "twin"
    imagenome.write(folder, 60, 3, size=96, workers=0)
    return folder


def test_planted_noise_is_found(twin: Path) -> None:
    given = ChestImaGenome(twin, avoid=False, workers=0).load().records
    planted: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    present = {(r.image, r.phrase, name) for r in given for name in anatomies(r)}
    for noise in json.loads((twin / "noise.json").read_text())["pairs"]:
        key = (noise["image"], noise["phrase"], noise["region"])
        planted["negated" if noise["kind"] == "normal" else noise["kind"]] |= {key} & present
    done = clean(given)
    for rule in ("redundant", "negated", "non-diagnostic"):
        found = {(c.before.image, c.before.phrase, name) for c in done.changes if c.rule == rule for name in c.lost}
        assert len(planted[rule]) > 20
        assert len(found & planted[rule]) >= 0.85 * len(planted[rule]), rule
        assert len(found & planted[rule]) >= 0.95 * len(found), rule


def test_the_table_trains_both_as_imagenome_and_as_ones_own(twin: Path, tmp_path: Path) -> None:
    done = clean(ChestImaGenome(twin, workers=0).load().records)
    path = write_pairs(tmp_path / "out" / "pairs.parquet", done.records)
    first = path.read_bytes()
    assert write_pairs(path, done.records).read_bytes() == first
    source = ChestImaGenome(twin, clean=path)
    loaded = source.load()
    assert [replace(r, row="") for r in loaded.records] == [replace(r, row="") for r in done.records]
    assert path in source.tables()
    table = PhraseTable(path, box_format="xyxy_norm", images=twin).load().records
    assert [(r.path, r.phrase, r.boxes, r.patient_id, r.split, r.attributes["sex"]) for r in table] == [
        (r.path, r.phrase, r.boxes, r.patient_id, r.split, r.attributes["sex"]) for r in done.records
    ]
    everyone = write_pairs(
        tmp_path / "all.parquet", clean(ChestImaGenome(twin, avoid=False, workers=0).load().records).records
    )
    again = ChestImaGenome(twin, clean=everyone).load()  # gold patients are left out all the same
    assert [replace(r, row="") for r in again.records] == [replace(r, row="") for r in done.records]
    assert "pairs-excluded" in {p.code for p in again.problems}


def test_a_table_that_is_none_is_told(twin: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("image,phrase\na,b\n")
    with pytest.raises(DataError, match="column 'boxes' is missing"):
        ChestImaGenome(twin, clean=tmp_path / "x.csv").load()
    with pytest.raises(DataError, match="does not exist"):
        ChestImaGenome(twin, clean=tmp_path / "y.parquet").load()
    with pytest.raises(ConfigError, match="only the silver set"):
        ChestImaGenome(twin, clean=tmp_path / "x.csv", subset="gold")


def test_the_audit_counts_and_shows(tmp_path: Path) -> None:
    given = [replace(pair(f"No mass {i}.", {"lung": LUNG}), path=f"{i}.jpg") for i in range(9)]
    given.append(pair("A <b> | nodule.", {"lung": LUNG, "apex": APEX}))
    found = audit(given, clean(given), Cleanup(), samples=3)
    assert found["before"] == {"pairs": 10, "with_boxes": 10, "boxes": 11, "images": 10}
    assert found["after"] == {"pairs": 10, "with_boxes": 1, "boxes": 1, "images": 10}
    rule = found["rules"]["negated"]
    assert (rule["emptied"], rule["dropped"], rule["boxes_removed"], len(rule["samples"])) == (9, 0, 9, 3)
    more = [*given, replace(given[0], path="x.jpg", phrase="No clot.")]
    shown = {s["sentence"] for s in audit(more, clean(more), Cleanup(), samples=10)["rules"]["negated"]["samples"]}
    assert {s["sentence"] for s in rule["samples"]} <= shown
    paths = write_audit(tmp_path, found)
    assert json.loads(paths[0].read_text()) == found
    assert "| negated | 0 | 9 | 0 | 9 |" in paths[1].read_text()
    assert "“A &lt;b> \\| nodule.” — lung, apex → apex (g.json:sentence 1)" in "".join(markdown(found))
