"""The open questions of 3D CT: what each arm is trained and tested on, and one part in two steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, volume_questions
from benchmarks.training import Trainings
from benchmarks.volume_questions import ASKED, PARTS
from datamodules.twins import ct_rate
from medvl.errors import ConfigError
from tasks.volume.predictions import SnippetResult

LINE = SnippetResult(
    volume="a.nii.gz", patient="p", snippet="Nodule.", mm=10.0, low=0.0, high=20.0, present=0.9, extents=(),
    gold=((8.0, 9.0, 1.0),), scan=(-100.0, 100.0), organ="lung", finding="nodule",
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """Train nothing; return the options of every arm, trained and tested."""
    found: list[tuple[str, ...]] = []

    def twin(self: Trainings, kind: str, *options: str) -> Path:
        folder = self.place / "twins" / "-".join([kind, *options])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "snippets.jsonl").write_text(f"{options}\n")
        return folder

    def train(done: Trainings, twin: Path, seed: int, steps: int, *options: str) -> Path:
        found.append((twin.name, *options))
        return twin

    def tested(done: Trainings, run: Path, *options: str) -> list[SnippetResult]:
        found[-1] = (*found[-1], "→", *options)
        return [LINE, replace(LINE, gold=(), present=0.1)]

    monkeypatch.setattr(Trainings, "twin", twin)
    monkeypatch.setattr(volume_questions, "train", train)
    monkeypatch.setattr(volume_questions, "tested", tested)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    return found


def test_every_arm_is_told_what_it_says(asked: list[tuple[str, ...]]) -> None:
    result = volume_questions.run(seeds=1, steps=2, studies=8, size=32)
    assert set(result["parts"]) == set(PARTS) == set(result["ours"]) == set(result["peers"]["reference"])
    assert {part: set(one["arms"]) for part, one in result["parts"].items()} == {
        "resolution": {"reference", "30 mm", "12 mm", "6 mm", "grid alone"},
        "weak": {"reference", "organs", "organs, 10% cited", "10% cited"},
        "sites": {"reference", "left out"},
        "german": {"reference", "en → en", "en → de", "both → en", "both → de"},
    }
    assert result["ours"] == dict.fromkeys(PARTS, 1.0)
    plain = "ct-rate---studies-8---seed-0---size-32"
    assert asked[0] == (plain, "→")
    assert (plain, "--data.spacing", "[1.5,4.0,4.0]", "→") in asked
    assert (plain, "--data.organs.known", "0.1", "→") in asked
    assert sum("--data.organs.path" in one for one in asked) == 2
    left_out = [one for one in asked if "--sites-" in one[0]]
    assert len(left_out) == 3
    for one in left_out:  # the hospital of the test is none that was trained on
        tested_on = next(word for word in one[1:] if "--sites-" in word).rpartition("-")[2]
        assert tested_on not in one[0].rpartition("-")[2].split(",")
    german = [one for one in asked if any("snippets.jsonl" in word or "both" in word for word in one)]
    assert sum("language-de" in one[-1] for one in german) == 3


def test_arms_that_are_asked_the_same_are_compared_by_pairs() -> None:
    lines = [replace(LINE, patient=f"p{i}", mm=10.0 + i % 3) for i in range(30)]
    further = [replace(one, mm=one.mm + 5.0) for one in lines]
    other = [replace(one, snippet="Rundherd.") for one in further]
    found = volume_questions.differences({"reference": [lines, lines], "a": [further, lines], "b": [other]})
    assert set(found) == {"a"}
    assert found["a"] == pytest.approx((2.5, 2.5, 2.5))  # of two seeds one is 5 mm further off, everywhere


def test_parts_that_were_measured_before_are_kept(asked: list[tuple[str, ...]], tmp_path: Path) -> None:
    volume_questions.run(parts=["weak"], seeds=1)
    result = volume_questions.run(parts=["german"], seeds=2)
    assert set(result["parts"]) == {"weak", "german"}
    assert (result["parts"]["weak"]["seeds"], result["parts"]["german"]["seeds"]) == (1, 2)
    with pytest.raises(ConfigError, match="no part 'germn'"):
        volume_questions.run(parts=["germn"])


def test_both_languages_speak_of_the_same_scans(tmp_path: Path) -> None:
    for language in ("en", "de"):
        ct_rate.write(tmp_path / language, 4, 3, size=32, workers=0, language=language)  # type: ignore[arg-type]
    volumes = [sorted((tmp_path / one).rglob("*.nii.gz")) for one in ("en", "de")]
    assert [path.relative_to(tmp_path / "en") for path in volumes[0]] == [
        path.relative_to(tmp_path / "de") for path in volumes[1]
    ]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*volumes, strict=True))
    said = [(tmp_path / one / "snippets.jsonl").read_text() for one in ("en", "de")]
    assert said[0] != said[1]


def test_a_part_in_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(volume_questions, "SPACINGS", (12.0,))
    monkeypatch.setitem(ASKED, "resolution", "48 mm")
    volume_questions.run(parts=["resolution"], seeds=1, steps=2, studies=12, size=32)
    result: dict[str, Any] = json.loads((tmp_path / "results/volume-questions.json").read_text())
    assert set(result["parts"]["resolution"]["arms"]) == {"reference", "48 mm", "grid alone"}
    assert result["ours"]["resolution"] > 0
    assert (tmp_path / "results/volume-questions.png").stat().st_size > 1000
