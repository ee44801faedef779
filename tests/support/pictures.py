"""What a picture file says of itself."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def size_of(path: str | Path) -> tuple[int, int]:
    """Return width and height, and close the file."""
    with Image.open(path) as image:
        return image.size
