"""DeepLesion: 32,735 lesions on key slices of CT slabs, as template snippets at the slice's depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from datamodules.records import Interval, Problem, Snippet, VolumeRecord
from datamodules.sources.cells import cell, number
from datamodules.sources.files import LINKED_OUT, strays
from datamodules.sources.rows import Row, read_table
from datamodules.sources.splits import SplitRule
from datamodules.sources.volumes import VolumeSource
from medvl.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from medvl.io.convert import VolumeItem

TABLE, IMAGES = "DL_info.csv", "Images_png"
RESCALE = (1.0, -32768.0)
Language = Literal["en", "de"]
_SPLITS = {1: "train", 2: "val", 3: "test"}
_TYPES = {
    "en": ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis"),
    "de": ("Knochen", "Abdomen", "Mediastinum", "Leber", "Lunge", "Niere", "Weichteile", "Becken"),
}
_WORDS = {"en": ("Lesion: {}.", "There is a lesion."), "de": ("Läsion: {}.", "Es zeigt sich eine Läsion.")}
_COLUMNS = ("File_name", "Patient_index", "Coarse_lesion_type", "Possibly_noisy", "Spacing_mm_px_", "Train_Val_Test")


class DeepLesion(VolumeSource):
    """DeepLesion as it is distributed: `DL_info.csv` over `Images_png/<patient>_<study>_<series>/<slice>.png`.

    A study is a slab, the slices of a series that are there without a gap, some 60 mm; its snippets are its lesions.
    There are no sentences, so a template names the coarse type ("Lesion: liver."), or none where it is not told (all of
    train). The depth is that of the key slice alone. Lesions that the authors doubt are left out and counted; others
    of the slab are not marked, so a snippet may be true elsewhere too.

    Assumed, for lack of the files: slices are numbered from the head down, rows from the front back, columns from the
    patient's right; where the scan lay is not told, so depths count from the place of slice 0.

    Args:
        root: The folder with `DL_info.csv`.
        language: Of the templates.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.

    Raises:
        ConfigError: There are no templates in that language.
    """

    name = "deeplesion"
    cohort = "deeplesion"

    def __init__(
        self,
        root: str | Path,
        language: Language = "en",
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        if language not in get_args(Language):
            raise ConfigError(f"unknown language {language!r}", hint=nearest(language, get_args(Language)))
        self.given, self.language = Path(root).expanduser(), language
        self._listed: dict[str, frozenset[int]] = {}  # the slices of a series that are there
        self._away: dict[str, bool] = {}

    @property
    def root(self) -> Path:
        """The folder with the table."""
        return self.given

    def tables(self) -> list[Path]:
        """Return the one table."""
        path = self.given / TABLE
        if not path.is_file():
            hint = f"expected the folder with {TABLE} and {IMAGES}/"
            raise DataError("no table of DeepLesion is here", where=str(self.given), hint=hint)
        return [path]

    def items(self, paths: Sequence[str]) -> list[VolumeItem]:
        """Return what to convert, with the spacing that the table declares of each series."""
        from medvl.io.convert import VolumeItem

        found = []
        for path in paths:
            series, first = Path(path).parent.name, int(Path(path).stem)
            x, y, z = self.spacings[series]
            rows = ((-x, 0.0, 0.0, 0.0), (0.0, -y, 0.0, 0.0), (0.0, 0.0, -z, -z * first), (0.0, 0.0, 0.0, 1.0))
            found.append(VolumeItem(path, RESCALE, rows))
        return found

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the table."""
        table = read_table(self.tables()[0])
        table.require(*_COLUMNS)
        return table.rows

    @cached_property
    def spacings(self) -> dict[str, tuple[float, float, float]]:
        """Millimetres between columns, rows and slices, by series; the first row of a series tells."""
        found: dict[str, tuple[float, float, float]] = {}
        for row in self.rows:
            steps = [number(part) for part in cell(row.cells.get("Spacing_mm_px_")).split(",")]
            if len(steps) == 3 and all(step > 0 for step in steps):
                found.setdefault(_place(row)[0], (steps[0], steps[1], steps[2]))
        return found

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every slab that holds a key slice, and what is wrong with rows."""
        slabs: dict[str, list[tuple[Row, int]]] = {}
        noisy: list[Row] = []
        for row in self.rows:
            series, key = _place(row)
            if row.fault:
                yield Problem("row-unreadable", row.where, row.fault)
            elif key < 0:
                yield Problem("slice-unnamed", row.where, "expected a File_name such as 000001_01_01_109.png")
            elif self._linked_out(series):
                yield Problem("path-outside", row.where, f"{LINKED_OUT}, for a slice of this series")
            elif series not in self.spacings:
                yield Problem("spacing-unreadable", row.where, "expected Spacing_mm_px_ such as 0.488, 0.488, 5")
            elif number(row.cells.get("Train_Val_Test")) not in _SPLITS:
                yield Problem("split-unknown", row.where, "Train_Val_Test is none of 1, 2 and 3")
            elif number(row.cells.get("Possibly_noisy")) == 1:
                noisy.append(row)
            else:
                slabs.setdefault(self._slab(series, key), []).append((row, key))
        if noisy:
            message = f"{len(noisy)} lesions are possibly noisy, as the authors say; left out"
            yield Problem("lesion-noisy", noisy[0].where, message, fatal=False)
        for path, lesions in slabs.items():
            first = lesions[0][0]
            yield VolumeRecord(
                volumes=(path,),
                patient_id=cell(first.cells.get("Patient_index")).removesuffix(".0"),
                study_id=path.removeprefix(f"{IMAGES}/").removesuffix(".png"),
                split=self.own_split(_SPLITS[int(number(first.cells.get("Train_Val_Test")))]),
                source=self.name,
                snippets=tuple(self._snippet(row, key) for row, key in lesions),
                row=first.where,
            )

    def _slab(self, series: str, key: int) -> str:
        """Return the first slice of the slab around a key slice; the key slice itself where it is not there."""
        numbers = self._slices(series)
        while key in numbers and key - 1 in numbers:
            key -= 1
        return f"{IMAGES}/{series}/{key:03d}.png"

    def _slices(self, series: str) -> frozenset[int]:
        if series not in self._listed:
            folder = self.given / IMAGES / series
            found = (path.stem for path in folder.glob("*.png")) if folder.is_dir() else ()
            self._listed[series] = frozenset(int(stem) for stem in found if stem.isdigit())
        return self._listed[series]

    def _linked_out(self, series: str) -> bool:
        """Whether a slice of a series is there only because a link leaves the folder, which a slab must not take in."""
        if series not in self._away:
            self._away[series] = not self.follow_links and bool(strays(self.given, self.given / IMAGES / series))
        return self._away[series]

    def _snippet(self, row: Row, key: int) -> Snippet:
        step = self.spacings[_place(row)[0]][2]
        kind = number(row.cells.get("Coarse_lesion_type"))
        typed, untyped = _WORDS[self.language]
        known = kind in range(1, 9)
        text = typed.format(_TYPES[self.language][int(kind) - 1]) if known else untyped
        organ = _TYPES["en"][int(kind) - 1] if known else ""
        interval = Interval(round(-step * (key + 0.5), 3), round(-step * (key - 0.5), 3))
        return Snippet(text, (interval,), organ=organ, finding="lesion", row=row.where)


def _place(row: Row) -> tuple[str, int]:
    """Return the folder and the number of a row's key slice; -1 where it names none."""
    series, _, name = cell(row.cells.get("File_name")).replace("\\", "/").replace("/", "_").rpartition("_")
    stem = name.removesuffix(".png")
    return series, int(stem) if series and stem.isdigit() else -1
