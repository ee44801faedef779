from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from medvl.errors import ConfigError
from medvl.schedule import Schedule


def rates(schedule: Schedule, steps: int, peaks: tuple[float, ...] = (2.0,)) -> list[list[float]]:
    """Return the learning rates of every step, one list per parameter group."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.SGD(groups)
    scheduler = schedule(optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return [list(column) for column in zip(*seen, strict=True)]


def test_warm_up_rises_and_cosine_falls() -> None:
    (found,) = rates(Schedule(warmup=0.2), 10)
    expected = [0.5, 1.5, *(1 + math.cos(math.pi * (step + 0.5) / 8) for step in range(8))]
    assert found == pytest.approx(expected, abs=1e-12)


def test_linear_ends_at_the_final_share() -> None:
    (found,) = rates(Schedule(warmup=0.0, shape="linear", final=0.5), 4)
    assert found == pytest.approx([1.875, 1.625, 1.375, 1.125])


def test_constant_stays() -> None:
    assert rates(Schedule(warmup=0.5, shape="constant"), 4) == [pytest.approx([0.5, 1.5, 2.0, 2.0])]


def test_a_trapezoid_keeps_its_peak_until_it_cools_down() -> None:
    (found,) = rates(Schedule(warmup=0.2, shape="trapezoid", final=0.5, cooldown=0.4), 10)
    assert found == pytest.approx([0.5, 1.5, 2.0, 2.0, 2.0, 2.0, 1.875, 1.625, 1.375, 1.125])


@pytest.mark.parametrize(
    "shares", [{"warmup": 0.8, "shape": "trapezoid"}, {"warmup": -0.1}, {"warmup": 1.5}, {"final": 2.0}]
)
def test_shares_that_do_not_fit_are_refused(shares: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"model\.schedule"):
        Schedule(**shares)


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant", "trapezoid"])
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_any_number_of_steps_works(shape: Any, steps: int) -> None:
    (found,) = rates(Schedule(shape=shape), steps)
    assert all(0 <= rate <= 2 for rate in found)
    assert min(found) > 0  # every step learns, the first and the last too


def test_a_run_twice_as_long_has_the_same_shape() -> None:
    (short,), (long,) = rates(Schedule(0.1), 50), rates(Schedule(0.1), 150)
    assert long[1::3] == pytest.approx(short)


def test_groups_keep_their_proportion() -> None:
    slow, fast = rates(Schedule(0.3), 10, peaks=(0.1, 1.0))
    assert slow == pytest.approx([0.1 * rate for rate in fast])


def test_steps_beyond_the_run_keep_the_last_rate() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = Schedule(warmup=0.0, final=0.1)(optimizer, 3)
    for _ in range(6):
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.1])


def test_a_state_can_be_saved_as_plain_values(tmp_path: Path) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = Schedule()(optimizer, 10)
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    scheduler.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
