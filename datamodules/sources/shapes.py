"""Images whose shape a table names: another one on disk is another image, or a crop, and the boxes are not of it."""

from __future__ import annotations

from datamodules.sources.files import ImageFolder
from medvl.errors import DataError

_ALIKE = 0.03  # relative difference of the sides' ratio that rounding makes in small copies


class Shapes:
    """Shapes of the images below a folder, each header read once.

    Args:
        images: The folder.
    """

    def __init__(self, images: ImageFolder) -> None:
        self._images = images
        self._seen: dict[str, float] = {}

    def fault(self, path: str, size: tuple[float, float]) -> tuple[str, str] | None:
        """Return code and message where the image is there, can be read, and is no copy of `size` `(H, W)` by shape."""
        ratio = self._ratio(path)
        named = size[1] / size[0]
        if not ratio or abs(ratio / named - 1) <= _ALIKE:
            return None
        message = f"the table says {size[1]:.0f} x {size[0]:.0f} pixels; the image is of another shape: {path}"
        return "image-shape", message

    def _ratio(self, path: str) -> float:
        """Return width over height; 0 where the image has a fault of its own, which is told elsewhere."""
        from medvl.io.image import image_size

        if path not in self._seen:
            self._seen[path] = 0.0
            if self._images.fault(path) is None:
                try:
                    height, width = image_size(self._images.root / path)
                except DataError:
                    return 0.0
                self._seen[path] = width / height
        return self._seen[path]
