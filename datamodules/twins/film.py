"""Paint a plan: attenuation of the body, its findings and its devices, then exposure, noise and film borders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.twins.anatomy import Anatomy, Array, Grid, smooth
from datamodules.twins.findings import KINDS, Finding, Lesion, mask_of

_WORK = 512  # the longest side that is painted; larger films are enlarged from it and get their noise at full size


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> Array:
    """Smooth noise of unit spread whose grains are `cell` pixels wide."""
    rows, columns = shape[0] // cell + 4, shape[1] // cell + 4
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    fine = ndimage.zoom(coarse, cell, order=1)
    if cell > 2:
        fine = ndimage.uniform_filter(fine, cell)
    fine = fine[cell : cell + shape[0], cell : cell + shape[1]]
    return np.asarray(fine / max(float(fine.std()), 1e-6), dtype=np.float32)


class _Strokes:
    """Lines drawn as points in body coordinates, gathered per width and blurred once."""

    def __init__(self, grid: Grid) -> None:
        self._grid, self._planes = grid, {}  # type: tuple[Grid, dict[float, Array]]
        self._unit = max(grid.height, grid.width) * grid.body.scale  # pixels per body unit

    def line(self, x: npt.ArrayLike, y: npt.ArrayLike, width: float, weight: float) -> None:
        """A polyline of `width` (body units) whose middle adds about `weight`."""
        xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        steps = np.hypot(np.diff(xs), np.diff(ys))
        total = np.concatenate([[0.0], np.cumsum(steps)])
        count = max(2, int(total[-1] * self._unit * 1.5))
        at = np.linspace(0, total[-1], count)
        body = self._grid.body
        bx, by = np.interp(at, total, xs), np.interp(at, total, ys) - 0.55
        c, s = np.cos(body.angle), np.sin(body.angle)
        px = (c * bx - s * by) * self._unit + body.centre[0] * self._grid.width - 0.5
        py = (s * bx + c * by) * self._unit + body.centre[1] * self._grid.height - 0.5
        sigma = max(0.6, width * self._unit / 2)
        plane = self._planes.setdefault(round(sigma, 1), np.zeros((self._grid.height, self._grid.width), np.float32))
        column, row = np.floor(px).astype(int), np.floor(py).astype(int)
        fx, fy = px - column, py - row
        amount = weight * sigma * 2.5066 * total[-1] * self._unit / count
        for dx, dy, share in ((0, 0, (1 - fx) * (1 - fy)), (1, 0, fx * (1 - fy)), (0, 1, (1 - fx) * fy), (1, 1, fx * fy)):
            r, q = row + dy, column + dx
            ok = (r >= 0) & (r < self._grid.height) & (q >= 0) & (q < self._grid.width)
            np.add.at(plane, (r[ok], q[ok]), (amount * share[ok]).astype(np.float32))

    def render(self) -> Array:
        """The sum of all strokes, (height, width)."""
        out = np.zeros((self._grid.height, self._grid.width), np.float32)
        for sigma, plane in self._planes.items():
            out += ndimage.gaussian_filter(plane, sigma, truncate=2.5)
        return out


def _vessels(rng: np.random.Generator, grid: Grid) -> Array:
    """Branching vessels from both hila, thinner and fainter outwards."""
    strokes = _Strokes(grid)

    def grow(x: float, y: float, heading: float, length: float, width: float, depth: int) -> None:
        bend = rng.normal(0, 0.25)
        t = np.linspace(0, 1, 6)
        angles = heading + bend * t
        xs = x + np.concatenate([[0], np.cumsum(np.cos(angles[:-1]) * length / 5)])
        ys = y + np.concatenate([[0], np.cumsum(np.sin(angles[:-1]) * length / 5)])
        strokes.line(xs, ys, width, 0.035 + 3.0 * width)
        if depth:
            for turn in (rng.uniform(0.2, 0.5), -rng.uniform(0.2, 0.5)):
                grow(float(xs[-1]), float(ys[-1]), float(angles[-1] + turn), length * rng.uniform(0.62, 0.85), width * 0.68, depth - 1)

    for sign, hilum in ((-1, 0.45), (1, 0.41)):
        for heading in (-1.15, -0.6, -0.1, 0.35, 0.8, 1.2):
            along = heading + rng.normal(0, 0.08)
            direction = along if sign > 0 else np.pi - along
            grow(sign * 0.15, hilum + 0.05 * np.sin(heading), direction, rng.uniform(0.13, 0.18), 0.02, 3)
    return strokes.render()


def _ribs(grid: Grid, rng: np.random.Generator) -> Array:
    """Posterior and anterior ribs: bands that are level sets of two bent height functions."""
    x, y = grid.xy
    reach = np.abs(x)
    wall = grid.body.wall(y) + 0.012
    t = np.clip(reach / np.maximum(wall, 0.05), 0, 1.05)
    wobble = np.float32(rng.uniform(-0.02, 0.02)) * np.sin(7 * y + np.float32(rng.uniform(0, 6)))
    out = np.zeros_like(x)
    inside = smooth(wall - reach, 0.012) * smooth(np.float32(1.42) - y, 0.1)
    for rise, slope, curl, gap, thick, strength, start in (
        (0.05, 0.10, 0.20, 0.113, 0.30, 0.10, 0.07), (0.0, -0.30, -0.12, 0.135, 0.27, 0.055, 0.2),
    ):  # fmt: skip
        height = y + wobble + np.float32(rise) * t - np.float32(slope) * t * t - np.float32(curl) * t**6
        phase = height / np.float32(gap) + np.float32(rng.uniform(0, 1))
        off = np.abs(phase - np.round(phase))
        band = smooth(np.float32(thick) - off, 0.07) + 0.7 * np.exp(-(((off - np.float32(thick - 0.05)) * 18) ** 2))
        out += np.float32(strength) * band * smooth(reach - np.float32(start), 0.03)
    return out * inside


def _shoulders(strokes: _Strokes, rng: np.random.Generator, body: Anatomy) -> None:
    """Clavicles, and the borders of the scapulae."""
    tilt = rng.normal(0.03, 0.03)
    for sign in (-1, 1):
        xs = np.array([0.06, 0.15, 0.28, 0.42, 0.56, 0.7]) * body.wide
        ys = np.array([0.16, 0.13, 0.09, 0.055, 0.03, -0.02]) + tilt + sign * body.angle * 0.2
        strokes.line(sign * xs, ys, 0.042, 0.13)
        for shift in (-0.024, 0.024):
            strokes.line(sign * xs, ys + shift, 0.008, 0.07)
        out = rng.uniform(0.5, 0.6) * body.wide
        strokes.line(sign * np.array([out, out - 0.06, out - 0.02, out + 0.05]), [0.02, 0.2, 0.4, 0.56], 0.012, 0.05)
        strokes.line(sign * np.array([0.62, 0.72, 0.8]) * body.wide, [-0.04, 0.0, 0.07], 0.11, 0.2)


def _body(grid: Grid, rng: np.random.Generator) -> Array:
    """Attenuation without lungs' texture, findings and devices."""
    body = grid.body
    x, y = grid.xy
    reach = np.abs(x)
    skin = body.skin(y)
    t = np.clip(1 - (reach / np.maximum(skin, 0.05)) ** 2, 0, 1)
    thick = np.sqrt(t) * smooth(skin - reach, 0.015)
    out = thick * np.float32(0.62 + 0.06 * body.stout)
    out += 0.16 * smooth(reach - body.wall(y), 0.1) * thick
    lungs = smooth(grid.lung, 0.016) * smooth(y + 0.01, 0.03)
    out -= np.float32(0.52) * lungs * (0.9 + 0.1 * smooth(np.float32(0.6) - y, 0.5))
    below = smooth(y - body.dome(x), 0.02) * smooth(body.wall(y) - reach, 0.05)
    out += 0.17 * below
    out += np.float32(0.3) * smooth(grid.heart, 0.09) * (1 - 0.55 * below)
    out += np.float32(0.2) * smooth(np.float32(0.10) - reach, 0.05)
    disc = np.abs(np.mod(y / 0.105 + 0.2, 1) - 0.5)
    out += np.float32(0.1) * smooth(np.float32(0.062) - reach, 0.012) * (0.55 + 0.45 * smooth(np.float32(0.4) - disc, 0.06))
    knob, at = body.knob
    out += np.float32(0.2) * smooth(1 - np.hypot((x - 0.085) / (0.068 * knob), (y - np.float32(at)) / (0.075 * knob)), 0.15)
    out += np.float32(0.1) * smooth(np.float32(0.03) - np.abs(x - 0.1 * knob), 0.02) * smooth(y - np.float32(at), 0.1) * (y < 0.95)
    trachea = smooth(np.float32(0.033) - np.abs(x + 0.01 + 0.02 * y), 0.012) * smooth(np.float32(0.36) - y, 0.06)
    out -= np.float32(0.13) * trachea
    for sign, hilum in ((-1, 0.45), (1, 0.41)):
        r = np.hypot((x - np.float32(sign * 0.15)) / 0.055, (y - np.float32(hilum)) / 0.095)
        out += np.float32(0.13) * smooth(1 - r, 0.5)
    size = float(rng.uniform(0.07, 0.14))
    bubble = np.hypot((x - 0.3) / (size * 1.3), (y - np.float32(body.domes[1] + 0.05 + size * 0.6)) / (size * 0.7))
    out -= np.float32(rng.uniform(0.1, 0.3)) * smooth(1 - bubble, 0.2) * smooth(y - body.dome(x) - 0.02, 0.015)
    if body.sex == "F":
        drop, wide = rng.uniform(0.72, 0.95), rng.uniform(0.2, 0.26)
        for sign in (-1, 1):
            r = np.hypot((x - np.float32(sign * 0.36)) / wide, (y - np.float32(drop)) / np.where(y > drop, 0.17, 0.42))
            out += np.float32(0.05 + 0.035 * body.stout) * smooth(1 - r, 0.25)
    return out


