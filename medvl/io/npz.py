"""CT volumes from one array of a NumPy archive, which says nothing of its place: the caller's affine does."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from medvl.io.hounsfield import Rescale, hounsfield
from medvl.io.volume import Affine, Volume, VolumeError, canonical, depth_of, guard_affine, guard_voxels, unnumbered


def read_npz(path: Path, array: str, affine: Affine, rescale: Sequence[Rescale] = ()) -> Volume:
    """Read a CT volume from the array of that name, `(k, j, i)`.

    Args:
        path: A `.npz`; nothing in it is unpickled.
        array: Its name there.
        affine: `(i, j, k, 1)` to RAS mm.
        rescale: As in `read_nifti`.

    Raises:
        VolumeError: As `read_nifti`; names the file.
    """
    where = str(path)
    affine = guard_affine(np.asarray(affine, np.float64), where)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{array}.npy") as file:
            if np.lib.format.read_magic(file) != (1, 0):  # later ones permit headers of gigabytes, for names of fields
                raise VolumeError("unreadable", "expected a plain array (format 1.0)", where=where)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
        guard_voxels(shape, where)
        if kind.kind not in "iuf":
            raise VolumeError("unreadable", f"expected whole or real numbers, not {kind}", where=where)
        with np.load(path, allow_pickle=False) as arrays:
            values = arrays[array]
    except FileNotFoundError:
        raise VolumeError("missing", "no such volume", where=where) from None
    except KeyError:
        raise VolumeError("unreadable", f"no array {array!r} in this archive", where=where) from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise VolumeError("truncated", "this archive is cut off or damaged", where=where) from error
    except (OSError, ValueError, RecursionError, SyntaxError, TokenError) as error:
        raise VolumeError("unreadable", f"cannot be read ({type(error).__name__})", where=where) from error
    if kind.kind == "f" and (lost := int((~np.isfinite(values)).sum())):
        raise VolumeError("nan", f"{lost:,} of {values.size:,} voxels are not a number", where=where)
    hu, notes = hounsfield(values, rescale, where)
    hu, affine = canonical(hu, affine)
    return Volume(hu, affine, unnumbered(depth_of(affine, hu.shape)), notes)
