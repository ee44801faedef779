"""ReXGroundingCT: findings of CT-RATE's reports with masks, as snippets with the depths that the masks cover."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datamodules.records import Interval, Problem, Snippet, VolumeRecord
from datamodules.sources.cells import cell
from datamodules.sources.ct_rate_tables import COHORT, VolumeName, patient_of_volume, volume_name
from datamodules.sources.files import OutsideError, resolve_inside
from datamodules.sources.rex_masks import Stretches, measured
from datamodules.sources.rows import read_json
from datamodules.sources.splits import SplitRule
from datamodules.sources.volumes import VolumeSource
from medvl.errors import DataError
from medvl.io.cache import outside
from medvl.io.workers import run_all

TABLE = "dataset.json"
_KEPT = "rex-grounding-2"  # part of the cache's folder: what an older version measured is left alone


class ReXGroundingCT(VolumeSource):
    """ReXGroundingCT as it is distributed: `dataset.json` and `segmentations/`, over the volumes of CT-RATE.

    A study is a scan; its snippets are its findings in words, their depths those of the slices that the finding's mask
    shows, an interval per stretch. Masks are measured once and kept in the cache. They lie on the grid of CT-RATE's
    second edition (`train_fixed`, `valid_fixed`). Training masks show at most three instances of a finding, so
    a finding may be at more depths than told; those of val are complete. Splits are its own, which are not CT-RATE's,
    and a few patients are in two of them: `medvl data check` names them, `quarantine` leaves them out.

    Args:
        root: The folder that holds `dataset.json`.
        volumes: CT-RATE's folder `dataset` (or the one around it); by default `root`.
        table: The table to read, for example `MICCAI_challenge_dataset.json`.
        workers: Processes that measure masks; one per core by default, 0 for none.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.
    """

    name = "rex-grounding-ct"
    cohort = COHORT

    def __init__(
        self,
        root: str | Path,
        volumes: str | Path | None = None,
        table: str = TABLE,
        workers: int | None = None,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        self.given, self.table, self.workers = Path(root).expanduser(), table, workers
        around = Path(volumes).expanduser() if volumes else self.given
        self._volumes = around / "dataset" if (around / "dataset").is_dir() else around

    @property
    def root(self) -> Path:
        """The folder of CT-RATE's volumes."""
        return self._volumes

    def tables(self) -> list[Path]:
        """Return the one table."""
        path = self.given / self.table
        if not path.is_file():
            hint = f"expected the folder with {TABLE} and segmentations/"
            raise DataError("no table of ReXGroundingCT is here", where=str(self.given), hint=hint)
        return [path]

    def patient_of(self, record: VolumeRecord) -> tuple[str, str]:
        """Return cohort and patient: `train_7` and `valid_7` are two people."""
        return self.cohort, patient_of_volume(record.patient_id)

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every scan with its findings, or what is wrong with its entry."""
        entries = list(_entries(self.tables()[0]))
        names = [name for _, _, entry in entries if (name := volume_name(entry.get("name")))]
        depths = self._measured([name for name in names if os.path.isfile(self._mask(name))])
        for split, row, entry in entries:
            name, findings = volume_name(entry.get("name")), entry.get("findings")
            if name is None or not isinstance(findings, dict):
                yield Problem("entry-unreadable", row, "expected a name such as train_1_a_1.nii.gz, and findings")
                continue
            found = depths.get(name.name, "there is no mask")
            if isinstance(found, str):  # those of the test set are withheld
                yield Problem("mask-unreadable", row, f"{name.name}: {found}; no snippets", fatal=False)
                found = []
            seen = dict(enumerate(found))
            texts = {key: (cell(text), seen.get(int(key)) if key.isdigit() else None) for key, text in findings.items()}
            if found and (empty := [key for key, (_, stretches) in texts.items() if not stretches]):
                message = f"findings {', '.join(empty)[:40]} have no voxel in the mask; left out"
                yield Problem("mask-empty", row, message, fatal=False)
            snippets = [
                Snippet(text, tuple(Interval(*ends) for ends in stretches), volume=name.path("_fixed"), row=row)
                for text, stretches in texts.values()
                if stretches
            ]
            yield self._record(name, split, row, " ".join(text for text, _ in texts.values()), snippets)

    def _record(self, name: VolumeName, split: str, row: str, text: str, snippets: list[Snippet]) -> VolumeRecord:
        return VolumeRecord(
            volumes=(name.path("_fixed"),),
            patient_id=name.patient,
            study_id=name.name,
            split=self.own_split(split),
            source=self.name,
            findings=text,
            snippets=tuple(snippets),
            row=row,
        )

    def _mask(self, name: VolumeName) -> Path:
        return self.given / "segmentations" / f"{name.name}.nii.gz"

    def _measured(self, names: Sequence[VolumeName]) -> dict[str, Stretches | str]:
        """Return the depths of each scan's findings, or what is wrong with its mask; measured once, then kept."""
        cache, jobs, found = outside(self.given, None) / _KEPT, [], dict[str, Stretches | str]()
        for name in names:
            try:
                mask = resolve_inside(self.given, str(self._mask(name).relative_to(self.given)), self.follow_links)
                volume = resolve_inside(self.root, name.path("_fixed"), self.follow_links)
            except OutsideError as error:
                found[name.name] = error.what
            else:
                jobs.append((str(mask), str(volume), str(cache)))
        inside = [name.name for name in names if name.name not in found]
        return found | dict(zip(inside, run_all(measured, jobs, self.workers, "measuring masks"), strict=True))


def _entries(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield split, row and entry: of a list per split, or of one list whose entries name theirs."""
    read = read_json(path)
    lists = read if isinstance(read, dict) else {"": read}
    for split, entries in lists.items():
        for number, entry in enumerate(entries if isinstance(entries, list) else [], 1):
            row = f"{path.name}:{split or 'entry'}:{number}"
            known = entry if isinstance(entry, dict) else {}
            yield split or cell(known.get("split")), row, known
