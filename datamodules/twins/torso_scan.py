"""How a torso is scanned: stretch, spacing, place on the table, reconstruction kernel and noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.twins.torso import AIR, Canvas, Grid, Torso

SHORTEST = 175.0  # mm of the patient's depth
MOST_SLICES = 160


@dataclass(frozen=True, slots=True)
class Site:
    """A hospital: what its scanner and its wording have in common.

    Attributes:
        scanner: Its maker, as the metadata name it.
        kernels: Names of its reconstruction kernels, the smooth one first.
        spacings: Millimetres between slices that it uses.
        blur: Voxels of Gaussian blur of the smooth kernel; the sharp one has none.
        noise: Hounsfield units of noise, of either kernel.
    """

    scanner: str
    kernels: tuple[str, str]
    spacings: tuple[float, ...]
    blur: float
    noise: tuple[float, float]


SITES = (
    Site("Philips Medical Systems", ("B", "YA"), (1.5, 2.0, 3.0), 0.55, (14.0, 34.0)),
    Site("SIEMENS", ("Br40f", "Br64f"), (2.0, 3.0, 5.0), 0.7, (10.0, 26.0)),
    Site("PNMS", ("SOFT", "LUNG"), (3.0, 4.0, 5.0), 0.45, (18.0, 40.0)),
)
_FIELDS = (  # chance, depths of the lower and of the upper end in the body frame
    (0.40, (-140.0, -40.0), (205.0, 245.0)),
    (0.34, (-310.0, -210.0), (205.0, 245.0)),
    (0.14, (-300.0, -160.0), (50.0, 140.0)),
    (0.12, (-30.0, 30.0), (215.0, 250.0)),
)


@dataclass(frozen=True, slots=True)
class Scan:
    """One reconstruction; millimetres of the RAS frame.

    Attributes:
        shape: Voxels `(D, H, W)`.
        spacing: Millimetres between them `(D, H, W)`.
        origin: `(x, y, z)` of the first voxel.
        middle: `(x, y, z)` of the body frame's zero.
        turn: Rotation of the patient about z in radians.
        kernel: 0 smooth, 1 sharp.
        noise: Seed of the noise.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    middle: tuple[float, float, float]
    turn: float
    kernel: int
    noise: int

    @property
    def affine(self) -> NDArray[np.float64]:
        """From `(w, h, d, 1)` to RAS mm."""
        affine = np.diag([*self.spacing[::-1], 1.0])
        affine[:3, 3] = self.origin
        return affine

    @property
    def depths(self) -> NDArray[np.float64]:
        """The depths of the slices' middles."""
        return np.asarray(self.origin[2] + self.spacing[0] * np.arange(self.shape[0]), np.float64)

    def grid(self, torso: Torso) -> Grid:
        """Return where the voxels lie in a patient's body."""
        (_, height, width), (_, row, column) = self.shape, self.spacing
        x = self.origin[0] - self.middle[0] + column * np.arange(width)
        y = self.origin[1] - self.middle[1] + row * np.arange(height)
        z = (self.depths - self.middle[2]) / torso.scale[2]
        c, s = np.cos(self.turn), np.sin(self.turn)
        right, front = (c * x + s * y[:, None]) / torso.scale[0], (c * y[:, None] - s * x) / torso.scale[1]
        return Grid(right.astype(np.float32)[None], front.astype(np.float32)[None], z.astype(np.float32)[:, None, None])

    def depth(self, z: float, torso: Torso) -> float:
        """Return the depth in mm of the RAS frame at a depth of the body frame."""
        return self.middle[2] + z * torso.scale[2]


def sample_scan(rng: np.random.Generator, torso: Torso, site: Site, size: int) -> Scan:
    """Draw how a patient is scanned, in `size` voxels across."""
    chances = [chance for chance, _, _ in _FIELDS]
    _, lows, highs = _FIELDS[int(rng.choice(len(_FIELDS), p=chances))]
    low, high = float(rng.uniform(*lows)), float(rng.uniform(*highs))
    stretch = max((high - low) * torso.scale[2], SHORTEST)
    fitting = [step for step in site.spacings if stretch / step <= MOST_SLICES]
    step = float(rng.choice(fitting or site.spacings[-1:]))
    width = 2 * 188 * torso.scale[0] * float(rng.uniform(1.0, 1.12))
    pixel = width / size
    middle = (float(rng.normal(0, 6)), float(rng.normal(0, 9)), float(rng.uniform(-900, 300)))
    half = pixel * (size - 1) / 2
    bottom = middle[2] + high * torso.scale[2] - stretch
    return Scan(
        shape=(max(round(stretch / step), 2), size, size),
        spacing=(step, pixel, pixel),
        origin=(float(rng.normal(0, 3)) - half, float(rng.normal(0, 3)) - half, bottom),
        middle=middle,
        turn=float(rng.normal(0, 0.04)),
        kernel=int(rng.random() < 0.3),
        noise=int(rng.integers(2**31)),
    )


def again(scan: Scan, site: Site) -> Scan:
    """Return another reconstruction of the same scan: the other kernel, and slices of the site's thickest spacing."""
    step = max(site.spacings)
    count = max(round(scan.shape[0] * scan.spacing[0] / step), 2)
    spacing, shape = (step, *scan.spacing[1:]), (count, *scan.shape[1:])
    return replace(scan, shape=shape, spacing=spacing, kernel=1 - scan.kernel, noise=scan.noise + 1)


def finish(canvas: Canvas, scan: Scan, site: Site, noise: float) -> NDArray[np.int16]:
    """Return the scan of a painted body: table, blur, and noise times `noise`; at least -1024."""
    grid, hu = canvas.grid, canvas.hu
    table = np.abs(grid.y + 124 - (grid.x / 210) ** 2 * 16)
    hu = np.where((table < 4) & (np.abs(grid.x) < 205) & (hu < -700), np.float32(-180), hu)
    rng = np.random.default_rng(scan.noise)
    grain = rng.standard_normal(hu.shape, dtype=np.float32)
    if scan.kernel == 0:
        hu = ndimage.gaussian_filter(hu, (0, site.blur, site.blur))
        grain = ndimage.gaussian_filter(grain, (0, 0.6, 0.6)) * np.float32(1.9)
    spread = np.float32(site.noise[scan.kernel] * noise) * np.where(hu < AIR + 60, np.float32(0.4), np.float32(1))
    return np.asarray(np.clip(np.rint(hu + spread * grain), -1024, 3071), np.int16)
