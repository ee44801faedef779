"""What every source of CT volumes shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.records import Problem, VolumeRecord, sift_volumes
from datamodules.sources.base import Source
from datamodules.sources.files import ImageFolder
from datamodules.sources.splits import SplitRule

if TYPE_CHECKING:
    from medvl.io.convert import VolumeItem


class VolumeSource(Source[VolumeRecord]):
    """A dataset of CT volumes with reports, labels or snippets, read as one record per study.

    Args:
        unpaired: Whether studies without a report and without snippets count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.
    """

    def __init__(
        self,
        *,
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        self.unpaired = unpaired

    @cached_property
    def images(self) -> ImageFolder:
        """The volumes below `root`: files, or folders of slices."""
        return ImageFolder(self.root, self.follow_links, series=True)

    def items(self, paths: Sequence[str]) -> list[VolumeItem]:
        """Return what to convert for some volumes, with what the tables declare of each."""
        from medvl.io.convert import VolumeItem  # imports nibabel, blosc2 and pydicom

        return [VolumeItem(path) for path in paths]

    def sift(self, candidates: Iterable[VolumeRecord]) -> tuple[list[VolumeRecord], list[Problem]]:
        """Part usable studies from unusable ones (`sift_volumes`)."""
        return sift_volumes(candidates, self.unpaired)

    def tally(self, records: Sequence[VolumeRecord]) -> dict[str, int]:
        """Count studies, volumes, patients, and snippets by whether they are in their scan."""
        snippets = [snippet for record in records for snippet in record.snippets]
        present = sum(snippet.present for snippet in snippets)
        return {
            "studies": len(records),
            "volumes": sum(len(record.volumes) for record in records),
            "patients": len({record.patient_id for record in records}),
            "snippets": present,
            "absent": len(snippets) - present,
        }

    def inventory(self, records: Sequence[VolumeRecord]) -> dict[str, int]:
        """Count the same, and studies with a report and with labels."""
        return self.tally(records) | {
            "with reports": sum(bool(record.text.strip()) for record in records),
            "with labels": sum(bool(record.labels) for record in records),
        }
