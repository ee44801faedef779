"""Features of volumes in place of their voxels, from a folder that a frozen encoder filled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.voxels import Scan
from medvl.errors import DataError
from medvl.io.features import read_features


class FeatureGrids:
    """Token grids by the path of their volume, as `medvl.io.features` keeps them.

    Args:
        folder: Holds `<volume>.safetensors`, the volume's path being relative to the source's root.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def prepare(self, paths: Sequence[str]) -> dict[str, str]:
        """Return the volumes whose features cannot be read, with the reason."""
        lost = {}
        for path in paths:
            try:
                self(path)
            except DataError as error:
                lost[path] = error.what
        return lost

    def __call__(self, path: str) -> Scan:
        """Return features `(C, D, H, W)` as a scan whose slices are depth positions.

        Raises:
            DataError: They are not there, or damaged.
        """
        found = read_features(self.folder / path)
        return Scan(found.grid, found.depth)
