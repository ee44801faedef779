"""Painters of findings: the texture of each kind inside the mask that also gives its box."""

from __future__ import annotations

import numpy as np

from datamodules.twins.anatomy import Array, Grid, smooth
from datamodules.twins.bodies import noise
from datamodules.twins.findings import KINDS, Finding
from datamodules.twins.shapes import Lesion, mask_of
from datamodules.twins.strokes import Strokes


def _fluffy(grid: Grid, lesion: Lesion, mask: Array, rng: np.random.Generator) -> Array:
    cell = max(2, round(0.05 * grid.unit))
    return mask * (np.float32(0.9) + np.float32(0.14) * noise(rng, _shape(mask), cell))


def _net(grid: Grid, lesion: Lesion, mask: Array, rng: np.random.Generator) -> Array:
    """A mesh: where two smooth noises change sign."""
    mesh = np.zeros_like(mask)
    for cell in (0.022, 0.03):
        mesh += np.exp(-((noise(rng, _shape(mask), max(2, round(cell * grid.unit))) * 3) ** 2))
    return mask * (np.float32(0.15) + np.float32(0.75) * mesh)


def _ring(grid: Grid, lesion: Lesion, mask: Array, rng: np.random.Generator) -> Array:
    r = _radius(grid, lesion) + np.float32(0.04) * noise(rng, _shape(mask), max(2, round(0.05 * grid.unit)))
    return mask * (1 - np.float32(0.95) * smooth(np.float32(rng.uniform(0.6, 0.7)) - r, 0.08))


def _bubble(grid: Grid, lesion: Lesion, mask: Array, rng: np.random.Generator) -> Array:
    """Lucent, with a hair-thin wall."""
    inner = smooth(np.float32(0.92) - _radius(grid, lesion), 0.06)
    return mask * inner - np.float32(0.9) * mask * (1 - inner)


def _level(grid: Grid, lesion: Lesion, mask: Array, rng: np.random.Generator) -> Array:
    """Soft tissue with air over a fluid level."""
    above = smooth(np.float32(lesion.numbers["y"]) - grid.xy[1], 0.01)
    return mask * (1 - np.float32(2.2) * smooth(np.float32(0.82) - _radius(grid, lesion), 0.08) * above)


def _metal(grid: Grid, lesion: Lesion, mask: Array, rng: np.random.Generator) -> Array:
    return mask * (
        np.float32(0.7)
        + np.float32(0.3) * smooth(np.float32(0.02) - np.abs(grid.xy[1] - np.float32(lesion.numbers["y"])), 0.01)
    )


def _broken(grid: Grid, lesion: Lesion, mask: Array, rng: np.random.Generator) -> Array:
    """Callus around a dark gap."""
    n, (x, y) = lesion.numbers, grid.xy
    turn = float(rng.uniform(-0.5, 0.5)) + n["tilt"]
    across = (x - np.float32(n["x"])) * np.float32(np.cos(turn)) + (y - np.float32(n["y"])) * np.float32(np.sin(turn))
    return mask * (1 - np.float32(1.1) * smooth(np.float32(0.012) - np.abs(across), 0.008))


_TEXTURES = {
    "broken": _broken,
    "fluffy": _fluffy,
    "net": _net,
    "ring": _ring,
    "bubble": _bubble,
    "level": _level,
    "metal": _metal,
}


def _shape(mask: Array) -> tuple[int, int]:
    return int(mask.shape[0]), int(mask.shape[1])


def _radius(grid: Grid, lesion: Lesion) -> Array:
    n, (x, y) = lesion.numbers, grid.xy
    return np.asarray(
        np.hypot((x - np.float32(n["x"])) / np.float32(n["a"]), (y - np.float32(n["y"])) / np.float32(n["b"])),
        dtype=np.float32,
    )


def _draw_lines(kind: str, lesion: Lesion, amount: float, rng: np.random.Generator, strokes: Strokes) -> None:
    """What of a lesion is lines: scars, walls of dilated bronchi, leads."""
    n = lesion.numbers
    if kind == "fibrosis":
        for _ in range(11):
            u, turn = rng.uniform(-0.75, 0.75, 2), n["phase"] + rng.normal(0, 0.35)
            half = 0.5 * rng.uniform(0.5, 0.9)
            dx, dy = np.cos(turn) * half * n["a"], np.sin(turn) * half * n["b"]
            x, y = n["x"] + 0.7 * u[0] * n["a"], n["y"] + 0.7 * u[1] * n["b"]
            bend = rng.normal(0, 0.012, 2)
            strokes.line([x - dx, x + bend[0], x + dx], [y - dy, y + bend[1], y + dy], 0.011, amount)
    elif kind == "bronchiectasis":
        for _ in range(round(260 * n["a"] * n["b"]) + 5):
            angle, r = rng.uniform(0, 2 * np.pi), 0.85 * np.sqrt(rng.random())
            x, y = n["x"] + r * n["a"] * np.cos(angle), n["y"] + r * n["b"] * np.sin(angle)
            strokes.ring(float(x), float(y), float(rng.uniform(0.014, 0.026)), 0.009, amount)
    elif kind == "pacemaker":
        x, y = n["x"], n["y"]
        strokes.line(
            [x, x * 0.6, 0.05, -0.05, -0.06, 0.0, 0.14], [y - 0.05, y - 0.1, 0.12, 0.3, 0.6, 0.8, 0.9], 0.009, 0.6
        )


def paint_findings(
    grid: Grid, findings: tuple[Finding, ...], contrast: float, rng: np.random.Generator, strokes: Strokes
) -> tuple[Array, Array]:
    """Paint findings.

    Returns:
        What they add to the attenuation, and the share of lung markings that they leave, both (height, width).
        What of them is lines goes to `strokes`.
    """
    added, kept = np.zeros((grid.height, grid.width), np.float32), np.ones((grid.height, grid.width), np.float32)
    for finding in findings:
        kind = KINDS[finding.kind]
        for lesion, box in zip(finding.lesions, finding.boxes, strict=True):
            amount = float(kind.density * (1 if kind.texture == "metal" else contrast) * rng.uniform(0.88, 1.12))
            _draw_lines(finding.kind, lesion, abs(amount), rng, strokes)
            if kind.texture == "none":
                continue
            window = grid.zoomed(box)
            r0, r1, c0, c1 = window.window or (0, grid.height, 0, grid.width)
            mask = mask_of(window, lesion)
            here = added[r0:r1, c0:c1]
            if kind.texture in ("air", "bubble"):
                kept[r0:r1, c0:c1] *= 1 - mask
            if kind.texture == "air":
                dy, dx = np.gradient(mask)
                here += np.float32(amount) * mask
                here += (
                    np.float32(0.3 * contrast)
                    * np.hypot(dx, dy)
                    * smooth(window.lung - 0.025, 0.01)
                    * np.float32(grid.unit / 130)
                )
            elif kind.texture == "lines":
                here += np.float32(0.3 * amount) * mask
            elif kind.texture in _TEXTURES:
                here += np.float32(amount) * _TEXTURES[kind.texture](window, lesion, mask, rng)
            else:
                here += np.float32(amount) * mask
    return added, kept