def _texture(kind: str, grid: Grid, lesion: Lesion, mask: Array, nets: tuple[Array, Array]) -> Array:
    """What a lesion adds, before its density: its mask with the texture of its kind."""
    fine, coarse = nets
    x, y = grid.xy
    texture, n = KINDS[kind].texture, lesion.numbers
    if texture == "fluffy":
        return mask * (0.85 + 0.14 * coarse + 0.06 * fine)
    if texture == "net":
        return mask * (0.35 + 1.0 * np.exp(-((fine * 2.2) ** 2)))
    if texture == "streaks":
        u = (x * np.float32(np.cos(n["phase"])) + y * np.float32(np.sin(n["phase"]))) * 70 + 1.6 * coarse
        return mask * (0.3 + 0.85 * np.clip(np.sin(u), 0, 1) ** 2)
    if texture == "rings":
        u, v = np.sin(x * 105 + 0.8 * coarse), np.sin(y * 105 + 0.8 * coarse)
        return mask * (0.25 + 1.1 * np.exp(-(((u * u + v * v) - 1.0) ** 2) * 9) - 0.15)
    if texture in ("ring", "bubble", "level"):
        inner = smooth(mask - 0.5, 0.1) * 0
        r = np.hypot((x - np.float32(n["x"])) / np.float32(n["a"]), (y - np.float32(n["y"])) / np.float32(n["b"]))
        inner = smooth(np.float32(0.66 if texture == "ring" else 0.9) - r, 0.08)
        if texture == "ring":
            return mask * (1 - 0.9 * inner)
        if texture == "bubble":
            return mask * inner - 0.9 * mask * (1 - inner)
        return mask * (1 - 0.85 * inner * smooth(np.float32(n["y"]) - y, 0.01))
    if texture == "metal":
        return mask * (0.7 + 0.3 * smooth(np.float32(0.02) - np.abs(y - np.float32(n["y"]) - 0.02), 0.01))
    return mask


