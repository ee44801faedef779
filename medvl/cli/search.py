"""A query in a gallery of studies: its neighbours, and what is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from medvl.cli.gallery import Gallery, Hit, nearest
from medvl.cli.why import Reader
from medvl.viz.retrieved import Neighbour, Ranking, Shown

SAMPLE = 2000  # studies from which it is told what is usual
KINDS = {"i": "image", "t": "report"}


@dataclass
class Query:
    """What is searched for.

    Attributes:
        name: What the page calls it.
        text: Its words; '' where it has none.
        vectors: Unit vectors `(C,)` of its image (`i`) and its text (`t`), as far as it has them.
        image: Its file, where it comes from outside.
        row: Its row, where it is in the gallery; else -1.
    """

    name: str
    text: str
    vectors: dict[str, Tensor]
    image: Path | None = None
    row: int = -1


@dataclass
class Search:
    """A query in a gallery.

    Attributes:
        gallery: What is searched.
        reader: Reads reports for their findings.
        query: What for.
        root: The folder of the gallery's images.
    """

    gallery: Gallery
    reader: Reader
    query: Query
    root: Path

    def asked(self) -> Shown:
        """Return the query as it is shown."""
        if self.query.row >= 0:
            return self.shown(self.query.row)
        return Shown(self.query.name, self.query.text, self.reader.marks(self.query.text), self.query.image)

    def shown(self, row: int) -> Shown:
        """Return a study as it is shown."""
        text, path = self.gallery.texts[row], self.gallery.paths[row]
        name = self.gallery.records[row].study_id
        return Shown(name, text, self.reader.marks(text), self.root / path if path else None)

    def notes(self) -> list[str]:
        """Return what a reader should know of the query."""
        if not self.query.text:
            return ["It comes without a report: what neighbours share with it cannot be told."]
        if not self.reader.profile(self.query.text):
            return ["No finding is affirmed in it: it counts as no finding, and is like all studies without one."]
        return []

    def ranking(self, way: str, k: int) -> Ranking:
        """Return the k nearest of one kind."""
        hits = self.hits(way)
        named = "text" if way[0] == "t" and self.query.row < 0 else KINDS[way[0]]
        title = f"{KINDS[way[2]].capitalize()}s nearest to the {named}"
        return Ranking(title, " ".join(self._remarks(way, hits, k)), tuple(map(self._neighbour, hits[:k])))

    def hits(self, way: str) -> list[Hit]:
        """Return every answer, the nearest first; within a modality the query's own study is none."""
        candidates = self.gallery.present[way[2]].clone()
        if way[0] == way[2]:
            candidates[[row for row in range(len(candidates)) if self._own(row)]] = False
        names = self.gallery.names(way[2])
        return nearest(self.query.vectors[way[0]], self.gallery.vectors[way[2]], candidates, names, self.query.row)

    def _own(self, row: int) -> bool:
        records = self.gallery.records
        return self.query.row >= 0 and records[row].study_id == records[self.query.row].study_id

    def _neighbour(self, hit: Hit) -> Neighbour:
        records, text = self.gallery.records, self.gallery.texts[hit.row]
        own = self._own(hit.row)
        kin = self.query.row >= 0 and records[hit.row].patient_id == records[self.query.row].patient_id
        notes = ["the query's own"] * own + ["same patient"] * (kin and not own)
        notes += [f"{hit.copies} studies have these words"] * (hit.copies > 1)
        why = self.reader.why(self.query.text, text) if self.query.text and text else None
        return Neighbour(self.shown(hit.row), hit.cosine, why, " · ".join(notes))

    def _remarks(self, way: str, hits: Sequence[Hit], k: int) -> Iterator[str]:
        """Yield where the query's own stands, and what the neighbours have in common more than any studies."""
        own = next((rank for rank, hit in enumerate(hits, start=1) if self._own(hit.row)), 0)
        what = f"{len(hits):,} different {KINDS[way[2]]}s"
        yield f"The query's own is number {own} of {what}." if own else f"Among {what}."
        near = [self.gallery.texts[hit.row] for hit in hits[:k] if not self._own(hit.row)]
        near, every = [text for text in near if text], self._usual()
        if near and every and self.query.text:
            mean, usual = (_mean(self.reader.scores(self.query.text, texts)) for texts in (near, every))
            yield f"Mean entity score {mean:.2f}; of a study drawn at random {usual:.2f}."
        elif near and every:
            yield self._common(near, every)

    def _common(self, near: Sequence[str], every: Sequence[str]) -> str:
        """Tell which findings the neighbours' reports affirm most, beside how usual these are."""
        found, usual = (Counter(d for text in texts for d in self.reader.profile(text)) for texts in (near, every))
        told = [
            f"{name} {count} of {len(near)} ({usual[name] / len(every):.0%} of all)"
            for name, count in found.most_common(3)
        ]
        return f"Their reports affirm: {', '.join(told)}." if told else "Their reports affirm no finding."

    def _usual(self) -> list[str]:
        """Return texts of the gallery without the query's own study, evenly spread where there are many."""
        rows = [row for row, text in enumerate(self.gallery.texts) if text and not self._own(row)]
        return [self.gallery.texts[row] for row in rows[:: -(-len(rows) // SAMPLE) or 1]]


def query_of(gallery: Gallery, study: str) -> Query:
    """Return a study of the gallery as a query; raises `DataError` where there is none."""
    row = gallery.row_of(study)
    vectors = {kind: gallery.vectors[kind][row] for kind in "it" if gallery.present[kind][row]}
    return Query(study, gallery.texts[row], vectors, row=row)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
