"""What the values of a volume mean: Hounsfield units of a CT, or grey values that have no unit, as of an MRI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medvl.io.hounsfield import SAMPLED, Rescale, applied, hounsfield
from medvl.io.volume import VolumeError

Units = Literal["hounsfield", "relative"]
ENDS = (0.5, 99.5)  # percentiles of the values that become the ends of the scale
SCALE = (-1000.0, 1000.0)  # black and white, where a CT's default window has them


def in_units(
    units: Units, stored: NDArray[Any], declared: Sequence[Rescale], where: str
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Return int16 values, and notes; arguments and errors as in `hounsfield` and `relative`."""
    return (hounsfield if units == "hounsfield" else relative)(stored, declared, where)


def relative(
    stored: NDArray[Any], declared: Sequence[Rescale], where: str
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Return int16 values of which the percentiles .5 and 99.5 of the volume are -1000 and 1000, and no notes.

    What scans without a unit have in common is their range, if anything (Nyúl and Udupa 1999 match more landmarks).

    Args:
        stored: Values `(k, j, i)` as they lie in the file, finite.
        declared: What the file says of them; the first that does anything is applied, for it may differ by slice.
        where: The file, for errors.

    Raises:
        VolumeError: `flat`: there is one value, or nearly so.
    """
    own = next((rescale for rescale in declared if rescale.changes), Rescale())
    step = max(1, round((stored.size / SAMPLED) ** 0.5))
    low, high = np.percentile(own.of(stored[:, ::step, ::step]), ENDS)
    if not high > low:
        hint = "expected a scan; is this a mask?"
        raise VolumeError("flat", "nearly all voxels have one value", where=where, hint=hint)
    factor = (SCALE[1] - SCALE[0]) / (high - low)
    slope, intercept = (np.asarray(part, np.float64) for part in own)
    return applied(stored, Rescale(slope * factor, (intercept - low) * factor + SCALE[0])), ()
