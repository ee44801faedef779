"""`medvl data reports`: the reports of a data set as lines that `medvl ontology extract` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datamodules.records import ReportRecord, VolumeRecord
from datamodules.sources.base import Source
from datamodules.sources.reporting import ReportSource
from datamodules.sources.volumes import VolumeSource
from medvl.errors import ConfigError, DataError
from medvl.io.atomic import write_text


def reports(source: Source[Any], output: Path) -> int:
    """Write a line per study that has a text, named as batches name it, with its patient and its split.

    Raises:
        ConfigError: The data set has no reports at all.
        DataError: No study has a text.
    """
    if not isinstance(source, ReportSource | VolumeSource):
        hint = "mimic-cxr, chexpert, openi, padchest, reports, ct-rate, merlin and volume-table have reports"
        raise ConfigError(f"{source.name} has sentences or labels, no reports", where=str(source.given), hint=hint)
    records = source.load().records
    told = [record for record in records if record.text]
    if not told:
        raise DataError(f"none of {len(records):,} studies has a text", where=str(source.given))
    write_text(output, _lines(told))
    left = len(records) - len(told)
    print(f"{output}: {len(told):,} reports" + (f"; {left:,} studies have no text" if left else ""))
    print(f"next: medvl ontology extract --input {output} --output entities.jsonl")
    return 0


def _lines(records: Iterable[ReportRecord | VolumeRecord]) -> Iterator[str]:
    for record in records:
        sections = {"findings": record.findings, "impression": record.impression}
        if not any(sections.values()):
            sections["findings"] = record.other
        whose = {"patient_id": record.patient_id, "split": record.split}
        yield json.dumps({"id": record.study_id, **sections, **whose}, ensure_ascii=False) + "\n"
