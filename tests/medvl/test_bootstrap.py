"""Patient bootstrap against a plain loop, and its handling of subsets and small samples."""

from __future__ import annotations

import numpy as np
import pytest

from medvl.metrics import paired_bootstrap, patient_bootstrap


def make_cohort(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 40, 200)
    values = np.clip(rng.normal(0.6, 0.1, 200) + 0.2 * rng.normal(size=40)[patients], 0, 1)
    return values, patients, rng.integers(1, 4, 200)


def loop_bootstrap(values: np.ndarray, patients: np.ndarray, weights: np.ndarray, n: int) -> tuple[float, float]:
    rng, draws = np.random.default_rng(99), []
    rows = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    for _ in range(n):
        chosen = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        draws.append(np.average(values[chosen], weights=weights[chosen]))
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def test_equals_a_plain_loop() -> None:
    values, patients, weights = make_cohort()
    mean, low, high = patient_bootstrap(values, patients, n=6000, weights=weights)
    assert mean == pytest.approx(np.average(values, weights=weights))
    assert (low, high) == pytest.approx(loop_bootstrap(values, patients, weights, 6000), abs=0.006)
    assert low < mean < high


def test_clusters_widen_the_interval() -> None:
    values, patients, _ = make_cohort()
    _, low, high = patient_bootstrap(values, patients)
    _, narrow_low, narrow_high = patient_bootstrap(values, np.arange(len(values)))
    assert high - low > 1.3 * (narrow_high - narrow_low)


def test_the_seed_decides() -> None:
    values, patients, _ = make_cohort()
    assert patient_bootstrap(values, patients, seed=3) == patient_bootstrap(values, patients, seed=3)
    assert patient_bootstrap(values, patients, seed=3) != patient_bootstrap(values, patients, seed=4)


def test_draws_in_blocks_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patients, _ = make_cohort()
    whole = patient_bootstrap(values, patients)
    monkeypatch.setattr("medvl.metrics.bootstrap._DRAWS", 300)
    assert patient_bootstrap(values, patients) == pytest.approx(whole)


def test_nan_leaves_phrases_out() -> None:
    values, patients, _ = make_cohort()
    part = values > 0.5
    masked = np.where(part, values, np.nan)
    assert patient_bootstrap(masked, patients) == patient_bootstrap(values[part], patients[part])


def test_too_few() -> None:
    assert np.isnan(patient_bootstrap([], [])).all()
    assert np.isnan(patient_bootstrap([np.nan, np.nan], ["a", "b"])).all()
    mean, low, high = patient_bootstrap([1.0, 0.0], ["a", "a"])
    assert mean == 0.5
    assert np.isnan([low, high]).all()


def test_paired_difference_is_tighter_than_its_parts() -> None:
    values, patients, _ = make_cohort()
    mean, low, high = paired_bootstrap(values, values - 0.01, patients)
    assert (mean, low, high) == pytest.approx((0.01, 0.01, 0.01))
    assert np.isnan(paired_bootstrap([np.nan], [1.0], ["a"]).mean)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(2,\)"):
        patient_bootstrap([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="same phrases"):
        paired_bootstrap([1.0], [1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="level"):
        patient_bootstrap([1.0], ["a"], level=1.5)
