"""What every source of reports shares: which images and which words of a study count, stated and counted."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from datamodules.records import Problem, ReportRecord, sift_reports
from datamodules.sources.base import Loaded, Source
from datamodules.sources.splits import SplitRule
from datamodules.sources.temporal import Temporal, is_temporal, timeless
from medvl.errors import ConfigError, nearest

Views = Literal["frontal", "all"]
_FRONTAL = ("pa", "ap", "antero-posterior", "postero-anterior", "frontal", "ap axial", "ap_horizontal")

_STRANGE = 0.02  # share of characters that are none, beyond which a file is no text


class ReportSource(Source[ReportRecord]):
    """A dataset of images with reports, in its own layout, read as one record per study.

    Every choice is counted among the problems: `view-left-out` and `view-unknown` per image, `temporal-wording`,
    `image-none` and `text-empty` per study.

    Args:
        views: `frontal` leaves out laterals and images of no known view; `all` takes every image, frontal ones first.
        temporal: What is done with wording that compares with an earlier study (`datamodules.sources.temporal`).
        unpaired: Whether studies that lack images, or a text, count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.

    Raises:
        ConfigError: An option is none of those named.
    """

    def __init__(
        self,
        *,
        views: Views = "frontal",
        temporal: Temporal = "keep",
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        for name, word, known in (("views", views, get_args(Views)), ("temporal", temporal, get_args(Temporal))):
            if word not in known:
                raise ConfigError(f"unknown {name} {word!r}", hint=nearest(str(word), known))
        self.views, self.temporal, self.unpaired = views, temporal, unpaired

    def seen(self, images: Sequence[tuple[str, str]], row: str) -> tuple[tuple[str, ...], str, list[Problem]]:
        """Choose the images of a study.

        Args:
            images: Path and view of each, as the dataset names it.
            row: The study's row, for the remarks.

        Returns:
            The paths, frontal ones first (PA before AP), the first one's view, and a remark per image left out.
        """
        once = dict.fromkeys(images)
        ranked = sorted(once, key=lambda image: _rank(image[1]))
        notes = []
        if surplus := len(images) - len(once):
            message = f"images are named twice, {surplus} times; once counts"
            notes.append(Problem("duplicate", row, message, fatal=False))
        if self.views == "all":
            return tuple(path for path, _ in ranked), ranked[0][1] if ranked else "", notes
        kept = [image for image in ranked if _rank(image[1]) < len(_FRONTAL)]
        for path, view in ranked[len(kept) :]:
            code, what = ("view-left-out", "no frontal view") if view else ("view-unknown", "of no known view")
            message = f"the image is {what}; left out (`views: all` keeps it)"
            notes.append(Problem(code, row, message, fatal=False, path=path))
        return tuple(path for path, _ in kept), kept[0][1] if kept else "", notes

    def sift(self, candidates: Iterable[ReportRecord]) -> tuple[list[ReportRecord], list[Problem]]:
        """Apply the rule for wording in time, and part usable studies from unusable ones."""
        notes: list[Problem] = []
        records, problems = sift_reports(self._timeless(candidates, notes), self.unpaired)
        return records, notes + problems

    def _timeless(self, candidates: Iterable[ReportRecord], notes: list[Problem]) -> Iterator[ReportRecord]:
        told = {"keep": "kept", "cut": "cut out", "drop": "such sentences are left out"}[self.temporal]
        for record in candidates:
            if not is_temporal(f"{record.findings}\n{record.impression}\n{record.other}"):
                yield record
                continue
            message = f"the text compares with an earlier study: {told} (`temporal` of the source)"
            notes.append(Problem("temporal-wording", record.row, message, fatal=False))
            findings, impression, other = (
                timeless(text, self.temporal) for text in (record.findings, record.impression, record.other)
            )
            yield replace(record, findings=findings, impression=impression, other=other)

    def spared(self, record: ReportRecord, lost: Collection[str]) -> ReportRecord | None:
        """Return what is left of a study: other images, or, where `unpaired`, its text."""
        return record.without(lost) or (replace(record, images=()) if self.unpaired and record.text else None)

    def read(self) -> Loaded[ReportRecord]:
        """Read the tables and texts; the fingerprint is of the texts, too."""
        loaded = super().read()
        digest = hashlib.sha256(loaded.fingerprint.encode())
        for record in loaded.records:
            digest.update(record.text.encode("utf-8", errors="replace"))
        return replace(loaded, fingerprint=digest.hexdigest())

    def tally(self, records: Sequence[ReportRecord]) -> dict[str, int]:
        """Count studies, images, patients and the sections there are."""
        return {
            "studies": len(records),
            "images": len({path for record in records for path in record.images}),
            "patients": len({record.patient_id for record in records}),
            "with findings": sum(bool(record.findings) for record in records),
            "with impression": sum(bool(record.impression) for record in records),
            "with other text": sum(bool(record.other) for record in records),
            "labelled": sum(bool(record.labels) for record in records),
        }

    def inventory(self, records: Sequence[ReportRecord]) -> dict[str, int]:
        """Count as `tally` does."""
        return self.tally(records)


def plain_text(content: bytes) -> str | None:
    """Return the text of a report; a few bytes that are no UTF-8 are replaced, and what is no text at all is None."""
    text = content.decode("utf-8-sig", errors="replace")
    strange = sum(char == "\ufffd" or (char < " " and not char.isspace()) for char in text)
    return None if "\0" in text or strange > _STRANGE * len(text) else text


def _rank(view: str) -> int:
    """Return the place of a view in the order of preference; those that are not frontal come last."""
    word = view.strip().lower()
    return _FRONTAL.index(word) if word in _FRONTAL else len(_FRONTAL)
