"""The findings of a clause: those named, and those told as a subject and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ontology.scan import Item
from ontology.words import Role

FINDING, SUBJECT, STATE, VERB = int(Role.FINDING), int(Role.SUBJECT), int(Role.STATE), int(Role.VERB)
ATTRIBUTE, WITH, PLACE = int(Role.ATTRIBUTE), int(Role.WITH), int(Role.PLACE)


@dataclass(slots=True)
class Mention:
    """A finding in a sentence.

    Attributes:
        disease: Canonical name.
        status: What it is unless a trigger says otherwise; a normality is `absent` and stays so.
        item: Index of the item that names it, or of its subject.
        anchor: Index of the item that makes it a finding: the same, or what is said of its subject.
        adjectives: Canonical names.
        directions: Canonical names.
        past: Whether it is called past by no more than a word before it ("previously seen").
        settled: Whether triggers pass it by.
        before_only: Whether a place behind it is not its own (where a catheter ends).
    """

    disease: str
    status: str
    item: int
    anchor: int
    adjectives: list[str] = field(default_factory=list)
    directions: list[str] = field(default_factory=list)
    past: bool = False
    settled: bool = False
    before_only: bool = False


def find(items: Sequence[Item], start: int, end: int) -> list[Mention]:
    """Return the mentions of the clause `items[start:end]`, by place."""
    reader = _Reader(items, end)
    for i in range(start, end):
        reader.read(i)
    reader.mentions.sort(key=lambda mention: mention.item)
    return reader.mentions


class _Reader:
    """Goes through a clause once; `group` holds the subjects of which something may yet be said."""

    def __init__(self, items: Sequence[Item], end: int) -> None:
        self.items, self.end = items, end
        self.mentions: list[Mention] = []
        self.group: list[int] = []
        self.open: set[int] = set()  # subjects of the group of which nothing was said, or only by the way
        self.said_before: int | None = None  # "normal" in "normal heart size and mediastinum"
        self.verb = False

    def read(self, i: int) -> None:
        item = self.items[i]
        roles = item.word.roles
        if roles & FINDING:
            word = item.word
            mention = Mention(word.disease, "present", i, i, list(word.adjectives), list(word.directions))
            mention.before_only = word.before_only
            self.mentions.append(mention)
            self.said_before = None
        elif roles & SUBJECT:
            self._subject(i)
        elif roles & STATE:
            self._state(i)
        elif roles & (VERB | WITH | PLACE):
            self.said_before = None
            self.verb |= bool(roles & VERB)
            if roles & WITH and not self.open:
                self.group = []

    def _subject(self, i: int) -> None:
        if self.group and not self.open:
            self.group = []
        self.verb = False
        chained = bool(self.group) or i - 1 != self.said_before
        self.group.append(i)
        self.open.add(i)
        if self.said_before is not None and self._say(i, self.said_before) and not chained:
            self.open.discard(i)

    def _state(self, i: int) -> None:
        if self._precedes_subject(i) and not (self.open and self.verb):
            self.said_before = i
            self.group, self.open = [], set()
            return
        self.said_before = None
        for subject in [s for s in self.group if s in self.open] or self.group:
            if self._say(subject, i):
                self.open.discard(subject)

    def _precedes_subject(self, i: int) -> bool:
        surface = self.items[i].word.surface
        for following in self.items[i + 1 : self.end]:
            word = following.word
            if word.roles & SUBJECT:
                return surface in word.says
            if not word.roles & ATTRIBUTE or word.roles & FINDING:
                return False
        return False

    def _say(self, subject: int, state: int) -> bool:
        pairs = self.items[subject].word.says.get(self.items[state].word.surface, ())
        if pairs and subject < state:  # what is said behind a subject outweighs what was said before a whole list
            self.mentions = [m for m in self.mentions if m.item != subject or m.anchor > subject]
        kept = self.items[state].word.kept
        for disease, status in pairs:
            same = next((m for m in self.mentions if (m.item, m.disease, m.status) == (subject, disease, status)), None)
            if same:  # "borderline enlarged"
                same.anchor = state
                same.adjectives += [name for name in kept if name not in same.adjectives]
                continue
            places = list(self.items[subject].word.directions)
            self.mentions.append(
                Mention(disease, status, subject, state, list(kept), places, settled=status == "absent")
            )
        return bool(pairs)
