"""The axis transform: round trips, composition, boxes against NumPy, and pictures that land where the boxes say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medvl.geometry import AxisTransform

sides = st.integers(2, 400)
shapes = st.tuples(sides, sides)
volumes = st.tuples(sides, sides, sides)
quick = settings(max_examples=60, deadline=None)


@st.composite
def boxes(draw: st.DrawFn) -> torch.Tensor:
    corner = st.floats(0, 1)
    rows = draw(st.lists(st.tuples(corner, corner, corner, corner), max_size=4))
    values = np.array(rows, dtype=np.float64).reshape(-1, 2, 2)
    return torch.from_numpy(np.sort(values, axis=1).reshape(-1, 4))


@st.composite
def transforms(draw: st.DrawFn, source: tuple[int, ...] | None = None, ndim: int = 2) -> AxisTransform:
    source = source or draw(shapes if ndim == 2 else volumes)
    target = draw(shapes if len(source) == 2 else volumes)
    kind = draw(st.sampled_from(["letterbox", "resize", "crop"]))
    if kind == "crop":
        start = tuple(draw(st.floats(-0.3, 0.5)) * s for s in source)
        stop = tuple(a + draw(st.floats(0.2, 1.0)) * s for a, s in zip(start, source, strict=True))
        made = AxisTransform.crop(source, start, stop, target)
    else:
        made = getattr(AxisTransform, kind)(source, target)
    for axis in draw(st.lists(st.integers(-len(source), len(source) - 1), max_size=3)):
        made = made.mirrored(axis)
    return made


def mapped(transform: AxisTransform, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points * np.array(transform.scale) + np.array(transform.shift)


def assert_same(one: AxisTransform, two: AxisTransform, places: float = 1e-6) -> None:
    assert (one.source, one.target) == (two.source, two.target)
    corners = np.array([[0.0] * len(one.source), list(one.source)])
    np.testing.assert_allclose(mapped(one, corners), mapped(two, corners), atol=places * max(one.target))


@quick
@given(transforms(), boxes())
def test_the_inverse_brings_boxes_back(transform: AxisTransform, given_boxes: torch.Tensor) -> None:
    back = transform.inverse().boxes(transform.boxes(given_boxes))
    torch.testing.assert_close(back, given_boxes, atol=1e-6, rtol=0)


@quick
@given(st.data(), st.sampled_from([2, 3]))
def test_round_trips_and_mirrors_are_identities(data: st.DataObject, ndim: int) -> None:
    transform = data.draw(transforms(ndim=ndim))
    identity = AxisTransform((1.0,) * ndim, (0.0,) * ndim, transform.source, transform.source)
    assert_same(transform.then(transform.inverse()), identity)
    assert_same(transform.inverse().inverse(), transform)
    axis = data.draw(st.integers(-ndim, ndim - 1))
    assert_same(transform.mirrored(axis).mirrored(axis), transform)


@quick
@given(st.data(), boxes())
def test_chaining_is_one_after_the_other(data: st.DataObject, given_boxes: torch.Tensor) -> None:
    first = data.draw(transforms())
    second = data.draw(transforms(source=first.target))
    third = data.draw(transforms(source=second.target))
    chained = first.then(second)
    torch.testing.assert_close(chained.boxes(given_boxes), second.boxes(first.boxes(given_boxes)), atol=1e-6, rtol=0)
    assert_same(chained.then(third), first.then(second.then(third)), places=1e-5)
    assert_same(chained.inverse(), second.inverse().then(first.inverse()), places=1e-4)


def test_chaining_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="cannot chain"):
        AxisTransform.letterbox((4, 4), (8, 8)).then(AxisTransform.letterbox((4, 4), (8, 8)))


@quick
@given(transforms(), boxes())
def test_boxes_agree_with_numpy(transform: AxisTransform, given_boxes: torch.Tensor) -> None:
    corners = given_boxes.numpy().reshape(-1, 2, 2)[..., ::-1] * np.array(transform.source)  # (n, corner, yx) pixels
    moved = mapped(transform, corners) / np.array(transform.target)
    expected = np.concatenate([moved.min(1)[:, ::-1], moved.max(1)[:, ::-1]], axis=-1)
    result = transform.boxes(given_boxes)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-9)
    assert (result[:, 2:] >= result[:, :2]).all()


@quick
@given(st.one_of(shapes, volumes), st.data())
def test_letterbox_fits_centred_and_keeps_the_aspect(source: tuple[int, ...], data: st.DataObject) -> None:
    target = data.draw(shapes if len(source) == 2 else volumes)
    transform = AxisTransform.letterbox(source, target)
    assert len(set(transform.scale)) == 1
    low, high = mapped(transform, np.array([[0.0] * len(source), list(source)]))
    np.testing.assert_allclose(low, np.array(target) - high, atol=1e-9)
    assert low.min() == pytest.approx(0, abs=1e-9)
    assert (low > -1e-9).all()


@quick
@given(shapes, shapes, st.data())
def test_a_crop_shows_its_window_centred(source: tuple[int, int], target: tuple[int, int], data: st.DataObject) -> None:
    start = tuple(data.draw(st.floats(-0.5, 0.9)) * s for s in source)
    stop = tuple(a + data.draw(st.floats(0.1, 1.0)) * s for a, s in zip(start, source, strict=True))
    low, high = mapped(AxisTransform.crop(source, start, stop, target), np.array([start, stop]))
    np.testing.assert_allclose(low, np.array(target) - high, atol=1e-6)
    assert low.min() == pytest.approx(0, abs=1e-6)
    assert_same(AxisTransform.crop(source, (0, 0), source, target), AxisTransform.letterbox(source, target))


@quick
@given(transforms())
def test_a_bright_rectangle_lands_where_its_box_says(transform: AxisTransform) -> None:
    height, width = transform.source
    top, left, bottom, right = height // 4, width // 3, max(height // 2, height // 4 + 1), width // 3 + width // 2
    image = torch.zeros(1, height, width, dtype=torch.float64)
    image[:, top:bottom, left:right] = 1
    box = torch.tensor([[left / width, top / height, right / width, bottom / height]], dtype=torch.float64)
    out, valid = transform.warp(image)
    assert out.shape == (1, *transform.target)
    assert valid.shape == transform.target
    assert_mass_inside(out[0], transform, transform.boxes(box)[0])


def assert_mass_inside(out: torch.Tensor, transform: AxisTransform, box: torch.Tensor) -> None:
    """Bilinear sampling spreads an edge over one source pixel: bright well inside the box, dark well outside."""
    height, width = transform.target
    spread = [abs(s) / 2 + 1e-6 for s in transform.scale]
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width))
    x1, y1, x2, y2 = (box * torch.tensor([width, height, width, height])).tolist()

    def within(margin: int) -> torch.Tensor:
        rows = (y > y1 - margin * spread[0]) & (y < y2 + margin * spread[0])
        return rows[:, None] & ((x > x1 - margin * spread[1]) & (x < x2 + margin * spread[1]))

    _, valid = transform.warp(torch.zeros(1, *transform.source, dtype=torch.float64))
    assert (out[within(-1) & valid] > 1 - 1e-6).all()
    assert (out[~within(1)] < 1e-6).all()


@quick
@given(transforms())
def test_the_mask_is_the_picture_of_a_white_image(transform: AxisTransform) -> None:
    white, valid = transform.warp(torch.ones(2, *transform.source, dtype=torch.float64))
    torch.testing.assert_close(white, valid.expand_as(white).double())
    full = transform.boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64))[0]
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in transform.target)
    inside = ((y > full[1]) & (y < full[3]))[:, None] & ((x > full[0]) & (x < full[2]))
    assert (inside != valid).double().sum() <= edge_cells(y, x, full)


def edge_cells(y: torch.Tensor, x: torch.Tensor, box: torch.Tensor) -> float:
    """Count cells whose centre lies on the edge itself, where rounding decides."""
    rows = ((y - box[1]).abs() < 1e-9) | ((y - box[3]).abs() < 1e-9)
    columns = ((x - box[0]).abs() < 1e-9) | ((x - box[2]).abs() < 1e-9)
    return float((rows[:, None] | columns).sum())


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_smooth_volume_is_resampled_as_its_formula_says(data: st.DataObject) -> None:
    small = st.tuples(*[st.integers(2, 16)] * 3)
    source, target = data.draw(small), data.draw(small)
    transform = AxisTransform.letterbox(source, target)
    for axis in data.draw(st.lists(st.integers(0, 2), max_size=2)):
        transform = transform.mirrored(axis)
    grid = np.meshgrid(*[np.arange(n) + 0.5 for n in source], indexing="ij")
    slopes = np.array([1.0, -2.0, 0.5])
    volume = torch.from_numpy(sum(s * g for s, g in zip(slopes, grid, strict=True)))[None]
    out, valid = transform.warp(volume)
    points = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in target], indexing="ij"), axis=-1)
    back = mapped(transform.inverse(), points)
    inner = ((back > 0.5) & (back < np.array(source) - 0.5)).all(-1)  # beyond the outer centres the edge is repeated
    np.testing.assert_allclose(out[0].numpy()[inner], (back * slopes).sum(-1)[inner], atol=1e-6)
    assert valid.numpy()[inner].all()


def test_an_identity_returns_the_array_bit_by_bit() -> None:
    image = torch.rand(3, 17, 23, dtype=torch.float64)
    out, valid = AxisTransform.resize((17, 23), (17, 23)).warp(image)
    torch.testing.assert_close(out, image)
    assert valid.all()
    flipped, _ = AxisTransform.resize((17, 23), (17, 23)).mirrored(-1).warp(image)
    torch.testing.assert_close(flipped, image.flip(-1))
    assert AxisTransform.resize((17, 23), (4, 4)).boxes(torch.zeros(0, 4)).shape == (0, 4)
