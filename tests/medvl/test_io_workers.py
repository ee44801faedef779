"""Jobs on several processes: results in order, failures told, the bar seen on terminals only."""

from __future__ import annotations

import os

import pytest

from medvl.io.workers import run_all


def job(number: int, fails: int = -1) -> tuple[int, int]:
    if number == fails:
        raise ValueError(str(number))
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2, None])
def test_results_come_in_order(workers: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    found = run_all(job, [(number,) for number in range(9)], workers, "squaring", sizes=[2] * 9)
    assert [square for square, _ in found] == [number * number for number in range(9)]
    others = {process for _, process in found} - {os.getpid()}
    assert bool(others) == (workers == 2)
    assert capfd.readouterr() == ("", "")


def test_nothing_to_do() -> None:
    assert run_all(job, [], 4, "squaring") == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match="3"):
        run_all(job, [(number, 3) for number in range(8)], workers, "squaring")
