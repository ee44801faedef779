"""Snippets of whole reports: sentence by sentence, each with what the sentences before it left."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from datamodules.snippets.finder import names_any
from datamodules.snippets.references import Memory, Reading, Reference
from datamodules.snippets.removal import snippet_of
from datamodules.snippets.words import Words, language_of, load
from medvl.text.sentences import Sentence, split_report

# Words of both languages whose full stop ends no sentence.
ABBREVIATIONS = (
    "se", "ser", "im", "img", "ima", "sl", "sag", "cor", "kor", "ax", "nr", "bzw", "vgl", "ca", "li", "re", "bds",
    "rd", "ggf", "u", "v.a", "z.b", "s.a", "z.n", "dd", "max", "med", "lat", "proc", "lig", "inkl", "einschl", "gem",
    "st", "art", "sog",
)  # fmt: skip
_DAY = re.compile(r"\d\.$")


@dataclass(frozen=True, slots=True)
class Mined:
    """What one sentence gave.

    Attributes:
        references: Images of this study that it points to.
        snippet: Its text without them; None without references.
        refused: Why others were none, and how many.
    """

    references: tuple[Reference, ...]
    snippet: str | None
    refused: Counter[str]


@dataclass(frozen=True, slots=True)
class Snippet:
    """A sentence of a report that points to images.

    Attributes:
        text: The sentence without its references; where it only points, the sentence before it.
        references: With spans in the characters of the report.
        span: Of the sentence in the report, end exclusive.
        section: Heading it stands under.
    """

    text: str
    references: tuple[Reference, ...]
    span: tuple[int, int]
    section: str

    def as_dict(self) -> dict[str, Any]:
        """Return what is written to JSON."""
        references = [reference.as_dict() for reference in self.references]
        return {"snippet": self.text, "references": references, "span": list(self.span), "section": self.section}


class Miner:
    """Finds the sentences that point to images.

    Args:
        language: `en`, `de`, or `auto`: told by each report's common words.

    Raises:
        ConfigError: There is no such language.
    """

    def __init__(self, language: str = "auto") -> None:
        self.language = language
        if language != "auto":
            load(language)

    def sentence(self, text: str, context: str | None = None) -> Mined:
        """Read one sentence, after those before it in its section."""
        words = self._words(f"{context or ''} {text}")
        return _mine(text, words, Reading(context or "", words).memory)[0]

    def report(self, text: str, whole: bool = False) -> tuple[list[Snippet], Counter[str]]:
        """Return the snippets of a report, and counts: `references`, and what was refused by reason.

        Args:
            text: The report.
            whole: Read every section, not only those that tell what this image shows.
        """
        found: list[Snippet] = []
        counts: Counter[str] = Counter()
        words = self._words(text)
        sentences = (one for one in _joined(text, split_report(text, ABBREVIATIONS)) if whole or one.about_image)
        for section, group in itertools.groupby(sentences, key=lambda one: one.section):
            part = list(group)
            named = [i for i, one in enumerate(part) if names_any(text[one.start : one.stop], words)]
            memory, last = Memory(), ""
            for sentence in part[: named[-1] + 1] if named else ():  # what follows the last need not be understood
                mined, memory = _mine(text[sentence.start : sentence.stop], words, memory)
                counts.update(mined.refused)
                if mined.references:
                    counts["references"] += len(mined.references)
                    moved = tuple(_moved(reference, sentence.start) for reference in mined.references)
                    found.append(Snippet(mined.snippet or last, moved, (sentence.start, sentence.stop), section))
                last = mined.snippet or " ".join(sentence.text.split())
        return found, counts

    def _words(self, text: str) -> Words:
        return load(language_of(text) if self.language == "auto" else self.language)


def _mine(text: str, words: Words, memory: Memory) -> tuple[Mined, Memory]:
    reading = Reading(text, words, memory)
    refused = Counter(naming.refused for naming in reading.namings if naming.refused and naming.images)
    snippet = snippet_of(reading) if reading.references else None
    return Mined(tuple(reading.references), snippet, refused), reading.memory


def _moved(reference: Reference, by: int) -> Reference:
    start, stop = reference.span
    return Reference(reference.series, reference.images, (start + by, stop + by), reference.inherited, reference.plane)


def _joined(text: str, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Put together what was cut behind a day or an ordinal: `the CT of 03.04. (series 2 ...`."""
    held: Sentence | None = None
    for sentence in sentences:
        if held is not None:
            between = text[held.stop : sentence.start]
            first = text[sentence.start]
            goes_on = _DAY.search(held.text) and (first.islower() or first in "([") and "\n" not in between
            if goes_on and held.section == sentence.section and sentence.stop - held.start < 2000:
                words = f"{held.text} {sentence.text}"
                held = Sentence(words, held.section, held.start, sentence.stop, held.about_image)
                continue
            yield held
        held = sentence
    if held is not None:
        yield held
