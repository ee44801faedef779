"""Lines on a film: vessels, clavicles, catheters, leads. Points are gathered per width, counted and blurred once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.twins.anatomy import Array, Grid

_SIGMAS = np.array([0.6, 0.8, 1.1, 1.5, 2.1, 3.0, 4.2, 6.0, 9.0, 14.0])
Points = npt.NDArray[np.float64]


class Strokes:
    """Polylines in body coordinates, rendered together onto a grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._lines: dict[int, list[tuple[Points, Points, Points]]] = {}

    def line(self, x: npt.ArrayLike, y: npt.ArrayLike, width: float, weight: float) -> None:
        """Add a polyline `width` body units wide whose middle adds about `weight`."""
        xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        total = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(xs), np.diff(ys)))])
        wanted = width * self._grid.unit / 2
        level = int(np.argmin(np.abs(_SIGMAS - wanted)))
        sigma, length = float(_SIGMAS[level]), float(total[-1]) * self._grid.unit
        count = max(2, int(length * 1.2 / max(1.0, 0.5 * sigma)))
        at = np.linspace(0, total[-1], count)
        faint = min(1.0, wanted / sigma)  # thinner than the thinnest: fainter
        amount = np.full(count, weight * faint * sigma * 2.5066 * length / count)
        self._lines.setdefault(level, []).append((np.interp(at, total, xs), np.interp(at, total, ys), amount))

    def ring(self, x: float, y: float, radius: float, width: float, weight: float) -> None:
        """Add a circle."""
        t = np.linspace(0, 2 * np.pi, 14)
        self.line(x + radius * np.cos(t), y + radius * np.sin(t), width, weight)

    def _plane(self, lines: list[tuple[Points, Points, Points]]) -> Array:
        grid, body = self._grid, self._grid.body
        x, y, amount = (np.concatenate(part) for part in zip(*lines, strict=True))
        y = y - 0.55
        c, s = np.cos(body.angle), np.sin(body.angle)
        px = (c * x - s * y) * grid.unit + body.centre[0] * grid.width - 0.5
        py = (s * x + c * y) * grid.unit + body.centre[1] * grid.height - 0.5
        keep = (px >= 0) & (py >= 0) & (px < grid.width - 1) & (py < grid.height - 1)
        px, py, amount = px[keep], py[keep], amount[keep]
        column, row = px.astype(np.int64), py.astype(np.int64)
        fx, fy = px - column, py - row
        first = row * grid.width + column
        index = np.concatenate([first, first + 1, first + grid.width, first + grid.width + 1])
        share = np.concatenate([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]) * np.tile(amount, 4)
        counts = np.bincount(index, weights=share, minlength=grid.height * grid.width)
        return counts.astype(np.float32).reshape(grid.height, grid.width)

    def render(self) -> Array:
        """The sum of all lines, (height, width)."""
        out = np.zeros((self._grid.height, self._grid.width), np.float32)
        for level, lines in sorted(self._lines.items()):
            out += ndimage.gaussian_filter(self._plane(lines), float(_SIGMAS[level]), truncate=2.5)
        return out