def _pathology(grid: Grid, findings: tuple[Finding, ...], contrast: float, rng: np.random.Generator) -> tuple[Array, Array, _Strokes]:
    """Density added by findings, what share of lung markings stays, and the leads of devices."""
    shape = (grid.height, grid.width)
    added, kept, strokes = np.zeros(shape, np.float32), np.ones(shape, np.float32), _Strokes(grid)
    cell = max(2, round(0.02 * grid.body.scale * max(shape)))
    nets = (_noise(rng, shape, cell), _noise(rng, shape, 3 * cell))
    for finding in findings:
        kind = KINDS[finding.kind]
        for lesion in finding.lesions:
            if kind.texture == "none":
                continue
            mask = mask_of(grid, lesion)
            amount = np.float32(kind.density * (1 if kind.texture == "metal" else contrast) * rng.uniform(0.88, 1.12))
            if kind.texture == "air":
                kept *= 1 - mask
                edge = ndimage.gaussian_gradient_magnitude(mask, 1.0) * smooth(grid.lung - 0.02, 0.01)
                added += amount * mask + np.float32(0.3 * contrast) * edge
                continue
            if kind.texture == "bubble":
                kept *= 1 - mask
            added += amount * _texture(finding.kind, grid, lesion, mask, nets)
            if kind.texture == "metal":
                x, y = lesion.numbers["x"], lesion.numbers["y"]
                strokes.line([x, x * 0.6, 0.05, -0.05, -0.06, 0.0, 0.14], [y - 0.05, y - 0.1, 0.12, 0.3, 0.6, 0.8, 0.9], 0.008, 0.45)
    return added, kept, strokes


_LETTERS = {
    "L": ["1000", "1000", "1000", "1000", "1000", "1111"],
    "R": ["1110", "1001", "1001", "1110", "1010", "1001"],
}


