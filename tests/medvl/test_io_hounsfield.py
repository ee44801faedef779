"""Rescaling once: the rule that tells Hounsfield units from stored values, on either side of its edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from medvl.io.hounsfield import Rescale, applied_already, hounsfield
from medvl.io.volume import VolumeError


def scan(seed: int = 0, lung: float = 0.2, noise: float = 20.0) -> NDArray[np.int16]:
    """Return a slab of air, lungs and soft tissue with noise, in HU."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([-1000.0, -850.0, -100.0, 50.0], size=(6, 60, 50), p=[0.3, lung, 0.1, 0.6 - lung])
    return np.rint(kinds + rng.normal(0, noise, kinds.shape)).astype(np.int16)


@pytest.mark.parametrize("intercept", [-1000.0, -1024.0, -8192.0])
@pytest.mark.parametrize("noise", [5.0, 60.0, 150.0])
def test_a_rescale_is_applied_once(intercept: float, noise: float) -> None:
    hu, rescale = scan(noise=noise), Rescale(1.0, intercept)
    stored = (hu - intercept).astype(np.int16)
    expected = np.maximum(hu, -1024)
    found, notes = hounsfield(stored, [rescale], "a")
    np.testing.assert_array_equal(found, expected)
    assert notes == ()
    found, notes = hounsfield(hu, [rescale], "a")  # converted before, the table left as it was
    np.testing.assert_array_equal(found, expected)
    assert notes[0].startswith("rescale:")


def spine(noise: float, dense: float = 0.0) -> NDArray[np.int16]:
    """Return fat, muscle, marrow and bone, the densest at 1000, in HU: a field of view without air or lung."""
    rng = np.random.default_rng(1)
    shares = [0.1, 0.5, 0.2, 0.2 - dense, dense]
    kinds = rng.choice([-100.0, 55.0, 200.0, 450.0, 1000.0], size=(6, 60, 50), p=shares)
    return np.rint(kinds + rng.normal(0, noise, kinds.shape)).astype(np.int16)


@pytest.mark.parametrize("intercept", [-1000.0, -1024.0, -8192.0])
@pytest.mark.parametrize("noise", [5.0, 30.0, 60.0])
@pytest.mark.parametrize("dense", [0.0, 0.06])  # a spine, a head
def test_a_field_of_view_without_air_is_rescaled_once(intercept: float, noise: float, dense: float) -> None:
    hu, rescale = spine(noise, dense), Rescale(1.0, intercept)
    stored = (hu - intercept).astype(np.int16)
    found, notes = hounsfield(stored, [rescale], "a")
    np.testing.assert_array_equal(found, hu)
    assert notes == ()
    assert not applied_already(hu, Rescale(1.0, -1000.0))  # nothing falls low: the result alone tells
    found, notes = hounsfield(hu, [rescale], "a")
    np.testing.assert_array_equal(found, hu)
    assert notes[0].startswith("rescale:")
    found, notes = hounsfield(hu, [rescale, Rescale(1.0, -1024.0)], "a")  # table and header, both kept
    np.testing.assert_array_equal(found, hu)
    assert len(notes) == 1


@pytest.mark.parametrize("noise", [20.0, 50.0])
def test_noise_of_air_below_0_is_no_fat(noise: float) -> None:
    """A thin patient in air that nothing clips, as stored: much lies where tissue would, some below 0."""
    rng = np.random.default_rng(2)
    kinds = rng.choice([-1000.0, -100.0, 50.0], size=(6, 60, 50), p=[0.82, 0.05, 0.13])
    hu = np.rint(kinds + rng.normal(0, noise, kinds.shape)).astype(np.int16)
    found, notes = hounsfield(hu + 1024, [Rescale(1, -1024)], "a")
    np.testing.assert_array_equal(found, np.maximum(hu, -1024))
    assert notes == ()


def test_a_declaration_that_makes_no_patient_gives_way_to_one_that_does() -> None:
    hu = spine(30)
    found, notes = hounsfield(hu + 1024, [Rescale(1.0, -8192.0), Rescale(1.0, -1024.0)], "a")
    np.testing.assert_array_equal(found, hu)
    assert notes == ()


