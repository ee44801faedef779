"""CT volumes and masks from NIfTI (`.nii`, `.nii.gz`), refused from the header where the header cannot be true."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from medvl.io.hounsfield import Rescale
from medvl.io.intensity import Units, in_units
from medvl.io.volume import Affine, Volume, VolumeError, canonical, depth_of, guard_affine, guard_voxels, unnumbered

SUFFIXES = (".nii", ".nii.gz")
_HEADERS: dict[int, Any] = {
    348: nibabel.Nifti1Header,
    540: nibabel.Nifti2Header,
}  # by the size that a header starts with
_DEFLATE = 1032  # times that gzip can shrink anything at most
_EXTENSIONS = 4 << 20  # bytes between header and voxels, beyond which the offset is wrong
_SLACK = 0.01  # relative difference allowed between the header's spacing and its affine's


def read_nifti(
    path: Path, rescale: Sequence[Rescale] = (), affine: Affine | None = None, units: Units = "hounsfield"
) -> Volume:
    """Read a volume.

    Args:
        path: A `.nii` or `.nii.gz` with three axes.
        rescale: What a table beside the file declares; trusted before the file's own header, and neither is applied to
            values that are Hounsfield units already (`medvl.io.hounsfield`).
        affine: In place of the file's, where a table knows better: `(i, j, k, 1)` to RAS mm.
        units: What values are to be; `relative` for those that have none, as of an MRI (`medvl.io.intensity`).

    Raises:
        VolumeError: `missing`, `unreadable`, `truncated`, `too-large`, `not-3d`, `one-slice`, `affine`, `nan`,
            `rescale` or `flat`; names the file.
    """
    stored, found, own = _stored(Path(path), affine)
    hu, notes = in_units(units, stored, [*rescale, own], str(path))
    hu, found = canonical(hu, found)
    return Volume(hu, found, unnumbered(depth_of(found, hu.shape)), notes)


def read_labels(path: Path, affine: Affine | None = None) -> tuple[NDArray[Any], Affine]:
    """Read a mask as its stored numbers, `(D, H, W)` with its affine, in the frame of `read_nifti`; errors likewise."""
    stored, found, _ = _stored(Path(path), affine)
    return canonical(stored.astype(stored.dtype.newbyteorder("=")), found)  # a copy: bytes cannot be written to


def _stored(path: Path, affine: Affine | None) -> tuple[NDArray[Any], Affine, Rescale]:
    """Return values `(k, j, i)` as they lie in the file, their affine, and what the header declares of them."""
    header = _header(path)
    shape = _shape(header, path)
    offset, kind = _guard_bytes(path, header, shape)
    placed = guard_affine(np.asarray(affine, np.float64), str(path)) if affine is not None else _affine(header, path)
    values = np.frombuffer(_payload(path, offset, int(np.prod(shape)) * kind.itemsize), kind).reshape(shape[::-1])
    slope, intercept = header.get_slope_inter()
    own = Rescale(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    if values.dtype.kind == "f" and (lost := int((~np.isfinite(values)).sum())):
        raise VolumeError("nan", f"{lost:,} of {values.size:,} voxels are not a number", where=str(path))
    return values, placed, own


def _header(path: Path) -> Any:
    """Parse the header alone."""
    try:
        with _opened(path) as file:
            raw = file.read(max(_HEADERS))
    except FileNotFoundError:
        raise VolumeError("missing", "no such volume", where=str(path)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None
    sizes = {int.from_bytes(raw[:4], order): order for order in ("little", "big")}  # type: ignore[arg-type]
    kind = next((_HEADERS[size] for size in sizes if size in _HEADERS), None)
    if kind is None or len(raw) < kind.sizeof_hdr:
        hint = "expected .nii or .nii.gz"
        raise VolumeError("unreadable", "this file is no NIfTI, or its header is cut off", where=str(path), hint=hint)
    try:
        return kind(raw[: kind.sizeof_hdr], check=False)
    except Exception as error:  # damaged bytes make it raise nearly anything
        raise _damaged(path, error) from None


def _opened(path: Path) -> BinaryIO:
    if path.is_dir():
        raise VolumeError("unreadable", "this is a folder, not a NIfTI file", where=str(path))
    return cast(BinaryIO, gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb"))


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    """Return the guarded `(i, j, k)`; further axes of length one are dropped."""
    try:
        shape = tuple(map(int, header.get_data_shape()))
    except Exception as error:
        raise _damaged(path, error) from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    guard_voxels(shape, str(path))
    return shape[0], shape[1], shape[2]


def _payload(path: Path, offset: int, size: int) -> bytes:
    """Unpack the voxels' bytes; at the end of the stream, which damage may move on, gzip compares its checksum."""
    try:
        with _opened(path) as file:
            file.read(offset)
            data = file.read(size)
            rest = len(file.read(_EXTENSIONS))
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None
    if len(data) < size:
        raise _damaged(path, EOFError())
    if rest == _EXTENSIONS:
        raise VolumeError("unreadable", "damaged: more lies behind the voxels than the header says", where=str(path))
    return data


def _guard_bytes(path: Path, header: Any, shape: tuple[int, int, int]) -> tuple[int, np.dtype[Any]]:
    """Return where the voxels begin and their type; refuse a header that promises more than the file can hold."""
    size = path.stat().st_size
    try:
        offset, kind = float(header["vox_offset"]), np.dtype(header.get_data_dtype())
    except Exception as error:
        raise _damaged(path, error) from None
    if not header.sizeof_hdr <= offset <= _EXTENSIONS:
        raise VolumeError("unreadable", f"damaged header: voxels from byte {offset:.0f} on", where=str(path))
    if kind.kind not in "iuf":
        raise VolumeError("unreadable", f"expected whole or real numbers, not {kind}", where=str(path))
    needed, most = offset + float(np.prod(shape)) * kind.itemsize, size * (_DEFLATE if path.name.endswith(".gz") else 1)
    if needed > most:
        text = " x ".join(map(str, shape))
        what = f"truncated: the header promises {text} voxels, {size:,} bytes cannot hold them"
        raise VolumeError("truncated", what, where=str(path))
    return int(offset), kind


def _affine(header: Any, path: Path) -> Affine:
    """Return the file's affine, guarded, and compared with the spacing that the header names beside it."""
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        hint = "neither sform nor qform is set: left and right cannot be told; pass the affine, or convert it anew"
        raise VolumeError("affine", "wrong affine: this NIfTI has none", where=str(path), hint=hint)
    try:
        affine = guard_affine(np.asarray(header.get_best_affine(), np.float64), str(path))
        named = np.asarray(header.get_zooms()[:3], np.float64)
    except VolumeError:
        raise
    except Exception:  # a quaternion longer than one, and the like
        raise VolumeError("affine", "wrong affine: this NIfTI's is damaged", where=str(path)) from None
    placed = np.sqrt((affine[:3, :3] ** 2).sum(0))
    if (np.abs(placed - named) > _SLACK * named).any():
        texts = [" x ".join(f"{step:.4g}" for step in steps) for steps in (placed, named)]
        what = f"wrong affine: voxels of {texts[0]} mm, but the header says {texts[1]} mm"
        raise VolumeError("affine", what, where=str(path))
    return affine


def _damaged(path: Path, error: Exception) -> VolumeError:
    """Return the error for bytes that cannot be unpacked."""
    if isinstance(error, EOFError | zlib.error) or "CRC" in str(error):
        return VolumeError("truncated", "this NIfTI is cut off or damaged", where=str(path))
    return VolumeError("unreadable", f"this NIfTI cannot be read ({type(error).__name__})", where=str(path))
