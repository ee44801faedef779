"""Reports with the images they are about: one text file, a folder of them, a table, or a data set of reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.records import ReportRecord
from datamodules.sources.base import Source
from datamodules.sources.cells import cell
from datamodules.sources.files import resolve_inside
from datamodules.sources.rows import Row, read_table
from medvl.errors import ConfigError, DataError, nearest

TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".zip")
IMAGES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", "")
COLUMNS = ("image", "report", "study_id")


@dataclass(frozen=True)
class Study:
    """One report and the images it is about.

    Attributes:
        name: As its source calls it.
        images: The image files, none of them opened yet.
        report: The text; None where somebody else is to write it.
        where: Where it was read, for errors: a file, or a table's row.
    """

    name: str
    images: list[Path] = field(default_factory=list)
    report: str | None = None
    where: str = ""


def read_studies(
    report: Path | None, images: Sequence[Path] = (), columns: Mapping[str, str] | None = None
) -> list[Study]:
    """Return the studies that a user names.

    Args:
        report: A text file, about all `images`; a folder of text files, each about the image of the same name; a table
            with the columns `image` and `report` (rows of one `study_id` are one study). None: every image is a study
            whose report is to be written.
        images: Image files; or the one folder that holds them, where `report` is a folder, a table or None.
        columns: The table's names of its columns, where they differ, ours first.

    Raises:
        DataError: A file is missing or cannot be read, or there is nothing in it.
        ConfigError: What is named does not go together.
    """
    folder = images[0] if len(images) == 1 and images[0].is_dir() else None
    if report is None:
        files = _images_in(folder) if folder else images
        return [Study(file.stem, [file], None, str(file)) for file in files]
    several = report.is_dir() or report.suffix.lower() in TABLES
    if several and images and not folder:
        hint = "expected --image FOLDER, or none: they lie beside the reports then"
        raise ConfigError("several reports need a folder of images", where=str(images[0]), hint=hint)
    if report.is_dir():
        return list(_of_folder(report, folder or report))
    if several:
        return list(_of_table(report, folder or report.parent, columns or {}))
    if folder or not images:
        raise ConfigError("which image is the report about?", where=str(report), hint="--image FILE [FILE ...]")
    return [Study(report.stem, list(images), read_text(report), str(report))]


def studies_of(source: Source[ReportRecord], split: str | None = None) -> list[Study]:
    """Return the studies of a data set, its sections under their headings.

    Args:
        source: The data set.
        split: Only that one; None for all.

    Raises:
        DataError: The data set cannot be read, or no study of that split has an image.
    """
    records = [record for record in source.load().records if record.images and split in (None, record.split)]
    if not records:
        raise DataError(f"no study with an image in {split or 'any split'}", where=str(source.root))
    return [_of_record(source, record) for record in records]


def _of_record(source: Source[ReportRecord], record: ReportRecord) -> Study:
    images = [resolve_inside(source.root, path, source.follow_links) for path in record.images]
    parts = {"FINDINGS": record.findings, "IMPRESSION": record.impression}
    report = "\n\n".join(f"{name}: {text}" for name, text in parts.items() if text) or record.other
    return Study(record.study_id, images, report or None, record.row)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or, failing that, Windows' own encoding.

    Raises:
        DataError: It is missing, or no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"no such report ({error.strerror})", where=str(path)) from error
    if b"\0" in content:
        raise DataError("this is no text file", where=str(path), hint="expected a report as plain text (.txt)")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _images_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES[:-1] and path.is_file())
    if not found:
        raise DataError("no image in this folder", where=str(folder), hint=f"expected {', '.join(IMAGES[:-1])}")
    return found


def _of_folder(folder: Path, images: Path) -> Iterator[Study]:
    texts = sorted(folder.glob("*.txt"))
    if not texts:
        raise DataError("no report in this folder", where=str(folder), hint="expected NAME.txt beside NAME.dcm or .png")
    for text in texts:
        beside = [images / f"{text.stem}{suffix}" for suffix in IMAGES]
        found = [path for path in beside if os.path.isfile(path)][:1]
        # A study without its image is told when it is looked at, so that the others need not wait for it.
        yield Study(text.stem, found or [images / f"{text.stem}.dcm"], read_text(text), str(text))


def _of_table(path: Path, root: Path, columns: Mapping[str, str]) -> Iterator[Study]:
    for name in columns:
        if name not in COLUMNS:
            raise ConfigError(f"unknown column {name!r} in columns", hint=nearest(name, COLUMNS))
    table = read_table(path)
    lower = {name.lower(): name for name in table.columns}
    names = {ours: columns.get(ours) or lower.get(ours, "") for ours in COLUMNS}
    table.require(*(names[ours] or ours for ours in {"image": "", **columns}))
    studies: dict[str, Study] = {}
    for row in table.rows:
        image, report, name = (cell(row.cells.get(names[ours])) for ours in COLUMNS)
        study = studies.setdefault(name or f"row {row.where}", Study(name or image, [], report or None, row.where))
        study.images.append(_file(row, root, image))
    if not studies:
        raise DataError("the table has no row", where=str(path))
    yield from studies.values()


def _file(row: Row, root: Path, image: str) -> Path:
    if row.fault or not image:
        raise DataError(row.fault or "no image is named", where=row.where)
    return resolve_inside(root, image)
