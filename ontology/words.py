"""What a word or phrase of the lexicon does in a sentence: all its roles in one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntFlag

from ontology.lexicon import PAIR, Lexicon, keys


class Role(IntFlag):
    """A role, tested with `word.roles & Role.X`; one phrase may have several."""

    FINDING = 1
    SUBJECT = 2
    STATE = 4
    ATTRIBUTE = 8
    TRIGGER = 16
    BREAK = 32
    AND = 64
    OR = 128
    COMMA = 256
    WITH = 512
    PLACE = 1024
    VERB = 2048
    FRESH = 4096
    EXPLAINS = 8192
    SINGULAR = 16384


GLUE = {
    "break": Role.BREAK,
    "and": Role.AND,
    "or": Role.OR,
    "comma": Role.COMMA,
    "with": Role.WITH,
    "place": Role.PLACE,
    "verbs": Role.VERB,
    "fresh": Role.FRESH,
    "present": Role.EXPLAINS,
    "singular": Role.SINGULAR,
}


@dataclass(slots=True)
class Word:
    """A phrase of the lexicon.

    Attributes:
        surface: As it stands in a report, lower case.
        roles: `Role` flags, as a plain int: they are tested millions of times.
        disease: Of a finding.
        adjectives: Canonical names that it gives.
        directions: Likewise.
        says: Of a subject: (disease, status) pairs for each state.
        triggers: (status, reach) pairs.
        kept: Of a state, the severity that it tells besides (`borderline`).
        before_only: Of a finding that takes no place behind it.
    """

    surface: str
    roles: int = 0
    disease: str = ""
    adjectives: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    says: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    triggers: tuple[tuple[str, str], ...] = ()
    kept: tuple[str, ...] = ()
    before_only: bool = False


def build(lexicon: Lexicon) -> dict[str, Word]:
    """Return the word of each surface form; of two findings with one form the first wins (`check` reports it)."""
    words: dict[str, Word] = {}

    def word(surface: str, role: int = 0) -> Word:
        found = words.setdefault(surface, Word(surface))
        found.roles |= int(role)
        return found

    def give(found: Word, names: tuple[str, ...]) -> None:
        found.adjectives += tuple(n for n in names if n in lexicon.canon.adjectives and n not in found.adjectives)
        found.directions += tuple(
            n for n in names if (n in lexicon.canon.directions or n == PAIR) and n not in found.directions
        )

    for term in lexicon.terms:
        found = word(term.surface, Role.FINDING)
        found.disease = found.disease or term.disease
        found.before_only = lexicon.canon.without.get(found.disease) == "place"
        give(found, term.attributes)
    for key, surfaces in lexicon.attributes.items():
        for surface in surfaces:
            give(word(surface, Role.ATTRIBUTE), keys(key))
    for (status, reach), surfaces in lexicon.triggers.items():
        for surface in surfaces:
            word(surface, Role.TRIGGER).triggers += ((status, reach),)
            if status == "uncertain" and reach != "after":
                word(surface, Role.EXPLAINS)
    for name, surfaces in lexicon.glue.items():
        for surface in () if name == "abbreviations" else surfaces:
            word(surface, GLUE.get(name, 0))
    _describe(lexicon, word)
    for found in words.values():
        found.kept = tuple(name for name in found.adjectives if lexicon.canon.adjectives[name] == "severity")
    return words


def _describe(lexicon: Lexicon, word: Callable[[str, int], Word]) -> None:
    for entry in lexicon.descriptions:
        present = "uncertain" if entry.uncertain else "present"
        says: dict[str, tuple[tuple[str, str], ...]]
        says = {state: ((disease, present),) for state, disease in entry.states.items()}
        if entry.normal:
            absent = tuple((disease, "absent") for disease in entry.normal)
            says |= {state: absent for state in (entry.clear if entry.only else {*entry.clear, *lexicon.normal})}
        for state in says:
            word(state, Role.STATE)
        for subject in entry.subject:
            known = word(subject, Role.SUBJECT).says
            for state, pairs in says.items():
                known[state] = known.get(state, ()) + pairs
