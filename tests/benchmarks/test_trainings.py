"""Trainings that are kept: done once, found again, done anew where they were cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import training
from benchmarks.training import QUICKSTART, Trainings, films, trainings


def test_what_is_done_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["medvl"])
    first = Trainings(tmp_path)
    twin = first.twin("padchest-gr", *films(24, 0, 160))
    options = [*QUICKSTART, "--data.source.root", str(twin)]
    run = first.train(options, seed=0, steps=3)
    lines = first.test(run)
    assert lines
    assert 0 < first.loss_on_val(run) < 100

    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(training, "call", lambda *words: calls.append(words))
    second = Trainings(tmp_path)
    assert second.twin("padchest-gr", *films(24, 0, 160)) == twin
    assert second.train(options, seed=0, steps=3) == run
    assert second.test(run) == lines
    assert calls == []
    assert second.commits == first.commits != set()

    (run.parents[2] / "trained.json").unlink()  # as when it is cut off
    with pytest.raises(ValueError, match="unpack"):
        second.train(options, seed=0, steps=3)
    assert [words[0] for words in calls] == ["fit"]
    assert not run.exists()


def test_without_a_folder_nothing_stays() -> None:
    with trainings("") as done:
        place = done.place
        assert place.is_dir()
    assert not place.exists()
