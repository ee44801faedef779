from __future__ import annotations

import pytest
import torch

from medvl.cli.headline import print_headline

METRICS = {"test/b": torch.tensor(0.25), "test/a": torch.tensor(1.0), "test/c/d": torch.tensor(float("nan"))}


def test_the_named_come_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    print_headline(METRICS, ("c/d", "b", "unknown"))
    shown = capsys.readouterr().out
    assert shown.index("test/c/d") < shown.index("test/b")
    assert "nan" in shown
    assert "0.250" in shown
    assert "test/a" not in shown
    assert "1 more in metrics.jsonl" in shown


def test_all_are_shown_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_headline({**METRICS, "p@f1": torch.tensor(0.5)}, ())
    shown = capsys.readouterr().out
    assert [name for name in ("test/a", "test/b", "test/c/d", "p@f1") if name in shown] == [
        "test/a",
        "test/b",
        "test/c/d",
    ]
    assert "more" not in shown


def test_nothing_measured_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_headline({}, ("a",))
    assert capsys.readouterr().out == ""
