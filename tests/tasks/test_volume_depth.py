"""Depth positions, soft targets, medians and extents, against what can be worked out by hand or by sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from tasks.volume.depth import DepthGrid, blurred, extents, interval_mass, quantile


def axis(positions: int = 10, valid: int | None = None, start: float = -100.0, step: float = 12.0) -> DepthGrid:
    edges = start + step * torch.arange(positions + 1, dtype=torch.float64)[None]
    return DepthGrid(edges, torch.arange(positions)[None] < (positions if valid is None else valid))


def rows(*intervals: tuple[float, float, float]) -> list[Tensor]:
    return [torch.tensor(intervals, dtype=torch.float64).reshape(-1, 3)]


def test_positions_lie_where_the_slices_do() -> None:
    found = DepthGrid.of(torch.tensor([10.0, 0.0]), torch.tensor([2.0, 3.0]), torch.tensor([7, 8]), 2, 4)
    assert found.edges.tolist() == [[9, 17, 23], [-1.5, 10.5, 22.5]]
    assert found.centres[0].tolist() == [13, 20]
    assert found.valid.tolist() == [[True, True], [True, True]]
    padded = DepthGrid.of(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([4]), 3, 4)
    assert padded.valid.tolist() == [[True, False, False]]
    assert padded.edges.tolist() == [[-0.5, 3.5, 3.5, 3.5]]
    with pytest.raises(ValueError, match="do not cover 9 slices"):
        DepthGrid.of(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([9]), 2, 4)


def test_mass_lies_where_intervals_overlap() -> None:
    mass = interval_mass(axis(), rows((-94.0, -70.0, 1.0)))
    assert mass[0, :4].tolist() == pytest.approx([6 / 24, 12 / 24, 6 / 24, 0])
    weighted = interval_mass(axis(), rows((-100, -88, 3.0), (-76, -64, 1.0)))
    assert weighted[0, :3].tolist() == pytest.approx([0.75, 0, 0.25])
    assert interval_mass(axis(), rows((-50.0, -50.0, 2.0)))[0].sum().item() == pytest.approx(1)  # a single slice


def test_what_lies_outside_is_lost() -> None:
    mass = interval_mass(axis(valid=5), [*rows((-46, -34, 1.0)), *rows((200, 210, 1.0)), torch.zeros(0, 3)][0:1])
    assert mass.sum().item() == pytest.approx(0.5)  # the sixth position is padding
    both = DepthGrid(axis().edges.expand(2, -1), axis().valid.expand(2, -1))
    nothing = interval_mass(both, [*rows((200, 210, 1.0)), torch.zeros(0, 3)])
    assert nothing.abs().sum() == 0
    assert blurred(both, nothing, 12.0).abs().sum() == 0


def test_the_blur_is_a_gaussian_that_keeps_its_mass_at_the_ends() -> None:
    one = axis(positions=41)
    mass = interval_mass(one, rows((-100 + 12 * 20, -100 + 12 * 21, 1.0)))
    expected = gaussian_filter1d(mass[0].numpy(), sigma=2, mode="constant", truncate=20)
    np.testing.assert_allclose(blurred(one, mass, 24.0)[0].numpy(), expected / expected.sum(), atol=1e-6)
    short = axis(positions=41, valid=21)  # now its last slice
    soft = blurred(short, interval_mass(short, rows((-100 + 12 * 20, -100 + 12 * 21, 1.0))), 24.0)
    assert soft.sum().item() == pytest.approx(1)
    assert soft[0, 21:].abs().sum() == 0
    two = blurred(short, interval_mass(short, rows((-100, -88, 1.0), (20, 32, 1.0))), 24.0)
    assert two[0, :5].sum().item() == pytest.approx(0.5, abs=0.02)  # neither end weighs less than the middle


def test_the_median_has_the_least_expected_distance() -> None:
    rng = np.random.default_rng(0)
    probability = torch.from_numpy(rng.dirichlet(np.full(10, 0.5), size=6))
    several = DepthGrid(axis().edges.expand(6, -1), axis().valid.expand(6, -1))
    median = quantile(several, probability, 0.5).numpy()
    places = rng.uniform(size=40_000)
    for row in range(6):
        chosen = rng.choice(10, size=40_000, p=probability[row].numpy())
        samples = -100 + 12 * (chosen + places)
        assert median[row] == pytest.approx(np.median(samples), abs=1.5)
    assert quantile(several, probability, 0.0).numpy() == pytest.approx(-100)
    assert (quantile(several, probability, 1.0) <= 20 + 1e-9).all()


def test_extents_name_every_high_stretch() -> None:
    probability = torch.tensor([[0.1, 0.3, 0.2, 0.0, 0.0, 0.25, 0.05, 0.1, 0.0, 0.0]], dtype=torch.float64)
    assert extents(axis(), probability) == [[(-88, -64), (-40, -28)]]
    flat = torch.full((1, 10), 0.1, dtype=torch.float64)
    assert extents(axis(), flat) == [[(-100, 20)]]
