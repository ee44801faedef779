"""From stored values to Hounsfield units, once: a rescale that was applied already is not applied again.

Converted data often keep the slope and intercept of the scanner in a table beside values that are Hounsfield units by
now. The values themselves tell. Let "low" be what lies under -1,500 HU, where only padding does; "soft edges" what lies
between -980 and -200 HU, where lungs and the skin's edge do and padding does not; "tissue" what lies between -150 and
250 HU, as muscle and organs do: at least 1 % of every scan of a patient; and "fat" its lower end, up to -60 HU, where
as stored next to nothing is: scanners store no numbers below 0 but for padding and the noise of air.

1. A declared rescale is refused as *applied already* when it makes at least 1 % more of the values low than they are as
   stored, and at least 0.1 % of the stored values are soft edges.
2. It is refused, too, when less than 1 % of what it makes is tissue; or less than an eighth of what is tissue as
   stored, where 1 % is fat as stored. A field of view within the body (a spine, a brain) has no air that rule 1 could
   find, and its densest bone becomes what looks like tissue.
3. The first other declared rescale that changes values is applied.
4. Values that nothing rescales are Hounsfield units only if 1 % are tissue, and at least 0.1 % soft edges; where rule 2
   refused a rescale, 1 % of fat will do for these. Else a rescale is missing, wrong or was applied twice, and nothing
   is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvl.io.volume import VolumeError

LOW, EDGES = -1500.0, (-980.0, -200.0)
TISSUE, FAT = (-150.0, 250.0), (-150.0, -60.0)
MORE_LOW, ENOUGH_EDGES, ENOUGH_TISSUE, ENOUGH_FAT = 0.01, 0.001, 0.01, 0.01
SCARCE = 8  # times less tissue than as stored
BLACK, WHITE = -1024, 32767  # what values are clipped to; padding below air says nothing about the patient
APPLIED = "rescale: declared, but the values are Hounsfield units already"
SAMPLED = 2_000_000  # voxels that the shares are taken over, on a regular grid


class Rescale(NamedTuple):
    """HU = slope * stored + intercept; each a number, or an array that spreads over `(k, j, i)`."""

    slope: ArrayLike = 1.0
    intercept: ArrayLike = 0.0

    def of(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Return the rescaled values."""
        return stored * np.asarray(self.slope, np.float64) + np.asarray(self.intercept, np.float64)

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return bool(np.any(np.asarray(self.slope) != 1) or np.any(np.asarray(self.intercept) != 0))


def hounsfield(
    stored: NDArray[Any], declared: Sequence[Rescale], where: str
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Return int16 Hounsfield units, and a note where a declared rescale was left out.

    Args:
        stored: Values `(k, j, i)` as they lie in the file, finite.
        declared: What the file or a table says of them, the most trusted first; the first that fits is applied.
        where: The file, for errors.

    Raises:
        VolumeError: `rescale`: the values are no Hounsfield units, and nothing says how to make them.
    """
    step = max(1, round((stored.size / SAMPLED) ** 0.5))
    sample = stored[:, ::step, ::step]
    already = unfit = False
    for rescale in declared:
        if not rescale.changes:
            continue
        if applied_already(sample, rescale):
            already = True
        elif leaves_no_patient(sample, rescale):
            unfit = True
        else:
            return applied(stored, rescale), (APPLIED,) if already else ()
    if _share(sample, EDGES) < ENOUGH_EDGES and not unfit:
        hint = "nothing lies between -980 and -200; expected Hounsfield units, or RescaleSlope and RescaleIntercept"
        raise VolumeError("rescale", "missing rescale: these values are no Hounsfield units", where=where, hint=hint)
    known = _share(sample, EDGES) >= ENOUGH_EDGES or _share(sample, FAT) >= ENOUGH_FAT
    if not known or _share(sample, TISSUE) < ENOUGH_TISSUE:
        hint = "next to nothing lies between -150 and 250, where muscle does; was a rescale applied twice?"
        hint = f"as declared, {hint}" if unfit else hint
        raise VolumeError("rescale", "wrong rescale: these values are no Hounsfield units", where=where, hint=hint)
    return applied(stored, Rescale()), (APPLIED,) if already or unfit else ()


def applied_already(stored: NDArray[Any], rescale: Rescale) -> bool:
    """Whether `stored` are the Hounsfield units that `rescale` would make, by rule 1 above."""
    more = float((rescale.of(stored) < LOW).mean()) - float((stored < LOW).mean())
    return more >= MORE_LOW and _share(stored, EDGES) >= ENOUGH_EDGES


def leaves_no_patient(stored: NDArray[Any], rescale: Rescale) -> bool:
    """Whether what `rescale` makes of `stored` is no scan of a patient, by rule 2 above."""
    made = _share(rescale.of(stored), TISSUE)
    return made < ENOUGH_TISSUE or (_share(stored, FAT) >= ENOUGH_FAT and made * SCARCE < _share(stored, TISSUE))


def _share(values: NDArray[Any], between: tuple[float, float]) -> float:
    return float(((values > between[0]) & (values < between[1])).mean())


def applied(stored: NDArray[Any], rescale: Rescale) -> NDArray[np.int16]:
    """Rescale, round and clip, slice by slice: a volume in float64 would take four times its room."""
    out = np.empty(stored.shape, np.int16)
    slopes, intercepts = (np.broadcast_to(part, (len(stored), 1, 1)) for part in rescale)
    for index, plane in enumerate(stored):
        if rescale.changes or plane.dtype.kind == "f":
            plane = np.rint(plane * slopes[index] + intercepts[index])
        out[index] = np.clip(plane, BLACK, WHITE)
    return out
