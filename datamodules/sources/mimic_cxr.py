"""MIMIC-CXR: the JPEG images and labels of MIMIC-CXR-JPG 2.x with the reports of MIMIC-CXR 2.x."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from zipfile import BadZipFile, ZipFile

from datamodules.records import Problem, ReportRecord
from datamodules.sources.chexpert_labels import CHEXPERT, OTHER_NAMES, chexpert_labels
from datamodules.sources.files import OutsideError, resolve_inside
from datamodules.sources.reporting import ReportSource, Views, plain_text
from datamodules.sources.rows import stream_columns
from datamodules.sources.splits import SplitRule
from datamodules.sources.temporal import Temporal
from medvl.errors import ConfigError, DataError, nearest
from medvl.io.bounded import read_member
from medvl.text.sections import ReportText, one_line, sectioned

Labels = Literal["chexpert", "negbio", "radiologist", "none"]
REPORTS = "mimic-cxr-reports.zip"
_LABELS = {
    "chexpert": "mimic-cxr-2.?.?-chexpert.csv*",
    "negbio": "mimic-cxr-2.?.?-negbio.csv*",
    "radiologist": "mimic-cxr-2.?.?-test-set-labeled.csv*",
}


@dataclass
class _Study:
    """A study of the split table: its images with their views, in the order of the table."""

    patient: str
    split: str
    row: str
    images: list[tuple[str, str]] = field(default_factory=list)
    fault: str = ""


class MIMICCXR(ReportSource):
    """MIMIC-CXR(-JPG) as PhysioNet gives it: `files/p10/p10000032/s50414267/<dicom>.jpg`, tables, reports.

    One record per study, with its official split. Studies without findings and impression are read as their last
    paragraph, as in MIMIC's own code.

    Args:
        root: The folder of MIMIC-CXR-JPG, with its `.csv.gz` tables.
        reports: Where the reports are: the folder that holds `files/p10/.../s50414267.txt`, `mimic-cxr-reports.zip`, or
            `mimic_cxr_sectioned.csv` of MIMIC's own code. By default the zip in `root`, else `root`.
        labels: Which labels: `chexpert`, `negbio`, those of `radiologist` (of 687 test studies), or `none`.
        views: `frontal` (AP and PA) or `all`; images left out are counted (see `ReportSource`).
        temporal: What is done with wording that compares with an earlier study: `keep`, `cut` or `drop`.
        unpaired: Whether studies without an image (in these views) or without a text count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "mimic-cxr"
    cohort = "mimic-cxr"

    def __init__(
        self,
        root: str | Path,
        reports: str | Path | None = None,
        labels: Labels = "chexpert",
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
        if labels not in get_args(Labels):
            raise ConfigError(f"unknown labels {labels!r}", hint=nearest(labels, get_args(Labels)))
        self.given, self.labels = Path(root).expanduser(), labels
        zipped = self.given / REPORTS
        self.reports = Path(reports).expanduser() if reports else zipped if zipped.is_file() else self.given

    @property
    def root(self) -> Path:
        """The folder that holds `files/p10/...`."""
        return self.given

    def tables(self) -> list[Path]:
        """Return the tables of labels, views and splits."""
        names = ["mimic-cxr-2.?.?-metadata.csv*", "mimic-cxr-2.?.?-split.csv*"]
        return [self._find(name) for name in ([_LABELS[self.labels]] if self.labels != "none" else []) + names]

    def _find(self, pattern: str) -> Path:
        found = sorted(self.given.glob(pattern))
        if not found:
            raise DataError(
                f"a table of MIMIC-CXR-JPG is not here: {pattern.rstrip('*')}",
                where=str(self.given),
                hint="expected the folder with files/ and the .csv.gz tables",
                command="medvl data twin mimic-cxr FOLDER, for a synthetic dataset in this layout",
            )
        return found[-1]

    def candidates(self) -> Iterator[ReportRecord | Problem]:
        """Yield every study, or its problem, and remarks on images left out."""
        read, labels = self._reader(), self._labels()
        for name, study in self._studies().items():
            if study.fault:
                yield Problem("row-conflict", study.row, study.fault)
                continue
            try:
                text = read(study.patient, name)
            except OutsideError as error:
                yield Problem("path-outside", study.row, f"its numbers make no file name: {error.what}")
                continue
            if text is None:
                message = "the study has no report, or none that is text"
                yield Problem("report-missing", study.row, message, fatal=False)
            if name not in labels and self.labels in ("chexpert", "negbio"):  # the radiologists' are of 687 studies
                yield Problem("labels-missing", study.row, "the table of labels lacks this study", fatal=False)
            images, view, notes = self.seen(study.images, study.row)
            yield from notes
            yield ReportRecord(
                images=images,
                patient_id=f"p{study.patient}",
                study_id=f"s{name}",
                split=study.split,
                source=self.name,
                labels=labels.get(name, {}),
                attributes={"view": view} if view else {},
                row=study.row,
                **(text or ReportText())._asdict(),
            )

    def _studies(self) -> dict[str, _Study]:
        """Return the studies by their number, in the order of the split table."""
        views = {dicom: view for _, dicom, view in stream_columns(self.tables()[-2], "dicom_id", "ViewPosition")}
        studies: dict[str, _Study] = {}
        for row, dicom, name, patient, word in stream_columns(
            self.tables()[-1], "dicom_id", "study_id", "subject_id", "split"
        ):
            split = self.own_split(word)
            study = studies.setdefault(name, _Study(patient, split, row))
            study.images.append((f"files/p{patient[:2]}/p{patient}/s{name}/{dicom}.jpg", views.get(dicom, "")))
            if (study.patient, study.split) != (patient, split):
                study.fault = f"the rows of this study differ in patient or split, first at {row}"
        return studies

    def _labels(self) -> dict[str, dict[str, int]]:
        """Return the labels by study; the radiologists' table names no patient, and one label otherwise."""
        if self.labels == "none":
            return {}
        names = list(CHEXPERT)
        if self.labels == "radiologist":
            other = {new: old for old, new in OTHER_NAMES.items()}
            names = [other.get(name, name) for name in names]
        rows = stream_columns(self.tables()[0], "study_id", *names)
        return {study: chexpert_labels(names, cells) for _, study, *cells in rows}

    def _reader(self) -> Callable[[str, str], ReportText | None]:
        """Return what reads the report of (patient, study); None where there is none."""
        if self.reports.suffix == ".csv":
            rows = stream_columns(self.reports, "study", "findings", "impression", "last_paragraph")
            texts = {study: ReportText(*map(one_line, parts)) for _, study, *parts in rows}
            return lambda patient, study: texts.get(f"s{study}")
        if self.reports.suffix == ".zip":
            return self._zip_reader()
        return self._from_file

    def _from_file(self, patient: str, study: str) -> ReportText | None:
        path = resolve_inside(self.reports, f"files/p{patient[:2]}/p{patient}/s{study}.txt", self.follow_links)
        try:
            return _sections(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"a report cannot be read ({error.strerror})", where=str(self.reports)) from None

    def _zip_reader(self) -> Callable[[str, str], ReportText | None]:
        try:
            archive = ZipFile(self.reports)
        except (OSError, BadZipFile):
            raise DataError("the archive of reports cannot be read", where=str(self.reports)) from None
        names = {name.rpartition("/")[2]: name for name in archive.namelist() if name.endswith(".txt")}

        def read(patient: str, study: str) -> ReportText | None:
            name = names.get(f"s{study}.txt")
            return _sections(read_member(archive, name)) if name else None

        return read


def _sections(content: bytes) -> ReportText | None:
    """Return the sections of a report; None where the file is no text."""
    text = plain_text(content)
    return None if text is None else sectioned(text)
