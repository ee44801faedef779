"""CheXpert: chest X-rays with labels, and the reports of CheXpert Plus where they are there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.records import Problem, ReportRecord
from datamodules.sources.cells import cell
from datamodules.sources.chexpert_labels import CHEXPERT, chexpert_labels
from datamodules.sources.reporting import ReportSource, Views
from datamodules.sources.rows import read_lines, stream_columns
from datamodules.sources.splits import SplitRule
from datamodules.sources.temporal import Temporal
from medvl.errors import DataError
from medvl.text.sections import ReportText, one_line, sectioned

TABLES = ("train.csv", "valid.csv")
PLUS = "df_chexpert_plus_*.csv"
PLUS_LABELS, PLUS_IMAGES = "chexbert_labels/report_fixed.json", "PNG"
_PATH = re.compile(r"(?P<split>train|valid|test)/(?P<patient>patient\d+)/(?P<study>study\d+)/[^/]+$")
_PLUS_COLUMNS = ("path_to_image", "sex", "age", "frontal_lateral", "ap_pa")
_TEXTS = ("path_to_image", "section_findings", "section_impression", "report")


@dataclass
class _Study:
    """A study: what its rows say of it, in their order."""

    split: str
    row: str
    labels: dict[str, int]
    attributes: dict[str, str]
    images: list[tuple[str, str]] = field(default_factory=list)


class CheXpert(ReportSource):
    """CheXpert as Stanford gives it: `train.csv` and `valid.csv` over `train/patient00001/study1/view1_frontal.jpg`.

    Where `df_chexpert_plus_*.csv` (CheXpert Plus) lies in the folder, studies have its texts; without it they have
    labels only, so `unpaired` is needed, for zero-shot classification or training on labels. The official splits are
    train and valid; `valid` is val here. Labels are those of the images' tables: 1, 0, -1, and nothing for a blank.

    Where CheXpert Plus lies alone, its table names the images, `PNG/train/.../view1_frontal.png` (or as named there),
    and labels are those of its `chexbert_labels/report_fixed.json`, if that is there.

    Args:
        root: The folder that holds the tables (`CheXpert-v1.0` or `CheXpert-v1.0-small`).
        reports: CheXpert Plus' table; by default the one in `root`, if it is there.
        views: `frontal` (AP and PA) or `all`; images left out are counted (see `ReportSource`).
        temporal: What is done with wording that compares with an earlier study: `keep`, `cut` or `drop`.
        unpaired: Whether studies without an image (in these views) or without a text count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "chexpert"
    cohort = "chexpert"

    def __init__(
        self,
        root: str | Path,
        reports: str | Path | None = None,
        views: Views = "frontal",
        temporal: Temporal = "keep",
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(
            views=views,
            temporal=temporal,
            unpaired=unpaired,
            split=split,
            quarantine=quarantine,
            follow_links=follow_links,
        )
        self.given = Path(root).expanduser()
        beside = sorted(self.given.glob(PLUS))
        self.reports = Path(reports).expanduser() if reports else beside[-1] if beside else None

    @property
    def root(self) -> Path:
        """The folder that holds the tables."""
        return self.given

    def tables(self) -> list[Path]:
        """Return the table of texts, if there is one, and those of the images."""
        found = self._image_tables()
        if not found and self.reports:
            labels = self.reports.parent / PLUS_LABELS
            return [*([labels] if labels.is_file() else []), self.reports]
        if not found:
            raise DataError(
                "no table of CheXpert is here",
                where=str(self.given),
                hint="expected the folder with train.csv and valid.csv",
                command="medvl data twin chexpert FOLDER, for a synthetic dataset in this layout",
            )
        return [*([self.reports] if self.reports else []), *found]

    def _image_tables(self) -> list[Path]:
        return [self.given / name for name in TABLES if (self.given / name).is_file()]

    def candidates(self) -> Iterator[ReportRecord | Problem]:
        """Yield every study, or the problems of its rows, and remarks on images left out."""
        texts, studies = self._texts(), dict[tuple[str, str], _Study]()
        for table in self._image_tables():
            yield from self._gather(self._rows(table), studies)
        if not self._image_tables():
            yield from self._gather(self._plus_rows(), studies)
        for (patient, name), study in studies.items():
            images, view, notes = self.seen(study.images, study.row)
            yield from notes
            text = next((texts[key] for path, _ in study.images if (key := _key(path)) in texts), ReportText())
            yield ReportRecord(
                images=images,
                patient_id=patient,
                study_id=f"{patient}/{name}",
                split=study.split,
                source=self.name,
                labels=study.labels,
                attributes=study.attributes | ({"view": view} if view else {}),
                row=study.row,
                **text._asdict(),
            )

    def _rows(self, table: Path) -> Iterator[tuple[list[str], dict[str, int]]]:
        """Yield place, path, sex, age, view and projection of an image, and its labels."""
        for row in stream_columns(table, "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT):
            yield list(row[:6]), chexpert_labels(CHEXPERT, row[6:])

    def _plus_rows(self) -> Iterator[tuple[list[str], dict[str, int]]]:
        """Yield the same of CheXpert Plus alone."""
        *labelled, table = self.tables()
        labels = {}
        for row in read_lines(labelled[0]) if labelled else ():
            cells = [row.cells.get(name) for name in CHEXPERT]
            labels[_key(cell(row.cells.get("path_to_image")))] = chexpert_labels(CHEXPERT, cells)
        png = (self.given / PLUS_IMAGES).is_dir()
        for place, path, *told in stream_columns(table, *_PLUS_COLUMNS):
            shown = f"{PLUS_IMAGES}/{path.rpartition('.')[0]}.png" if png else path
            yield [place, shown, *told], labels.get(_key(path), {})

    def _gather(
        self, rows: Iterable[tuple[list[str], dict[str, int]]], studies: dict[tuple[str, str], _Study]
    ) -> Iterator[Problem]:
        """Add images to their studies; yield a problem per row that names none."""
        for (row, path, sex, age, view, projection), labels in rows:
            found = _PATH.search(path)
            if not found:
                message = "expected a path such as train/patient00001/study1/view1_frontal.jpg"
                yield Problem("path-unreadable", row, message)
                continue
            told = {
                name: cell(value) for name, value in (("sex", sex), ("age", age)) if cell(value) not in ("", "Unknown")
            }
            new = _Study(self.own_split(found["split"]), row, labels, told)
            study = studies.setdefault((found["patient"], found["study"]), new)
            frontal = cell(view).lower() == "frontal"
            start = f"{PLUS_IMAGES}/" if path.startswith(f"{PLUS_IMAGES}/") else ""
            study.images.append((start + found[0], (cell(projection) or "frontal") if frontal else cell(view)))

    def _texts(self) -> dict[str, ReportText]:
        """Return the texts by image; a report without the two sections is split here."""
        if self.reports is None:
            return {}
        found = {}
        for _, path, findings, impression, report in stream_columns(self.reports, *_TEXTS):
            parts = ReportText(one_line(cell(findings)), one_line(cell(impression)))
            if _PATH.search(path):
                found[_key(path)] = parts if any(parts) else sectioned(cell(report))
        return found


def _key(path: str) -> str:
    """Return what an image is called in every table: its path from the split on, without its suffix."""
    found = _PATH.search(path)
    return found[0].rpartition(".")[0] if found else path