def _distractors(grid: Grid, rng: np.random.Generator, out: Array) -> None:
    """Electrodes with their leads, tubes, clips and a side marker: on many films, never in a sentence."""
    body, strokes = grid.body, _Strokes(grid)
    x, y = grid.xy
    if rng.random() < (0.6 if body.view == "AP" else 0.12):
        for _ in range(int(rng.integers(2, 5))):
            cx, cy = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.0, 1.0))
            out += np.float32(0.3) * smooth(0.016 - np.hypot(x - np.float32(cx), y - np.float32(cy)), 0.006)
            end = float(rng.uniform(-0.7, 0.7))
            strokes.line([cx, (cx + end) / 2 + rng.normal(0, 0.05), end], [cy, cy + 0.35, 1.5], 0.006, 0.2)
    if rng.random() < (0.45 if body.view == "AP" else 0.04):
        top = float(rng.uniform(0.15, 0.3))
        for shift in (-0.012, 0.012):
            strokes.line([shift, shift - 0.01, shift - 0.015], [-0.5, 0.0, top], 0.006, 0.16)
    if rng.random() < (0.35 if body.view == "AP" else 0.05):
        side = -1 if rng.random() < 0.7 else 1
        strokes.line([side * 0.2, side * 0.14, -0.06, -0.08], [-0.3, 0.02, 0.18, rng.uniform(0.4, 0.55)], 0.007, 0.22)
    if rng.random() < 0.06:
        for k in range(5):
            strokes.line([-0.012, 0.012], [0.2 + 0.13 * k, 0.215 + 0.13 * k], 0.009, 0.7)
    out += strokes.render()
    if rng.random() < 0.75:
        left = rng.random() < 0.6
        glyph = np.array([[int(c) for c in row] for row in _LETTERS["L" if left else "R"]], dtype=np.float32)
        cell = max(1, round(max(grid.height, grid.width) * rng.uniform(0.006, 0.01)))
        block = np.kron(glyph, np.ones((cell, cell), np.float32))
        row = int(grid.height * rng.uniform(0.06, 0.16))
        edge = int(grid.width * rng.uniform(0.03, 0.09))
        column = grid.width - edge - block.shape[1] if left else edge
        out[row : row + block.shape[0], column : column + block.shape[1]] += np.float32(rng.uniform(0.5, 1.0)) * block


def paint(
    body: Anatomy, findings: tuple[Finding, ...], rng: np.random.Generator, difficulty: float, long_side: int
) -> npt.NDArray[np.uint16]:
    """The film of a body with its findings.

    Args:
        body: Anatomy and position.
        findings: What to paint; a lesion's contrast falls from 1.2 to 0.5 of its kind's as difficulty goes 0 to 1.
        rng: Textures, exposure and noise.
        difficulty: 0 easy to 1 hard: contrast of findings, noise.
        long_side: Longest side of the film in pixels.

    Returns:
        (height, width) uint16 with values up to about 4095.
    """
    grid = Grid(body, *body.shape(min(long_side, _WORK)))
    shape = (grid.height, grid.width)
    contrast = 1.2 - 0.7 * difficulty
    added, kept, leads = _pathology(grid, findings, contrast, rng)
    lungs = smooth(grid.lung, 0.03)
    out = _body(grid, rng) + _ribs(grid, rng)
    clutter = (0.6 + 0.8 * difficulty) * rng.uniform(0.7, 1.2)
    marks = _vessels(rng, grid) * np.float32(0.9 * clutter) + np.float32(0.012 * clutter) * _noise(rng, shape, 5)
    out += marks * kept * lungs
    bones = _Strokes(grid)
    _shoulders(bones, rng, body)
    out += bones.render() + added + leads.render()
    _distractors(grid, rng, out)
    out = ndimage.gaussian_filter(out, float(rng.uniform(0.4, 0.9)))
    if long_side > _WORK:
        height, width = body.shape(long_side)
        out = ndimage.zoom(out, (height / shape[0], width / shape[1]), order=1)[:height, :width]
        grid = Grid(body, *out.shape)
    return _expose(out, grid, rng, difficulty)


def _expose(out: Array, grid: Grid, rng: np.random.Generator, difficulty: float) -> npt.NDArray[np.uint16]:
    """Film curve, noise, collimation and a random 12-bit window."""
    gamma, toe = float(rng.uniform(0.75, 1.15)), float(rng.uniform(0.02, 0.1))
    value = np.clip((out + toe) / float(rng.uniform(1.05, 1.3)), 0, 1.25) ** np.float32(gamma)
    grain = rng.standard_normal(out.shape, dtype=np.float32)
    value = value + grain * np.float32((0.006 + 0.02 * difficulty * rng.random()))
    low, high = float(rng.uniform(0, 250)), float(rng.uniform(1800, 3900))
    value = np.where(grid.field, value * np.float32(high - low) + np.float32(low), np.float32(low * 0.5))
    return np.asarray(np.clip(np.rint(value), 0, 4095), dtype=np.uint16)