@pytest.mark.parametrize("air", [0, 24])
def test_air_as_stored_is_never_taken_for_tissue(air: int) -> None:
    """Stored air lies where muscle would; a rescale that leaves nothing of a patient is wrong, whatever was stored."""
    stored = np.full((6, 60, 50), air, np.int16)
    stored[:, :2, :4] = 5000
    with pytest.raises(VolumeError, match="wrong rescale") as caught:
        hounsfield(stored, [Rescale(1, -1024)], "a")
    assert caught.value.code == "rescale"
    thin = np.full((6, 60, 50), air, np.int16)  # 2 % of a patient in much air
    thin[:, :6, :10] = spine(30)[:, :6, :10] + 1024
    np.testing.assert_array_equal(hounsfield(thin, [Rescale(1, -1024)], "a")[0], np.maximum(thin - 1024, -1024))


@pytest.mark.parametrize("floor", [-4000, -1024])
@pytest.mark.parametrize("make", [scan, lambda: spine(30)], ids=["chest", "spine"])
def test_a_rescale_applied_twice_in_the_file_is_named(make: Callable[[], NDArray[np.int16]], floor: int) -> None:
    twice = np.maximum(make() - 1024, floor)
    for declared in ([], [Rescale(1, -1024)]):
        with pytest.raises(VolumeError, match="wrong rescale") as caught:
            hounsfield(twice, declared, "study/a.nii.gz")
        assert caught.value.code == "rescale"
        assert "applied twice?" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 4


def test_padding_is_no_evidence() -> None:
    hu = scan()
    hu[:, :15] = -3024  # what some scanners fill the corners with, a quarter of the slab
    stored = hu + 1024
    assert not applied_already(stored, Rescale(1, -1024))
    np.testing.assert_array_equal(hounsfield(stored, [Rescale(1, -1024)], "a")[0], np.maximum(hu, -1024))
    hu[:, :15] = -2048
    stored = hu + 1024  # padding that looks like air as stored
    np.testing.assert_array_equal(hounsfield(stored, [Rescale(1, -1024)], "a")[0], np.maximum(hu, -1024))


def test_values_clipped_at_air_are_hounsfield_units_too() -> None:
    hu = np.clip(scan(), -1000, 1000)
    found, notes = hounsfield(hu, [Rescale(1, -1024)], "a")
    np.testing.assert_array_equal(found, hu)
    assert notes


def test_the_first_declaration_that_fits_is_taken() -> None:
    hu = scan()
    table, header = Rescale(1.0, -8192.0), Rescale(2.0, -1024.0)
    np.testing.assert_array_equal(hounsfield(hu + 8192, [table, Rescale()], "a")[0], np.maximum(hu, -1024))
    stored = ((np.maximum(hu, -1024) + 1024) // 2).astype(np.int16)
    np.testing.assert_allclose(hounsfield(stored, [header], "a")[0], np.maximum(hu, -1024), atol=1)


def test_a_missing_rescale_is_named_and_never_guessed() -> None:
    for declared in ([], [Rescale()]):
        with pytest.raises(VolumeError, match="missing rescale") as caught:
            hounsfield(np.maximum(scan() + 1024, 0), declared, "study/a.nii.gz")
        assert caught.value.code == "rescale"
        assert "study/a.nii.gz" in str(caught.value)
    with pytest.raises(VolumeError, match="missing rescale"):
        hounsfield(np.zeros((4, 5, 6), np.uint8), [], "mask")


def test_reals_are_rounded_and_far_values_clipped() -> None:
    values = scan().astype(np.float32) + 0.4
    values[0, 0, :2] = 70_000, -70_000
    found, _ = hounsfield(values, [], "a")
    assert found[0, 0, :2].tolist() == [32767, -1024]
    np.testing.assert_array_equal(found[1:], np.maximum(scan(), -1024)[1:])
