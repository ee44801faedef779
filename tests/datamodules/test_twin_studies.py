"""The synthetic studies: what they promise about pictures, boxes, sentences and shares."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from datamodules.twins import film, findings
from datamodules.twins import lexicon as lex
from datamodules.twins.anatomy import Grid
from datamodules.twins.shapes import Box, box_of, mask_of
from datamodules.twins.studies import KINDS, StudyPlan, TwinFinding, make_study, patient_of, plan, study_plan

SEED = 11


@pytest.fixture(scope="module")
def plans() -> list[StudyPlan]:
    return [plan(i, SEED) for i in range(600)]


def sentences(plans: list[StudyPlan], kind: str) -> list[TwinFinding]:
    return [s for p in plans for s in p.findings if s.kind == kind]


def iou(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - w * h
    return w * h / union


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_same_arguments_same_study_in_another_process() -> None:
    code = (
        "import zlib; from datamodules.twins.studies import make_study; s = make_study(5, 3, 0.4);"
        "print(zlib.crc32(s.image.tobytes()), zlib.crc32(repr(s.findings).encode()))"
    )
    outputs = set()
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": salt}
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert make_study(5, 3).patient_id == patient_of(5, 3)
    assert not np.array_equal(make_study(5, 3).image, make_study(5, 4).image[: make_study(5, 3).image.shape[0]])


def test_films_are_varied_twelve_bit_pictures() -> None:
    films = [make_study(i, SEED).image for i in range(14)]
    assert all(f.dtype == np.uint16 and f.ndim == 2 for f in films)
    assert all(400 <= max(f.shape) <= 640 for f in films)
    assert {f.shape[0] >= f.shape[1] for f in films} == {True, False}
    assert all(1500 < f.max() <= 4095 for f in films)  # an 8-bit conversion would clip
    assert len({int(f.max()) // 100 for f in films}) > 5
    for f in films:  # lungs are darker than the middle of the chest and the abdomen
        h, w = f.shape
        row = f[int(0.45 * h) : int(0.5 * h)].astype(float).mean(0)
        assert row[int(0.25 * w) : int(0.75 * w)].max() > 1.2 * row[int(0.2 * w) : int(0.4 * w)].min()


def test_size_sets_the_long_side_and_not_the_boxes() -> None:
    small, large = make_study(0, SEED, size=96), make_study(0, SEED, size=900)
    assert max(small.image.shape) == 96
    assert max(large.image.shape) == 900
    assert small.findings == large.findings
    assert small.findings == make_study(0, SEED, difficulty=1.0, size=96).findings


def test_painting_a_lesion_changes_its_box_and_little_else(
    plans: list[StudyPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("nodule", "mass", "consolidation", "pleural effusion", "cavitation", "pleural thickening")
    alone = {f.kind: (p, f) for p in plans for f in p.painted if f.kind in wanted}
    blank = {name: replace(kind, density=0.0) for name, kind in KINDS.items()}
    for kind in wanted:
        p, finding = alone[kind]
        films = []
        for table in (dict(KINDS), blank):
            with monkeypatch.context() as patch:
                for name, value in table.items():
                    patch.setitem(findings.KINDS, name, value)
                films.append(film.paint(p.body, (finding,), np.random.default_rng(1), 0.0, 256).astype(float))
        change = np.abs(films[0] - films[1])
        h, w = change.shape
        inside = np.zeros((h, w), dtype=bool)
        for x0, y0, x1, y1 in finding.boxes:
            inside[max(0, int(y0 * h) - 2) : int(y1 * h) + 3, max(0, int(x0 * w) - 2) : int(x1 * w) + 3] = True
        assert change[inside].mean() > 0.04 * np.ptp(films[1]), kind
        assert change[~inside].sum() < 0.05 * change.sum(), kind


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_boxes_are_valid_and_tight_at_another_resolution(plans: list[StudyPlan]) -> None:
    same = []
    for p in plans[:60]:
        grid = Grid(p.body, *p.body.shape(400))
        for finding in p.painted:
            for lesion, box in zip(finding.lesions, finding.boxes, strict=True):
                assert 0 <= box[0] < box[2] <= 1
                assert 0 <= box[1] < box[3] <= 1
                again = box_of(grid, lesion)
                assert again is not None
                same.append(iou(box, again))
                assert float(mask_of(grid.zoomed(box), lesion).max()) > 0.5
    assert min(same) > 0.7
    assert np.mean(same) > 0.93


def test_most_boxes_can_be_seen_at_128_pixels(plans: list[StudyPlan]) -> None:
    sides = np.array([min(b[2] - b[0], b[3] - b[1]) for s in sentences(plans, "present") for b in s.boxes])
    assert (sides >= 0.06).mean() > 0.9
    assert sides.min() >= 0.04


def test_left_is_on_the_right_of_the_image(plans: list[StudyPlan]) -> None:
    for p in plans:
        for s in p.findings:
            for side, sign in (("left", 1), ("right", -1)):
                if side in s.locations:
                    for box in s.boxes:
                        assert sign * ((box[0] + box[2]) / 2 - p.body.centre[0]) > -0.05


# --- sentences --------------------------------------------------------------------------------------------------------


def test_shares_of_sentences(plans: list[StudyPlan]) -> None:
    counts = Counter(s.kind for p in plans for s in p.findings)
    total = counts.total()
    assert counts["present"] / total == pytest.approx(0.6, abs=0.05)
    assert counts["absent"] / (total - counts["present"]) == pytest.approx(1 / 3, abs=0.06)
    assert min(counts["negated"], counts["normal"]) / total > 0.08
    per_study = [sum(s.kind == "present" for s in p.findings) for p in plans]
    assert 0.25 < np.mean([n == 0 for n in per_study]) < 0.42
    assert np.mean([n >= 2 for n in per_study if n]) > 0.95
    multi = np.mean([len(s.boxes) > 1 for s in sentences(plans, "present")])
    assert 0.07 < multi < 0.25


def test_what_sentences_hold(plans: list[StudyPlan]) -> None:
    for p in plans:
        painted = {f.kind for f in p.painted}
        assert p.findings
        assert len({s.sentence_en for s in p.findings}) == len(p.findings)
        for s in p.findings:
            assert s.sentence_en[0].isupper()
            assert s.sentence_en.endswith(".")
            assert s.sentence_es.endswith(".")
            assert "{" not in s.sentence_en + s.sentence_es
            assert "  " not in s.sentence_en + s.sentence_es
            assert bool(s.boxes) == (s.kind == "present")
            assert s.abnormal == (s.kind in ("present", "absent"))
            if s.kind == "present":
                assert s.labels[0] in painted
            elif s.kind != "normal":
                assert s.labels[0] not in painted
        boxed = {box for s in p.findings for box in s.boxes}
        assert boxed == {box for f in p.painted for box in f.boxes}


def test_absent_sentences_are_worded_as_present_ones(plans: list[StudyPlan]) -> None:
    present, absent = sentences(plans, "present"), sentences(plans, "absent")
    placed = [np.mean([bool(s.locations) for s in group]) for group in (present, absent)]
    assert 0.28 < placed[0] < 0.42
    assert abs(placed[0] - placed[1]) < 0.1
    shares = [Counter(s.labels[0] for s in group) for group in (present, absent)]
    for kind in KINDS:
        assert abs(shares[0][kind] / len(present) - shares[1][kind] / len(absent)) < 0.06
    words = [
        Counter(word for s in group for word in set(s.sentence_en.lower().rstrip(".").split()))
        for group in (present, absent)
    ]
    for word in words[0] | words[1]:
        a, b = words[0][word] / len(present), words[1][word] / len(absent)
        chance = np.sqrt(max(a * (1 - a), 0.01) * (1 / len(present) + 1 / len(absent)))
        assert abs(a - b) < 4 * chance, word


def test_denials_have_no_single_subject(plans: list[StudyPlan]) -> None:
    subjects = Counter(s.labels[0] for s in sentences(plans, "negated"))
    assert len(subjects) >= 15
    assert max(subjects.values()) / subjects.total() < 0.2


def test_normal_sentences_are_true(plans: list[StudyPlan]) -> None:
    for p in plans:
        text = " ".join(s.sentence_en for s in p.findings if s.kind == "normal")
        painted = {f.kind for f in p.painted}
        if "cardiomegaly" in painted:
            assert "heart size" not in text
            assert p.body.heart[0] > 1.15
        if "nodule" in painted or "consolidation" in painted:
            assert "lungs are clear" not in text.lower()
        if painted:
            assert "Normal chest" not in text


def test_language_is_varied(plans: list[StudyPlan]) -> None:
    texts = {s.sentence_en for p in plans for s in p.findings}
    assert len(texts) > 1000
    assert len({s.sentence_es for p in plans for s in p.findings}) > 1000
    frames = set()
    nouns = sorted((n for w in lex.WORDS.values() for pair in w.en for n in pair.split("|")), key=len, reverse=True)
    for text in texts:
        for noun in nouns:
            text = text.lower().replace(noun, "#")
        frames.add(text)
    assert len(frames) > 150
    assert set(lex.WORDS) == set(KINDS)


def test_a_prior_blind_to_the_image_fails(plans: list[StudyPlan]) -> None:
    """Predict, for each sentence, the mean boxes of its label, its named place and its (given!) number of boxes."""
    seen = defaultdict(list)
    for s in sentences(plans[:300], "present"):
        seen[s.labels, s.locations, len(s.boxes)].append(sorted(s.boxes))
    prior = {key: np.mean(boxes, axis=0) for key, boxes in seen.items()}
    hits = []
    for s in sentences(plans[300:], "present"):
        guess = prior.get((s.labels, s.locations, len(s.boxes)))
        hits.append(
            guess is not None and all(iou(tuple(g), b) >= 0.5 for g, b in zip(guess, sorted(s.boxes), strict=True))
        )
    assert np.mean(hits) < 0.15


# --- patients ---------------------------------------------------------------------------------------------------------


def test_splits_keep_patients_whole() -> None:
    rows = study_plan(400, SEED)
    assert [row[0] for row in rows] == list(range(400))
    splits = defaultdict(set)
    for index, patient, split in rows:
        assert patient == patient_of(index, SEED)
        splits[patient].add(split)
    assert all(len(s) == 1 for s in splits.values())
    assert len(splits) == 300  # a quarter of the studies are second ones
    shares = Counter(next(iter(s)) for s in splits.values())
    assert [shares[name] / 300 for name in ("train", "val", "test")] == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
    assert study_plan(400, SEED) == rows
    assert study_plan(400, SEED + 1) != rows
    assert {row[2] for row in study_plan(8, 0)} == {"train", "val", "test"}
    assert study_plan(0, 0) == []


def test_a_patient_keeps_sex_and_age(plans: list[StudyPlan]) -> None:
    for first, second in zip(plans[0:80:4], plans[1:80:4], strict=True):
        assert first.patient_id == second.patient_id
        assert (first.body.sex, first.body.age) == (second.body.sex, second.body.age)
        assert first.study_id != second.study_id
