"""Sentences lent by other studies: they name findings that an image does not show, and so have no box there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from datamodules.records import PhraseRecord


class Lender:
    """Lends sentences that affirm a finding to images without it.

    Reports seldom name, without a negation, what is not there; a model trained on them alone answers to the words and
    need not look. A lent sentence has the words of a true one, and only the image tells that it is not.

    A finding counts as missing when none of its labels is among the image's own. That is as good as the labels: with
    overlapping ones ("pneumonia", "consolidation") a lent sentence may happen to be true. Sentences without labels are
    not lent.

    Args:
        records: The sentences of one split.
    """

    tries = 16

    def __init__(self, records: Sequence[PhraseRecord]) -> None:
        affirmed = (r for r in records if r.labels and (r.boxes or r.abnormal))
        self.pool = [(record.phrase, frozenset(record.labels)) for record in affirmed]

    def lend(self, rng: np.random.Generator, image: Collection[PhraseRecord], count: int) -> list[str]:
        """Draw up to `count` sentences whose labels are not among those of an image's own sentences.

        Nothing is lent to an image that has a finding without a label: it might be the one.
        """
        lent: list[str] = []
        own = {label for record in image for label in record.labels}
        if not self.pool or any((r.boxes or r.abnormal) and not r.labels for r in image):
            return lent
        for place in rng.integers(len(self.pool), size=self.tries * count):
            phrase, labels = self.pool[place]
            if len(lent) < count and labels.isdisjoint(own) and phrase not in lent:
                lent.append(phrase)
        return lent
