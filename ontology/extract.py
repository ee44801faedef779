"""OBER: entities of a report by lexicon and rules. An LLM or a trained model may stand in its place (`Extractor`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from typing import NamedTuple, Protocol

from spacy.tokens import Doc

from medvl.text.sentences import Splitter
from ontology.attach import attach, explain, give
from ontology.clauses import cut
from ontology.context import join, settle
from ontology.entities import Entity, Report
from ontology.lexicon import PAIR, Lexicon, load
from ontology.mentions import Mention, find
from ontology.scan import Item, Scanner
from ontology.tidy import is_odd, tidy
from ontology.words import Role

CACHED = 200_000  # sentences kept: reports repeat them (more than half of those of Open-i)
CHUNK = 2000  # reports that a process takes at a time


class Extractor(Protocol):
    """What turns reports into entities; whatever it is, the miner and the trainer take its output."""

    def extract(self, report: Report) -> list[Entity]:
        """Return the entities of a report in the order of their spans."""


class _Found(NamedTuple):
    """An entity of a sentence, wherever that sentence stands."""

    disease: str
    status: str
    adjectives: tuple[str, ...]
    directions: tuple[str, ...]
    start: int
    end: int


class Ober:
    """Ontology-based entity recognition, after MedTrim (arXiv 2504.15929), with scopes and attachment of our own.

    Args:
        lexicon: One of `ontology.lexicon.load`, or its language.
        cached: How many sentences are remembered.
        infer: Whether to infer places that are not said of a finding itself, as coders of a whole report do: the place
            of the finding that it explains ("left basilar opacity representing atelectasis"), and both sides of a part
            in the plural ("in the lung bases").
    """

    def __init__(self, lexicon: Lexicon | str = "en", cached: int = CACHED, infer: bool = False) -> None:
        self.lexicon = load(lexicon) if isinstance(lexicon, str) else lexicon
        self._scanner = Scanner(self.lexicon)
        self._infer = infer
        self._split = Splitter(self.lexicon.glue["abbreviations"])
        canon = self.lexicon.canon
        self._order = {name: i for i, name in enumerate([*canon.adjectives, *canon.directions])}
        self._sides = frozenset(name for name, group in canon.directions.items() if group == "sides")
        self._read = lru_cache(cached)(self._read_sentence)

    def extract(self, report: Report) -> list[Entity]:
        """Return the entities of a report in the order of their spans."""
        text, entities, number = report.text, [], 0
        for start, end in report.parts:
            for first, last in self._split(text, start, end):
                for disease, status, adjectives, directions, a, b in self._read(text[first:last]):
                    entities.append(Entity(disease, status, adjectives, directions, (first + a, first + b), number))
                number += 1
        return entities

    def _read_sentence(self, sentence: str) -> tuple[_Found, ...]:
        if not is_odd(sentence):
            return self._understand(sentence)
        clean, places = tidy(sentence)
        found = self._understand(clean)
        return tuple(entity._replace(start=places[entity.start], end=places[entity.end - 1] + 1) for entity in found)

    def _understand(self, sentence: str) -> tuple[_Found, ...]:
        doc, items = self._scanner.scan(sentence)
        if not any(item.word.roles & _CONTENT for item in items):
            return ()
        mentions: list[Mention] = []
        carried = range(0)
        for start, end in cut(items):
            found = find(items, start, end)
            if not found:
                carried = self._carry(items, start, end, mentions) or carried
                continue
            joined = join(items, found)
            settle(items, start, end, found, joined)
            attach(items, carried.start if len(carried) else start, end, found, joined)
            carried = range(0)
            mentions += found
        if self._infer:
            explain(items, mentions)
        return tuple(sorted((self._finish(mention, items, doc) for mention in mentions), key=lambda found: found.start))

    @staticmethod
    def _carry(items: list[Item], start: int, end: int, mentions: list[Mention]) -> range:
        """Give the attributes of a clause without a finding to the last one; leave "in the left base" to the next."""
        if items[start].word.roles & Role.PLACE:
            return range(start, end)
        if mentions and not any(_silent(item) for item in items[start:end]):
            for item in items[start:end]:
                give(item, mentions[-1], behind=True)
        return range(0)

    def _finish(self, mention: Mention, items: list[Item], doc: Doc) -> _Found:
        if mention.past and not _COMPARED.isdisjoint(mention.adjectives):
            mention.status = "present"  # "the previously noted effusion is unchanged"
        adjectives = tuple(sorted(mention.adjectives, key=self._order.__getitem__))
        directions = self._directions(mention, items)
        first, last = items[mention.item], items[mention.anchor]
        if mention.settled or (last is not first and self._others_between(mention, items)):
            last = first
        final = doc[max(first.end, last.end) - 1]
        start, end = doc[min(first.start, last.start)].idx, final.idx + len(final)
        return _Found(mention.disease, mention.status, adjectives, directions, start, end)

    def _directions(self, mention: Mention, items: list[Item]) -> tuple[str, ...]:
        found = set(mention.directions)
        if PAIR in found:
            found = found - {PAIR} | ({"bilateral"} if self._infer and not found & {"left", "right"} else set())
        if not found:
            return ()
        without = self.lexicon.canon.without.get(mention.disease, frozenset())
        if without == "all":
            return ()
        if without == "place":
            found &= self._sides
        elif isinstance(without, frozenset):
            found -= without
        if "bilateral" in found or {"left", "right"} <= found:
            found = found - {"left", "right"} | {"bilateral"}
        return tuple(sorted(found, key=self._order.__getitem__))

    @staticmethod
    def _others_between(mention: Mention, items: list[Item]) -> bool:
        low, high = sorted((mention.item, mention.anchor))
        return any(
            item.word.roles & _CONTENT and not item.word.roles & Role.ATTRIBUTE for item in items[low + 1 : high]
        )


_COMPARED = frozenset({"stable", "increased", "decreased", "persistent"})


def _silent(item: Item) -> bool:
    """Tell whether an item makes its clause speak of something else than the finding before it."""
    return bool(item.word.roles & Role.SUBJECT) or ("absent", "all") in item.word.triggers


_CONTENT = int(Role.FINDING | Role.SUBJECT)


def extract_all(
    reports: Iterable[Report], extractor: Extractor | None = None, language: str = "en", workers: int = 1
) -> Iterator[tuple[Report, list[Entity]]]:
    """Extract from reports as they come, in order, in memory that does not grow with their number.

    Args:
        reports: Any number.
        extractor: `Ober(language)` when None.
        language: Of the reports.
        workers: Processes; more than one takes OBER alone.
    """
    if workers <= 1 or extractor is not None:
        one = extractor or Ober(language)
        yield from ((report, one.extract(report)) for report in reports)
        return
    source = iter(reports)
    chunks = iter(lambda: list(islice(source, CHUNK)), [])
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (language,)) as pool:
        waiting = [(chunk, pool.submit(_work, chunk)) for chunk in islice(chunks, 2 * workers)]
        while waiting:
            chunk, job = waiting.pop(0)
            yield from zip(chunk, job.result(), strict=True)
            waiting += [(chunk, pool.submit(_work, chunk)) for chunk in islice(chunks, 1)]


_ober: list[Ober] = []  # of a worker process


def _start(language: str) -> None:
    _ober[:] = [Ober(language)]


def _work(reports: list[Report]) -> list[list[Entity]]:
    return [_ober[0].extract(report) for report in reports]
