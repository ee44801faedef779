"""TotalSegmentator: 1,228 CTs with 117 structures, as an anatomy curriculum of template snippets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from datamodules.records import Interval, Problem, Snippet, VolumeRecord
from datamodules.sources.cells import cell
from datamodules.sources.organ_masks import SCAN, Depths, measure_folders
from datamodules.sources.rows import read_table
from datamodules.sources.splits import SplitRule
from datamodules.sources.structures import BOTTOM, LANGUAGES, STRUCTURES, TEMPLATES, TOP, WHOLE
from datamodules.sources.volumes import VolumeSource
from medvl.errors import ConfigError, DataError, nearest

Language = Literal["en", "de", "both"]
END = 10.0  # mm on either side of a structure's end that the snippet of the end speaks of
_ATTRIBUTES = {"gender": "sex", "age": "age", "manufacturer": "scanner"}


class TotalSegmentator(VolumeSource):
    """TotalSegmentator as Zenodo gives it: `meta.csv` over `sXXXX/ct.nii.gz` and `sXXXX/segmentations/*.nii.gz`.

    A study is a subject. Its snippets are templates about structures: the whole of one, whose depths are those of its
    mask, and its upper and lower end, 10 mm on either side, where the scan does not cut it off. A mask without voxels
    is a snippet that is not in this scan. There are several templates for each; which one is used hangs on subject and
    structure, and `VolumeData` draws some anew each epoch. There are no reports. Pieces of a mask less than a tenth as
    long as its longest count as noise.

    Assumed: `meta.csv` has `image_id` and `split`; a mask lies in the frame of its CT; a subject is a patient.

    Args:
        root: The folder with `meta.csv`.
        language: Of the templates.
        absent: Snippets at most about structures that are not in the scan.
        workers: Processes that measure masks; one per core by default, 0 for none.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.

    Raises:
        ConfigError: There are no templates in that language.
    """

    name = "totalsegmentator"
    cohort = "totalsegmentator"

    def __init__(
        self,
        root: str | Path,
        language: Language = "en",
        absent: int = 8,
        workers: int | None = None,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        if language not in get_args(Language):
            raise ConfigError(f"unknown language {language!r}", hint=nearest(language, get_args(Language)))
        self.given, self.absent, self.workers = Path(root).expanduser(), absent, workers
        self.languages = LANGUAGES if language == "both" else (language,)

    @property
    def root(self) -> Path:
        """The folder with the table."""
        return self.given

    def tables(self) -> list[Path]:
        """Return the one table."""
        path = self.given / "meta.csv"
        if not path.is_file():
            hint = "expected the folder with meta.csv and s0000/ct.nii.gz"
            raise DataError("no table of TotalSegmentator is here", where=str(self.given), hint=hint)
        return [path]

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every subject with what its masks say, and what is wrong with rows and masks."""
        table = read_table(self.tables()[0])
        table.require("image_id", "split")
        named = [row for row in table.rows if not row.fault and _subject(row.cells.get("image_id"))]
        known_rows = {row.where for row in named}
        for row in table.rows:
            if row.where not in known_rows:
                yield Problem("row-unreadable", row.where, row.fault or "expected an image_id such as s0011")
        folders = [self.given / _subject(row.cells["image_id"]) / "segmentations" for row in named]
        masks = measure_folders(self.given, folders, self.workers, self.follow_links)
        for row, depths in zip(named, masks, strict=True):
            subject = _subject(row.cells["image_id"])
            lost = [f"{name}: {found}" for name, found in depths.items() if isinstance(found, str)]
            if lost or not depths:
                message = f"{len(lost)} masks cannot be read, the first: {lost[0]}" if lost else "there is no mask"
                yield Problem("mask-unreadable", row.where, message, fatal=False)
            if odd := sorted(set(depths) - set(STRUCTURES) - {SCAN}):
                message = f"{len(odd)} masks are of no structure known here, such as {odd[0][:40]!r}; left out"
                yield Problem("structure-unknown", row.where, message, fatal=False)
            known = {name: found for name, found in depths.items() if isinstance(found, list)}
            yield VolumeRecord(
                volumes=(f"{subject}/ct.nii.gz",),
                patient_id=subject,
                study_id=subject,
                split=self.own_split(row.cells.get("split")),
                source=self.name,
                snippets=tuple(self._snippets(subject, known, row.where)),
                attributes={
                    ours: cell(row.cells[key]) for key, ours in _ATTRIBUTES.items() if cell(row.cells.get(key))
                },
                row=row.where,
            )

    def _snippets(self, subject: str, depths: dict[str, Depths], row: str) -> Iterator[Snippet]:
        """Yield snippets of the structures that are there, then of some that are not."""
        scan = depths.get(SCAN, [(0.0, 0.0)])[0]
        there = [name for name in STRUCTURES if depths.get(name)]
        gone = sorted((name for name in STRUCTURES if depths.get(name) == []), key=lambda n: _draw(subject, n))
        for name in there:
            for part, intervals in _parts(depths[name], scan):
                yield from (
                    Snippet(self._text(subject, name, part, at), intervals, organ=name, row=row)
                    for at in range(len(self.languages))
                )
        for at, name in enumerate(gone[: self.absent]):
            yield Snippet(self._text(subject, name, WHOLE, at % len(self.languages)), (), organ=name, row=row)

    def _text(self, subject: str, name: str, part: str, language: int) -> str:
        word = self.languages[language]
        choices = TEMPLATES[word][part]
        text = choices[_draw(subject, name, part, word) % len(choices)].format(STRUCTURES[name][LANGUAGES.index(word)])
        return text[0].upper() + text[1:]


def _parts(depths: Depths, scan: tuple[float, float]) -> Iterator[tuple[str, tuple[Interval, ...]]]:
    """Yield what can be said of a structure: all of it, and those of its ends that lie inside the scan."""
    yield WHOLE, tuple(Interval(*ends) for ends in depths)
    for part, end in ((BOTTOM, depths[0][0]), (TOP, depths[-1][1])):
        if scan[0] + END <= end <= scan[1] - END:
            yield part, (Interval(end - END, end + END),)


def _subject(value: object) -> str:
    """Return the subject that a cell names; '' where it is none, or would leave the folder."""
    name = cell(value)
    return name if name.isalnum() else ""


def _draw(*words: str) -> int:
    """Return a number that hangs on these words alone."""
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8])
