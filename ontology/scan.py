"""The words of the lexicon in a sentence: spaCy's tokenizer and PhraseMatcher, the longest phrase first."""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

import spacy
from spacy.matcher import PhraseMatcher
from spacy.tokens import Doc

from ontology.lexicon import Lexicon
from ontology.words import Word, build


class Item(NamedTuple):
    """A phrase in a sentence: first token, token after the last, and what it is."""

    start: int
    end: int
    word: Word


class Scanner:
    """Finds the phrases of a lexicon. A blank pipeline: no model, nothing to download."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.nlp = spacy.blank(lexicon.language if lexicon.language in ("en", "de") else "xx")
        self.matcher = PhraseMatcher(self.nlp.vocab, attr="LOWER")
        self.words: dict[int, Word] = {}
        for surface, word in build(lexicon).items():
            self.words[self.nlp.vocab.strings.add(surface)] = word
            # An abbreviation may be one token in capitals and two in small letters.
            shapes = {surface, surface.upper(), surface.capitalize()} if "." in surface else {surface}
            self.matcher.add(surface, [self.nlp.make_doc(shape) for shape in sorted(shapes)])

    def scan(self, sentence: str) -> tuple[Doc, list[Item]]:
        """Return the tokens of a sentence, and its phrases in order; none overlaps another."""
        doc = self.nlp.make_doc(sentence)
        found = self.matcher(doc)
        if len(found) > 1:
            found = _longest_first(found, len(doc))
        words = self.words
        return doc, [Item(start, end, words[key]) for key, start, end in found if words[key].roles]


def _longest_first(found: list[tuple[int, int, int]], length: int) -> list[tuple[int, int, int]]:
    free = bytearray(b"\1") * length
    kept = []
    for match in sorted(found, key=lambda match: (match[1] - match[2], match[1])):
        _, start, end = match
        if free[start] and free[end - 1]:  # nothing longer can lie between them
            free[start:end] = bytes(end - start)
            kept.append(match)
    kept.sort(key=itemgetter(1))
    return kept
