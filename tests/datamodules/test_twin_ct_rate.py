"""The CT twin: findings are seen at the depths told, words fit the scan, and no depth stands for an organ."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.sources import CTRATE
from datamodules.sources.ct_rate_tables import CLASSES
from datamodules.twins import ct_rate
from datamodules.twins.torso import Organ, paint_torso, sample_torso
from datamodules.twins.torso_findings import KINDS, PAIR_APART, Lesion, paint_lesion
from datamodules.twins.torso_scan import SITES, sample_scan
from datamodules.twins.torso_study import TwinCt, make_ct
from datamodules.twins.torso_words import LANGUAGES, Claim
from medvl.errors import ConfigError
from medvl.io.nifti import read_nifti

SEED, SIZE, COUNT = 2, 64, 16


@pytest.fixture(scope="module")
def studies() -> list[TwinCt]:
    return [make_ct(index, SEED, 0.5, SIZE) for index in range(COUNT)]


def lesions_of(study: TwinCt) -> list[dict[str, Any]]:
    lesions: list[dict[str, Any]] = study.factors["lesions"]
    return lesions


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    def digest(folder: Path, **options: Any) -> dict[str, str]:
        ct_rate.write(folder, 3, seed=1, size=32, workers=0, **options)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    first = digest(tmp_path / "a")
    assert first == digest(tmp_path / "b")
    others = digest(tmp_path / "c", difficulty=0.1)
    volumes = [name for name in first if name.endswith(".nii.gz")]
    assert volumes
    assert not any(first[name] == others[name] for name in volumes)
    assert first["snippets.jsonl"] == others["snippets.jsonl"]  # difficulty changes the picture only
    with pytest.raises(ConfigError):
        ct_rate.write(tmp_path / "d", 0, seed=1)


def test_what_the_file_says_is_what_was_painted(tmp_path: Path) -> None:
    ct_rate.write(tmp_path / "a", 6, seed=SEED, size=SIZE, workers=0)
    source = CTRATE(tmp_path / "a")
    lines = [json.loads(line) for line in (tmp_path / "a/twin_factors.jsonl").read_text().splitlines()]
    order = {line["study_id"]: index for index, line in enumerate(lines)}
    directions = set()
    for record in source.load().records:
        study = make_ct(order[record.study_id], SEED, 0.5, SIZE)
        for path, painted in zip(record.volumes, study.volumes, strict=True):
            volume = read_nifti(source.root / path)
            np.testing.assert_array_equal(volume.hu, painted.hu)
            np.testing.assert_allclose(volume.affine, painted.scan.affine, atol=1e-3)
            assert volume.notes == ()
        for snippet in record.snippets:
            low, high = volume.sidecar.extent
            assert all(low - 6 <= one.low < one.high <= high + 6 for one in snippet.intervals)
        directions.add(record.attributes["scanner"])
    assert len(directions) > 1


def test_findings_are_seen_where_they_are_said_to_be(studies: list[TwinCt]) -> None:
    """Painted into the same patient alone, a finding covers its interval and changes hardly anything elsewhere."""
    for index, study in enumerate(studies[:5]):
        torso, scan = sample_torso(np.random.default_rng([SEED, index])), study.volumes[0].scan
        assert torso.texture == study.factors["torso"]["texture"]
        clean = paint_torso(scan.grid(torso), torso)
        for told in lesions_of(study):
            canvas = deepcopy(clean)
            organ = next(o for o in KINDS[told["kind"]].organs if told["side"] in o.name.lower() or not told["side"])
            lesion = Lesion(told["kind"], organ, told["centre"], told["radius"], told["phase"])
            shown = paint_lesion(canvas, lesion, 0.85)
            assert shown is not None
            edges = [scan.origin[2] + scan.spacing[0] * (at - 0.5) for at in shown]
            np.testing.assert_allclose(edges, told["interval"], atol=0.01)
            changes = np.sort(np.abs(canvas.hu - clean.hu).reshape(len(clean.hu), -1), axis=1)[:, -4:].mean(1)
            inside = slice(*shown)
            assert changes[inside].max() > 25
            far = np.r_[0 : max(shown[0] - 3, 0), shown[1] + 3 : len(changes)]
            assert changes[far].max(initial=0) < 0.5 * changes[inside].max()
            assert edges[0] - 12 < told["z"] < edges[1] + 12


def test_the_depths_of_organs_are_those_of_the_scan(studies: list[TwinCt]) -> None:
    """Painted anew, each organ fills its outermost slices and no other; findings touch the organ that holds them."""
    for index, study in enumerate(studies[:4]):
        torso, scan = sample_torso(np.random.default_rng([SEED, index])), study.volumes[0].scan
        canvas = paint_torso(scan.grid(torso), torso)
        organs = study.factors["organs"]
        shown = {organ.name.lower() for organ in Organ if organ and (canvas.organ == organ).any()}
        assert shown <= set(organs) <= shown | {"lung", "kidney"}
        for name in shown:
            slices = (canvas.organ == Organ[name.upper()]).any((1, 2)).nonzero()[0]
            edges = [scan.depths[slices[0]] - scan.spacing[0] / 2, scan.depths[slices[-1]] + scan.spacing[0] / 2]
            np.testing.assert_allclose(organs[name], edges, atol=0.01)
        low, high = organs["lung"]
        sides = [organs[name] for name in ("right_lung", "left_lung") if name in organs]
        assert (low, high) == (min(one for one, _ in sides), max(one for _, one in sides))
        for lesion in lesions_of(study):
            (start, stop), (low, high) = lesion["interval"], organs[lesion["organ"]]
            assert max(low, start) < min(high, stop)


def test_three_findings_at_different_depths_two_of_them_in_one_organ(studies: list[TwinCt]) -> None:
    for study in studies:
        lesions = lesions_of(study)
        assert len(lesions) >= 3
        pairs = [
            (one, other)
            for one, other in combinations(lesions, 2)
            if (one["organ"], one["side"]) == (other["organ"], other["side"]) and one["kind"] != other["kind"]
        ]
        apart = [abs(one["centre"][2] - other["centre"][2]) for one, other in pairs]
        assert max(apart) >= PAIR_APART


def test_each_snippet_is_true_of_the_findings_it_names_and_no_other(studies: list[TwinCt]) -> None:
    absent = 0
    for study in studies:
        for told in study.factors["snippets"]:
            claim = Claim(**told["claim"])
            fitting = []
            for lesion in lesions_of(study):
                large = lesion["radius"] > sum(KINDS[lesion["kind"]].radius) / 2
                size = "large" if large else "small"
                said = (claim.side, lesion["side"]), (claim.zone, lesion["zone"]), (claim.size, size)
                if claim.kind == lesion["kind"] and all(word in ("", true) for word, true in said):
                    fitting.append(tuple(lesion["interval"]))
            assert sorted(fitting) == sorted(map(tuple, told["intervals"]))
            absent += not fitting
    assert 0.1 < absent / sum(len(study.snippets) for study in studies) < 0.4


def test_where_a_finding_is_cannot_be_told_from_its_organ(studies: list[TwinCt]) -> None:
    """Guessing the mean place of the organ in the scan is far off, absolute depths farther."""
    rows = [
        (lesion["organ"], lesion["z"], (lesion["z"] - scan.origin[2]) / (scan.shape[0] * scan.spacing[0]), scan)
        for study in studies
        for scan in [study.volumes[0].scan]
        for lesion in lesions_of(study)
    ]
    shares: dict[str, list[float]] = {}
    for organ, _, share, _ in rows:
        shares.setdefault(organ, []).append(share)
    errors = [abs(share - np.median(shares[o])) * scan.shape[0] * scan.spacing[0] for o, _, share, scan in rows]
    assert np.mean(errors) > 30
    assert np.std([z for _, z, _, _ in rows]) > 150
    lengths = [study.volumes[0].scan.shape[0] * study.volumes[0].scan.spacing[0] for study in studies]
    assert max(lengths) > 1.5 * min(lengths)
    assert len({study.volumes[0].scan.spacing[0] for study in studies}) >= 3


def test_labels_are_classes_of_ct_rate_and_true(studies: list[TwinCt]) -> None:
    counts = Counter(label for study in studies for label in study.labels)
    assert set(counts) <= set(CLASSES)
    for study in studies:
        kinds = {lesion["kind"] for lesion in lesions_of(study)}
        expected = {KINDS[kind].label for kind in kinds} - {""}
        expected |= {"Cardiomegaly"} if study.factors["torso"]["heart"] > 1.2 else set()
        assert set(study.labels) == expected
        assert ("The heart is enlarged." in study.findings) == ("Cardiomegaly" in expected)


def test_references_count_from_the_head_in_the_report_alone() -> None:
    plain, cited = (make_ct(3, SEED, 0.5, 32, "de", references) for references in (False, True))
    assert "Bild" not in plain.findings
    scan = cited.volumes[0].scan
    for told in cited.factors["snippets"]:
        assert "Serie" not in told["text"]
        if not told["intervals"]:
            continue
        assert told["reference"] in cited.findings
        image = int(told["reference"].rpartition(" ")[2].rstrip(")"))
        low, high = told["intervals"][0]
        assert low - 0.01 <= scan.depths[::-1][image - 1] <= high + 0.01


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_kind_has_its_words(language: str) -> None:
    words = LANGUAGES[language]
    assert set(words.nouns) == set(KINDS)
    nouns = [noun.one for options in words.nouns.values() for noun in options]
    assert len(nouns) == len(set(nouns)) == 3 * len(KINDS)  # no noun stands for two kinds
    assert all(noun.gender in words.articles for options in words.nouns.values() for noun in options)


def test_the_torso_has_its_organs_in_their_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        torso = sample_torso(rng)
        scan = sample_scan(rng, torso, SITES[0], 48)
        canvas = paint_torso(scan.grid(torso), torso)
        depth = {o: float(np.mean(np.nonzero(canvas.organ == o)[0])) for o in Organ if (canvas.organ == o).any()}
        assert depth[Organ.LIVER] < depth[Organ.RIGHT_LUNG]
        side = {o: float(np.mean(np.nonzero(canvas.organ == o)[2])) for o in depth}
        assert side[Organ.RIGHT_LUNG] > 24 > side[Organ.LEFT_LUNG]  # columns grow towards the patient's right
        assert side[Organ.LIVER] > 24
        assert np.median(canvas.hu[canvas.organ == Organ.LEFT_LUNG]) < -700
        assert canvas.hu[0, 0, 0] == -1000
