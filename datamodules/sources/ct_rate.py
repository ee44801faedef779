"""CT-RATE: 25,692 chest CTs in 50,188 reconstructions, with reports and 18 labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from datamodules.records import Problem, Snippet, VolumeRecord
from datamodules.sources.cells import cell
from datamodules.sources.ct_rate_tables import (
    BROKEN,
    COHORT,
    TABLE_WORDS,
    Declared,
    VolumeName,
    patient_of_volume,
    read_labels,
    read_metadata,
    volume_name,
)
from datamodules.sources.rows import stream_columns
from datamodules.sources.snippets import FILE, read_snippets
from datamodules.sources.splits import SplitRule
from datamodules.sources.volumes import VolumeSource
from medvl.errors import ConfigError, DataError, nearest
from medvl.text.sections import one_line

if TYPE_CHECKING:
    from medvl.io.convert import VolumeItem

Edition = Literal["auto", "fixed", "v1"]
Reconstructions = Literal["first", "all"]
_OUR_SPLIT = {"train": "train", "valid": "test"}
_REPORTS = "radiology_text_reports/{table}_reports.csv"
_METADATA = "metadata/{table}_metadata.csv"
_NO_CHEST = "metadata/no_chest_{split}.txt"
_LABELS = "multi_abnormality_labels/{split}_predicted_labels.csv"


@dataclass
class _Study:
    """A study: what the first of its rows says of it, and the volumes of all."""

    first: VolumeName
    row: str
    findings: str
    impression: str
    names: list[VolumeName] = field(default_factory=list)
    snippets: list[Snippet] = field(default_factory=list)


class CTRATE(VolumeSource):
    """CT-RATE as it is distributed: `dataset/` with its tables and `train_fixed/train_1/train_1_a/train_1_a_1.nii.gz`.

    A study is a scan (`train_1_a`); its volumes are the reconstructions, in the order of their numbers. The official
    `valid` is what everyone reports results on: it is `test` here, and a tenth of the training patients becomes `val`.
    Volumes that the authors list as no chest, and seven known to be damaged, are left out with a remark.

    CT-RATE has no snippets; they come from a table of our own format (`datamodules.sources.snippets`).

    Args:
        root: The folder that holds `dataset`, or that one.
        edition: `fixed` reads `train_fixed` and `valid_fixed`, whose values are Hounsfield units; `v1` reads `train`
            and `valid`, whose rescale and geometry stand in the metadata; `auto` takes `fixed` where it is there.
        reconstructions: `first` takes the first one of each study that is there, `all` every one.
        snippets: The table of snippets; by default `snippets.jsonl` in `root`, if it is there.
        unpaired: Whether studies without a report and without snippets count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.

    Raises:
        ConfigError: An option is none of those named.
    """

    name = COHORT
    cohort = COHORT

    def __init__(
        self,
        root: str | Path,
        edition: Edition = "auto",
        reconstructions: Reconstructions = "all",
        snippets: str | Path | None = None,
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(unpaired=unpaired, split=split, quarantine=quarantine, follow_links=follow_links)
        for name, word, kind in (("edition", edition, Edition), ("reconstructions", reconstructions, Reconstructions)):
            if word not in get_args(kind):
                raise ConfigError(f"unknown {name} {word!r}", hint=nearest(str(word), get_args(kind)))
        self.given, self.reconstructions = Path(root).expanduser(), reconstructions
        inner = self.given / "dataset"
        self._root = inner if inner.is_dir() else self.given
        if edition == "auto":
            edition = "fixed" if any(self._root.glob("*_fixed")) else "v1"
        self.edition = edition
        beside = self.given / FILE
        there = os.path.lexists(beside)  # a link that leads nowhere is to be told of
        self.snippets = Path(snippets).expanduser() if snippets else beside if there else None

    @property
    def root(self) -> Path:
        """The folder `dataset`."""
        return self._root

    def tables(self) -> list[Path]:
        """Return the tables that are there: snippets, lists, labels, metadata, and reports at the end."""
        reports = self._there(_REPORTS)
        if not reports:
            raise DataError(
                "no table of CT-RATE is here",
                where=str(self.given),
                hint="expected the folder with dataset/radiology_text_reports/train_reports.csv",
                command="medvl data twin ct-rate FOLDER, for a synthetic dataset in this layout",
            )
        found = [path for pattern in (_NO_CHEST, _LABELS, _METADATA) for path in self._there(pattern)]
        return [*([self.snippets] if self.snippets else []), *found, *reports]

    def _there(self, pattern: str) -> list[Path]:
        paths = (self.root / pattern.format(split=split, table=table) for split, table in TABLE_WORDS.items())
        return [path for path in paths if path.is_file()]

    def patient_of(self, record: VolumeRecord) -> tuple[str, str]:
        """Return cohort and patient: `train_7` and `valid_7` are two people."""
        return self.cohort, patient_of_volume(record.patient_id)

    def items(self, paths: Sequence[str]) -> list[VolumeItem]:
        """Return what to convert; of the first edition with the rescale and the affine that the metadata declare."""
        if self.edition == "fixed":
            return super().items(paths)
        from medvl.io.convert import VolumeItem

        told = [self.metadata.get(name.name if (name := volume_name(path)) else "", Declared()) for path in paths]
        return [VolumeItem(path, one.rescale, one.affine) for path, one in zip(paths, told, strict=True)]

    @cached_property
    def metadata(self) -> dict[str, Declared]:
        """What the metadata say, by volume."""
        found: dict[str, Declared] = {}
        for path in self._there(_METADATA):
            found |= read_metadata(path, geometry=self.edition == "v1")
        return found

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every study, problems of rows, and remarks on volumes left out."""
        self.tables()
        studies: dict[str, _Study] = {}
        for table in self._there(_REPORTS):
            yield from self._gather(table, studies)
        if self.snippets:
            yield from self._add_snippets(self.snippets, studies)
        labels: dict[str, dict[str, int]] = {}
        for path in self._there(_LABELS):
            labels |= read_labels(path)
        for study in studies.values():
            if labels and not any(name.name in labels for name in study.names):
                yield Problem("labels-missing", study.row, "the tables of labels lack this study", fatal=False)
            if not study.findings:
                yield Problem("findings-empty", study.row, "the report of this study has no findings", fatal=False)
            yield self._record(study, labels)

    def _gather(self, table: Path, studies: dict[str, _Study]) -> Iterator[Problem]:
        """Add the studies of a table of reports; yield rows that name none, and volumes left out."""
        left_out = dict.fromkeys(BROKEN, ("volume-damaged", "this volume is known to be damaged; left out"))
        left_out |= dict.fromkeys(self._no_chest, ("no-chest", "the authors list this volume as no chest; left out"))
        for row, text, findings, impression in stream_columns(table, "VolumeName", "Findings_EN", "Impressions_EN"):
            name = volume_name(text)
            if name is None:
                yield Problem("volume-unnamed", row, "expected a VolumeName such as train_1_a_1.nii.gz")
            elif name.name in left_out:
                code, message = left_out[name.name]
                yield Problem(code, row, message, fatal=False, path=name.path(self._suffix))
            else:
                new = _Study(name, row, one_line(cell(findings)), one_line(cell(impression)))
                study = studies.setdefault(name.study, new)
                if name in study.names:
                    yield Problem("duplicate", row, f"this volume was already read below {study.row}", fatal=False)
                else:
                    study.names.append(name)

    @cached_property
    def _no_chest(self) -> list[str]:
        lines = [line for path in self._there(_NO_CHEST) for line in path.read_text(encoding="utf-8").splitlines()]
        return [name.name for line in lines if (name := volume_name(line))]

    def _add_snippets(self, table: Path, studies: dict[str, _Study]) -> Iterator[Problem]:
        """Add the snippets of a table to their studies; yield what is wrong with others."""
        strangers = 0
        for item in read_snippets(table):
            if isinstance(item, Problem):
                yield item
                continue
            about, snippet = item
            name = volume_name(about)
            study = studies.get(name.study if name else about)
            if study is None or (name and name not in study.names):
                strangers += 1
                continue
            only = name.path(self._suffix) if name and snippet.volume else ""
            study.snippets.append(replace(snippet, volume=only))
        if strangers:
            message = f"{strangers} snippets are about volumes that are not in the tables of reports; left out"
            yield Problem("snippet-stranger", table.name, message, fatal=False)

    def _record(self, study: _Study, labels: dict[str, dict[str, int]]) -> VolumeRecord:
        names = sorted(study.names, key=lambda name: name.number)
        volumes = tuple(name.path(self._suffix) for name in names)
        if self.reconstructions == "first":
            volumes = next(((path,) for path in volumes if not self.images.fault(path)), volumes[:1])
        return VolumeRecord(
            volumes=volumes,
            patient_id=study.first.patient,
            study_id=study.first.study,
            split=self.own_split(_OUR_SPLIT[study.first.split]),
            source=self.name,
            findings=study.findings,
            impression=study.impression,
            labels=next((labels[name.name] for name in names if name.name in labels), {}),
            snippets=tuple(snippet for snippet in study.snippets if snippet.volume in ("", *volumes)),
            attributes=next((self.metadata[n.name].attributes for n in names if n.name in self.metadata), {}),
            row=study.row,
        )

    @property
    def _suffix(self) -> str:
        return "_fixed" if self.edition == "fixed" else ""
