"""Where the pixels of a dataset come from: the cache on disk, memory, or the files themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from medvl.errors import DataError
from medvl.io.cache import ImageCache
from medvl.io.image import ImageArray, read_radiograph

IMAGE_SIZE = 640  # side of the network input where nobody says otherwise
CacheKind = Literal["memory", "disk", "none"]
MARGIN = 1.25  # images are kept this much larger than the network input, so that zooming in blurs nothing


class Pixels:
    """Grey images by path, shrunk to a little more than the network input.

    Args:
        root: The dataset's folder.
        image_size: Side of the network input, in pixels.
        window: Percentiles of the grey values that become black and white.
        cache: Where shrunk images are kept.
        folders: Data sets below the root, by what paths in them begin with; each has a cache of its own. By default the
            root is one.
    """

    def __init__(
        self,
        root: Path,
        image_size: int,
        window: tuple[float, float],
        cache: CacheKind,
        folders: Mapping[str, Path] | None = None,
    ) -> None:
        self.root, self.size, self.window, self.cache = Path(root), round(image_size * MARGIN), window, cache
        self.folders = dict(folders or {"": self.root})
        self._caches: list[tuple[str, ImageCache]] = []
        self._kept: dict[str, ImageArray] = {}

    def __call__(self, path: str) -> ImageArray:
        """Return the image at `path`, relative to the root.

        Raises:
            DataError: The file is missing or damaged.
        """
        if path in self._kept:
            return self._kept[path]
        for prefix, cache in self._caches:
            if path.startswith(prefix) and path[len(prefix) :] in cache:
                return cache[path[len(prefix) :]]
        return read_radiograph(self.root / path, self.size, self.window)

    def prepare(self, paths: Sequence[str]) -> dict[str, str]:
        """Cache the images at `paths`; return those that cannot be read, with the reason."""
        if self.cache == "disk":
            return self._build(paths)
        if self.cache == "memory":
            with ThreadPoolExecutor() as pool:  # decoders release the interpreter lock
                return dict(filter(None, pool.map(self._keep, paths)))
        return {}

    def _build(self, paths: Sequence[str]) -> dict[str, str]:
        """Open or build the caches of the folders that hold `paths`; return those that cannot be read."""
        faults: dict[str, str] = {}
        left = set(paths)
        for prefix in sorted(self.folders, key=len, reverse=True):  # one folder may lie in another
            root = self.folders[prefix]
            own = [path[len(prefix) :] for path in paths if path in left and path.startswith(prefix)]
            left -= {prefix + path for path in own}
            if own:
                # The root is part of the key: two datasets may use the same names, sizes and times.
                cache, unreadable = ImageCache.open_or_build(root, own, str(root.resolve()), self.size, self.window)
                self._caches.append((prefix, cache))
                faults |= {prefix + path: reason for path, reason in unreadable}
        return faults

    def _keep(self, path: str) -> tuple[str, str] | None:
        try:
            self._kept[path] = read_radiograph(self.root / path, self.size, self.window)
        except DataError as error:
            return path, error.what
        return None
