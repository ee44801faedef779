"""Depth errors in mm, abstentions, scans and snippets that are not there."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import mannwhitneyu

from medvl.metrics.localisation import LocalisationMetrics, depth_errors


def spans(*ends: tuple[float, float]) -> torch.Tensor:
    return torch.tensor([(*one, 1.0) for one in ends]).reshape(-1, 3)


def test_the_nearest_interval_counts() -> None:
    several = spans((10, 20), (60, 61))
    found = depth_errors(torch.tensor([15.0, 5.0, 41.0, 80.0, 1.0]), [several] * 4 + [spans()])
    assert found[:4].tolist() == [0, 5, 19, 19]
    assert found[4].isnan()


def test_abstaining_costs_the_worst_answer_and_absent_snippets_are_ranked() -> None:
    metric = LocalisationMetrics()
    gold = [spans((10, 20)), spans((90, 95)), spans((50, 50)), spans(), spans()]
    present = torch.tensor([0.9, 0.2, 0.6, 0.4, 0.7])
    extent = torch.tensor([[0.0, 100.0]]).expand(5, -1)
    rows = (torch.tensor([30.0, 92.0, 36.0, 3.0, 3.0]), present, gold, extent, torch.tensor([7, 7, 9, 9, 9]))
    for part in (slice(0, 2), slice(2, 5)):
        metric.update(*(one[part] for one in rows))
    found = {name: float(value) for name, value in metric.compute().items()}
    errors = [10.0, 90.0, 14.0]  # the second was denied: 90 mm from the lower end
    assert found["mae"] == pytest.approx(sum(errors) / 3)
    assert found["median"] == 14
    assert (found["within_12"], found["within_24"]) == pytest.approx((1 / 3, 2 / 3))
    assert found["mae_scans"] == pytest.approx((50 + 14) / 2)
    assert (found["abstained"], found["mae_answered"]) == pytest.approx((1 / 3, 12))
    assert found["denied_absent"] == 0.5  # 0.4 of 0.4 and 0.7
    assert found["auroc_absent"] == pytest.approx(mannwhitneyu(present[:3], present[3:]).statistic / 6)
    always = LocalisationMetrics(threshold=0)
    always.update(*rows)
    assert float(always.compute()["mae"]) == pytest.approx((10 + 0 + 14) / 3)


@pytest.mark.parametrize(
    ("place", "mm", "present", "error"),
    [
        ((120, 130), 99.0, 0.9, 21.0),  # beyond the scan: answered as near as an answer can be
        ((120, 130), 10.0, 0.9, 110.0),
        ((120, 130), 99.0, 0.2, 120.0),  # denied, though nothing of it is there: the worst answer, from the far end
        ((-40, -10), 99.0, 0.2, 110.0),
        ((80, 130), 60.0, 0.9, 20.0),  # partly beyond
        ((80, 130), 60.0, 0.2, 80.0),
        ((41, 43), 47.0, 0.9, 4.0),  # on slices that were lost inside the scan
        ((41, 43), 47.0, 0.2, 57.0),
    ],
)
def test_what_lies_beyond_the_scan_or_on_lost_slices_counts_as_an_error(
    place: tuple[float, float], mm: float, present: float, error: float
) -> None:
    metric = LocalisationMetrics()
    gold = [spans(place), spans((50, 60))]
    extent = torch.tensor([[0.0, 100.0]] * 2)
    metric.update(torch.tensor([mm, 55.0]), torch.tensor([present, 0.9]), gold, extent, torch.tensor([1, 2]))
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["mae"] == found["mae_scans"] == pytest.approx(error / 2)
    assert found["abstained"] == (0.5 if present < 0.5 else 0)
    near = error <= 24 and present >= 0.5
    assert found["within_24"] == 0.5 + near / 2
    assert math.isnan(found["denied_absent"])  # it is no snippet that the scan has not


@pytest.mark.filterwarnings("ignore:The ..compute.. method")
def test_nothing_to_judge_is_nan_and_wrong_input_is_refused() -> None:
    metric = LocalisationMetrics()
    metric.update(torch.zeros(1), torch.ones(1), [spans()], torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    found = metric.compute()
    assert found.pop("denied_absent") == 0
    assert all(value.isnan() for value in found.values())
    assert all(value.isnan() for value in LocalisationMetrics().compute().values())
    with pytest.raises(ValueError, match="differ in number"):
        metric.update(torch.zeros(2), torch.ones(1), [spans()], torch.zeros(1, 2), torch.zeros(1))
    with pytest.raises(ValueError, match="not finite"):
        metric.update(torch.tensor([torch.nan]), torch.ones(1), [spans()], torch.zeros(1, 2), torch.zeros(1))


@pytest.mark.filterwarnings("ignore:The ..compute.. method")
def test_calibration_denies_the_share_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    n = 400
    present = torch.rand(n, generator=generator, dtype=torch.float64) * 0.4  # all of them denied at 0.5
    intervals = [torch.tensor([[10.0, 20.0]]) if row % 4 else torch.zeros(0, 2) for row in range(n)]
    plain, calibrated = LocalisationMetrics(), LocalisationMetrics(silence=0.05)
    for metric in (plain, calibrated):
        metric.update(torch.full((n,), 15.0), present, intervals, torch.tensor([[0.0, 90.0]] * n), torch.arange(n))
    before, after = plain.compute(), calibrated.compute()
    assert before["abstained"] == 1
    assert float(after["abstained"]) == pytest.approx(0.05, abs=1 / 300)
    assert float(after["auroc_absent"]) == pytest.approx(float(before["auroc_absent"]), abs=1e-6)
    shown, absent = present[torch.arange(n) % 4 != 0], present[::4]
    denied = ((absent.logit() + after["shift"]).sigmoid() < 0.5).double().mean()
    assert float(after["denied_absent"]) == pytest.approx(float(denied), abs=1e-9)
    assert before["denied_absent"] == 1
    assert 0 < denied < 0.2
    shifted = (shown.logit() + after["shift"]).sigmoid()
    assert float((shifted < 0.5).double().mean()) == pytest.approx(float(after["abstained"]), abs=1e-9)
    empty = LocalisationMetrics(silence=0.05)
    assert float(empty.compute()["shift"]) == 0
    with pytest.raises(ValueError, match="silence"):
        LocalisationMetrics(threshold=0.0, silence=0.1)
