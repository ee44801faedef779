"""Painters of the healthy body: soft tissue, lungs, heart, bones, vessels. Each adds attenuation over a grid."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from datamodules.twins.anatomy import Anatomy, Array, Grid, smooth
from datamodules.twins.strokes import Strokes


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> Array:
    """Smooth noise of about unit spread whose grains are `cell` pixels wide."""
    rows, columns = shape[0] // cell + 2, shape[1] // cell + 2
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    fine = ndimage.uniform_filter(np.repeat(np.repeat(coarse, cell, 0), cell, 1), cell)
    fine = ndimage.uniform_filter(fine, max(2, cell // 2))
    return np.asarray(fine[: shape[0], : shape[1]] * np.float32(1.7), dtype=np.float32)


def _ribs(grid: Grid, rng: np.random.Generator) -> Array:
    """Posterior and anterior ribs: bands that are level sets of two bent height functions."""
    y, reach = grid.xy[1], grid.reach
    wall = grid.wall + np.float32(0.012)
    t = np.clip(reach / np.maximum(wall, 0.05), 0, 1.05)
    t2 = t * t
    t6 = t2 * t2 * t2
    wobble = np.float32(rng.uniform(-0.015, 0.015)) * np.sin(7 * y + np.float32(rng.uniform(0, 6)))
    shared = (
        smooth(wall - reach, 0.01)
        * smooth(np.float32(1.3) - y, 0.12)
        * (1 - np.float32(0.75) * smooth(grid.below, 0.04))
    )
    shared *= np.float32(0.75) + np.float32(0.5) * t6
    out = np.zeros_like(y)
    strong = rng.uniform(0.75, 1.25)
    for rise, slope, curl, gap, thick, strength, start in (
        (0.06, 0.13, 0.16, 0.118, 0.27, 0.105, 0.06),
        (0.0, -0.34, -0.05, 0.15, 0.25, 0.055, 0.24),
    ):
        height = y + wobble + np.float32(rise) * t - np.float32(slope) * t2 - np.float32(curl) * t6
        phase = height / np.float32(gap) + np.float32(rng.uniform(0, 1))
        off = np.abs(phase - np.rint(phase))
        band = smooth(np.float32(thick) - off, 0.06)
        edge = np.clip(1 - np.abs(off - np.float32(thick - 0.04)) * 16, 0, 1)
        out += (
            np.float32(strength * strong) * (band + np.float32(0.75) * edge) * smooth(reach - np.float32(start), 0.05)
        )
    return out * shared


def shoulders(strokes: Strokes, rng: np.random.Generator, body: Anatomy) -> None:
    """Clavicles, borders of the scapulae, heads of the humeri."""
    tilt, strong = rng.normal(0.02, 0.03), rng.uniform(0.8, 1.2)
    for sign in (-1, 1):
        xs = np.array([0.06, 0.15, 0.28, 0.42, 0.56, 0.7]) * body.wide
        ys = np.array([0.16, 0.125, 0.085, 0.06, 0.03, -0.03]) + tilt + rng.normal(0, 0.01)
        strokes.line(sign * xs, ys, 0.034, 0.13 * strong)
        for shift in (-0.02, 0.02):
            strokes.line(sign * xs, ys + shift, 0.007, 0.1 * strong)
        out = rng.uniform(0.52, 0.62) * body.wide
        strokes.line(
            sign * np.array([out + 0.1, out, out - 0.05, out - 0.01, out + 0.05]),
            [0.0, 0.06, 0.22, 0.42, 0.55],
            0.01,
            0.09 * strong,
        )
        strokes.line(sign * np.array([0.74, 0.8, 0.85]) * body.wide, [0.02, 0.06, 0.11], 0.12, 0.17 * strong)


def _mediastinum(grid: Grid, lungs: Array) -> Array:
    """Heart, aorta, hila, spine and trachea, over the lungs they hide."""
    body, (x, y), reach = grid.body, grid.xy, grid.reach
    heart = smooth(grid.heart, 0.06)
    knob, at = body.knob
    arch = smooth(1 - np.hypot((x - 0.085) / (0.072 * knob), (y - np.float32(at)) / (0.08 * knob)), 0.2)
    out = np.float32(0.43) * np.maximum(heart, np.float32(0.75) * arch) * lungs
    out += np.float32(0.1) * heart
    out += (
        np.float32(0.07)
        * smooth(np.float32(0.03) - np.abs(x - np.float32(0.1 * knob)), 0.02)
        * smooth(y - np.float32(at), 0.1)
    )
    for sign, hilum in ((-1, 0.45), (1, 0.41)):
        r = np.hypot((x - np.float32(sign * 0.14)) / 0.06, (y - np.float32(hilum)) / 0.1)
        out += np.float32(0.17) * smooth(1 - r, 0.6)
    disc = np.abs(np.mod(y * np.float32(1 / 0.105) + np.float32(0.2), 1) - np.float32(0.5))
    spine = smooth(np.float32(0.065) - reach, 0.012)
    out += np.float32(0.1) * spine * (np.float32(0.6) + np.float32(0.4) * smooth(np.float32(0.38) - disc, 0.07))
    out += np.float32(0.1) * smooth(np.float32(0.1) - reach, 0.06)
    tube = smooth(np.float32(0.034) - np.abs(x + 0.01 + 0.03 * y), 0.012) * smooth(np.float32(0.37) - y, 0.05)
    return np.asarray(out - np.float32(0.27) * tube, dtype=np.float32)


def _breasts(grid: Grid, rng: np.random.Generator) -> Array:
    y, body = grid.xy[1], grid.body
    drop, wide = float(rng.uniform(0.72, 0.92)), float(rng.uniform(0.2, 0.26))
    r = np.hypot(
        (grid.reach - np.float32(0.37)) / wide,
        (y - np.float32(drop)) / np.where(y > drop, np.float32(0.18), np.float32(0.42)),
    )
    return np.float32(0.05 + 0.05 * body.stout) * smooth(1 - r, 0.22)


def body_density(grid: Grid, rng: np.random.Generator) -> Array:
    """Attenuation of the healthy body, (height, width), about 0.2 in the lungs and 1.1 in the mediastinum."""
    body, (x, y), reach = grid.body, grid.xy, grid.reach
    skin = body.skin(y)
    round_ = np.sqrt(np.clip(1 - (reach / np.maximum(skin, 0.05)) ** 2, 0, 1)) * smooth(skin - reach, 0.012)
    out = round_ * np.float32(0.66 + 0.06 * body.stout)
    out += np.float32(0.13) * smooth(reach - grid.wall, 0.06) * round_ * smooth(y, 0.1)
    lungs = smooth(grid.lung, 0.014) * smooth(y + np.float32(0.01), 0.03)
    out -= np.float32(0.5) * lungs * (np.float32(0.88) + np.float32(0.12) * smooth(np.float32(0.6) - y, 0.5))
    inside = smooth(grid.wall - reach, 0.03)
    out += np.float32(0.3) * smooth(grid.below, 0.018) * inside
    out += _mediastinum(grid, lungs)
    size = float(rng.uniform(0.06, 0.12))
    under = grid.below - np.float32(0.025)
    bubble = np.hypot(
        (x - np.float32(rng.uniform(0.22, 0.36))) / (size * 1.4),
        (y - np.float32(body.domes[1] + 0.03 + size * 0.7)) / (size * 0.75),
    )
    out -= np.float32(rng.uniform(0.15, 0.4)) * smooth(1 - bubble, 0.2) * smooth(under, 0.012)
    if body.sex == "F":
        out += _breasts(grid, rng)
    return out + _ribs(grid, rng)


def _tree(rng: np.random.Generator, strokes: Strokes) -> None:
    """Vessels that branch from both hila, thinner and fainter outwards."""

    def grow(x: float, y: float, heading: float, length: float, width: float, depth: int) -> None:
        angles = heading + float(rng.normal(0, 0.25)) * np.linspace(0, 1, 5)
        xs = x + np.concatenate([[0], np.cumsum(np.cos(angles) * length / 5)])
        ys = y + np.concatenate([[0], np.cumsum(np.sin(angles) * length / 5)])
        strokes.line(xs, ys, width, 0.05 + 4.5 * width)
        if depth:
            for turn in (rng.uniform(0.2, 0.5), -rng.uniform(0.2, 0.5)):
                grow(
                    float(xs[-1]),
                    float(ys[-1]),
                    float(angles[-1] + turn),
                    length * float(rng.uniform(0.62, 0.85)),
                    width * 0.68,
                    depth - 1,
                )

    for sign, hilum in ((-1, 0.45), (1, 0.41)):
        for base in (-1.15, -0.6, -0.1, 0.35, 0.8, 1.2):
            heading = base + float(rng.normal(0, 0.08))
            start = hilum + 0.05 * float(np.sin(base))
            grow(
                sign * 0.15,
                start,
                heading if sign > 0 else float(np.pi) - heading,
                float(rng.uniform(0.13, 0.18)),
                0.022,
                3,
            )


def markings(grid: Grid, rng: np.random.Generator, clutter: float) -> Array:
    """Vessels and grain of the lungs; `clutter` scales both."""
    strokes = Strokes(grid)
    _tree(rng, strokes)
    grain = noise(rng, (grid.height, grid.width), max(2, round(0.016 * grid.unit)))
    return np.float32(clutter) * (strokes.render() + np.float32(0.016) * grain) * smooth(grid.lung, 0.03)
