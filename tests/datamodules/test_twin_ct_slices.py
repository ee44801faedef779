"""The CT twin: a table like any other, boxes where the lesions are, and no telling from words alone."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import size_of

from datamodules.check import check_source
from datamodules.sources import PhraseTable
from datamodules.twins import ct_slices
from datamodules.twins.ct_body import BONE, LUNG, Section, body_hu, sample_trunk
from datamodules.twins.ct_lesions import KINDS, mask_of, paint_findings, plan_findings

SEED = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twins") / "ct"
    ct_slices.write(path, 120, seed=SEED, size=96)
    return path


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def section(level: str = "middle", side: int = 160) -> Section:
    for index in range(50):
        trunk = sample_trunk(np.random.default_rng(1), np.random.default_rng(index))
        if trunk.level == level:
            return Section(trunk, side)
    raise AssertionError(level)


def test_it_is_a_table_as_any_user_has(folder: Path) -> None:
    source = PhraseTable(folder / "table.csv", box_format="xyxy_px")
    report = check_source(source)
    assert report.problems == []
    records = source.load().records
    assert {record.split for record in records} == {"train", "val", "test"}
    assert {len(record.boxes) for record in records} >= {0, 1, 2}
    assert all(size_of(folder / record.path) == (96, 96) for record in records[:5])


def test_what_is_affirmed_may_not_be_there(rows: list[dict[str, Any]]) -> None:
    affirmed = [row for row in rows if row["finding"]]
    there, absent = ([r for r in affirmed if bool(r["boxes"]) == shown] for shown in (True, False))
    assert 0.15 < len(absent) / len(affirmed) < 0.5
    assert {row["finding"] for row in there} == set(KINDS)
    assert len({row["finding"] for row in absent}) >= 7
    placed = Counter(("right" in row["phrase"]) or ("left" in row["phrase"]) for row in there)
    assert placed[True] < placed[False]
    assert all(not row["boxes"] for row in rows if not row["finding"])


@pytest.mark.parametrize("level", ["upper", "middle", "lower"])
def test_a_body_has_air_lungs_and_bones_in_their_places(level: str) -> None:
    image = section(level)
    hu, t = body_hu(image, np.random.default_rng(0)), image.trunk
    assert hu[:5].max() < -900
    left, right = image.lung_of("left") > 0.9, image.lung_of("right") > 0.9
    assert left[:, image.side // 2 + 20 :].any()
    assert not left[:, : image.side // 2 - 20].any()
    for lung in (left, right):
        assert abs(np.median(hu[lung]) - LUNG) < 100
    assert hu[image.spine > 0.9].max() > 0.9 * BONE
    assert hu[image.heart > 0.9].mean() == pytest.approx(0.8 * t.contrast + 10, abs=20)


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_around_what_is_painted(kind: str) -> None:
    image, found = section(), []
    for seed in range(12):
        found += plan_findings(np.random.default_rng(seed), image.trunk, [kind])
    assert len(found) >= 8
    plain = body_hu(image, np.random.default_rng(0))
    for finding in found[:6]:
        changed = np.abs(paint_findings(plain.copy(), image, [finding], 1.0) - plain) > 60
        inside = np.zeros_like(changed)
        for x1, y1, x2, y2 in np.asarray(finding.boxes) * image.side:
            inside[int(y1) - 2 : int(y2) + 3, int(x1) - 2 : int(x2) + 3] = True
        assert changed.any()
        assert (changed & inside).sum() > 0.9 * changed.sum()
        for lesion, (x1, y1, x2, y2) in zip(finding.lesions, finding.boxes, strict=True):
            at = np.argwhere(mask_of(image, lesion) > 0.5)
            (top, left), (bottom, right) = at.min(0) / image.side, (at.max(0) + 1) / image.side
            overlap = (min(x2, right) - max(x1, left)) * (min(y2, bottom) - max(y1, top))
            union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - overlap
            assert overlap / union > 0.7


def test_findings_lie_apart() -> None:
    trunk = section().trunk
    grid = Section(trunk, 224)
    for seed in range(6):
        findings = plan_findings(np.random.default_rng(seed), trunk, list(KINDS))
        masks = [mask_of(grid, lesion) > 0.5 for finding in findings for lesion in finding.lesions]
        assert np.sum(masks, axis=0).max() == 1


def test_boxes_are_in_pixels_of_the_slice(folder: Path, tmp_path: Path) -> None:
    ct_slices.write(tmp_path / "large", 6, seed=SEED, size=192)
    with (tmp_path / "large/table.csv").open(newline="") as file:
        large = list(csv.DictReader(file))
    with (folder / "table.csv").open(newline="") as file:
        small = {(row["image"], row["phrase"]): row for row in csv.DictReader(file)}
    for row in large:
        boxes, halves = (json.loads(r["boxes"] or "[]") for r in (row, small[row["image"], row["phrase"]]))
        np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), np.reshape(halves, (-1, 4)) * 2, atol=0.03)
