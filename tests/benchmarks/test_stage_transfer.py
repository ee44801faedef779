"""Stage transfer: what is shuffled and left out, the figure, and one run of two steps."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import harness, stage_transfer
from benchmarks.stage_transfer import beyond, shuffled
from datamodules.records import PhraseRecord
from medvl.viz.chart import Line
from medvl.viz.figure import line_figure


def records(count: int = 60) -> list[PhraseRecord]:
    boxes = [((0.0, 0.0, 0.01 * (i + 1), 0.5),) if i % 3 else () for i in range(count)]
    splits = ["train"] * (count - 20) + ["val"] * 20
    return [
        PhraseRecord(f"{i}", f"{i}.png", f"s{i}", boxes[i], f"p{i // 2}", f"{i}", splits[i], "test", row=f"t:{i}")
        for i in range(count)
    ]


def test_boxes_are_dealt_within_a_split_and_among_sentences_that_have_some() -> None:
    given = records()
    dealt = shuffled(given, seed=0)
    for split in ("train", "val"):
        before, after = ([r for r in some if r.split == split] for some in (given, dealt))
        assert Counter(r.boxes for r in before) == Counter(r.boxes for r in after)
        assert [bool(r.boxes) for r in before] == [bool(r.boxes) for r in after]
        assert sum(a.boxes == b.boxes for a, b in zip(before, after, strict=True) if a.boxes) < len(before) / 3
    assert [(r.image, r.phrase, r.patient_id) for r in given] == [(r.image, r.phrase, r.patient_id) for r in dealt]


def test_a_smaller_share_is_a_part_of_a_larger_one() -> None:
    given = records()
    left = {share: {r.row for r in beyond(given, share, seed=1)} for share in (5, 20, 100)}
    assert left[100] == set()
    assert left[5] > left[20]
    kept = {r.patient_id for r in given if r.split == "train" and r.row not in left[20]}
    assert len(kept) == 4  # of 20 training patients
    assert all(r.split == "train" for r in given if r.row in left[5])


def test_the_figure_shows_every_line(tmp_path: Path) -> None:
    lines = [Line("first", (5, 20, 100), (0.1, 0.2, 0.4)), Line("second", (5, 20, 100), (0.0, 0.1, 0.4))]
    bounds = [((0.05, 0.1, 0.3), (0.2, 0.3, 0.5))] * 2
    path = line_figure(tmp_path / "a" / "chart.png", "Title", lines, "share", "P", bounds, x_log=True)
    colours = {tuple(rgb) for rgb in np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()}
    assert {(0x0B, 0x6B, 0xCB), (0xC2, 0x57, 0x0C)} <= colours
    assert line_figure(tmp_path / "plain.png", "Title", lines, "share", "P").stat().st_size > 1000


def test_the_benchmark_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setattr(stage_transfer, "SHARES", (20,))
    monkeypatch.setattr(stage_transfer, "METHODS", ("pretrained", "shuffled-boxes"))
    stage_transfer.run(seeds=1, steps=2, studies=24, size=160)
    result = json.loads((tmp_path / "stage-transfer.json").read_text())
    assert list(result["ours"]) == list(result["peers"]["shuffled-boxes"]) == ["20"]
    assert set(result["metrics"]) == {"0", "20"}
    assert (tmp_path / "stage-transfer.png").stat().st_size > 1000
