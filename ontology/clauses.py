"""Sentences cut into clauses: what is said in one does not reach into the next."""

from __future__ import annotations

from collections.abc import Sequence

from ontology.scan import Item
from ontology.words import Role

_SEPARATOR = Role.AND | Role.OR | Role.COMMA | Role.BREAK
_CONTENT = Role.FINDING | Role.SUBJECT
_FORWARD = ("all", "before", "near")
AND, OR, COMMA, BREAK, VERB = (int(role) for role in (Role.AND, Role.OR, Role.COMMA, Role.BREAK, Role.VERB))
SEPARATOR, CONTENT, STATE, FRESH = int(_SEPARATOR), int(_CONTENT), int(Role.STATE), int(Role.FRESH)
TRIGGER, WITH, FINDING = int(Role.TRIGGER), int(Role.WITH), int(Role.FINDING)
SUBJECT = int(Role.SUBJECT)


def cut(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Return the clauses of a sentence as ranges of items.

    A clause ends at a word such as "but"; at a comma or an "and" once it has said something and a new statement with a
    subject of its own follows ("no effusion, and the heart is enlarged"); and, where it denies, before what is plainly
    not denied ("no effusion, stable cardiomegaly"; "no effusion with mild edema").
    """
    bounds = [0]
    said = spoken = denies = False
    skip = -1
    for i, item in enumerate(items):
        roles = item.word.roles
        if i <= skip:
            continue
        if roles & BREAK:
            bounds.append(i)
            said = spoken = denies = False
        elif roles & (AND | COMMA):
            skip = i + 1 if i + 1 < len(items) and items[i + 1].word.roles & AND else i
            bare = denies and not spoken and not roles & COMMA  # "no A and B is seen" is one list
            if (said and states(items, skip + 1, bare)) or (denies and _is_fresh(items, skip + 1)):
                bounds.append(i)
                said = spoken = denies = False
        elif denies and roles & WITH and i + 1 < len(items) and not roles & TRIGGER:
            bounds.append(i)
            said = spoken = denies = False
        if roles & (VERB | STATE):
            said = spoken = True
        if roles & TRIGGER and any(s == "absent" and r == "all" for s, r in item.word.triggers):
            said = denies = True
    return list(zip(bounds, [*bounds[1:], len(items)], strict=True))


def states(items: Sequence[Item], start: int, described: bool = False) -> bool:
    """Tell whether what begins at `start`, up to the next separator, has a subject and says something of it.

    With `described`, only a subject such as "heart" counts, not a finding.
    """
    subject = False
    for i in range(start, len(items)):
        roles = items[i].word.roles
        if roles & (SUBJECT if described else CONTENT):
            subject = True
            if i > start and items[i - 1].word.roles & STATE and not roles & FINDING:
                return True
        elif roles & SEPARATOR:
            return False
        elif subject and (roles & (VERB | STATE) or _is_after(items[i])):
            return True
    return False


def _is_after(item: Item) -> bool:
    return any(reach == "after" for _, reach in item.word.triggers)


def _is_fresh(items: Sequence[Item], start: int) -> bool:
    """Tell whether a finding that begins at `start` stands on its own after a denial."""
    if start >= len(items):
        return False
    first = items[start].word
    doubted = any(status == "uncertain" and reach in _FORWARD for status, reach in first.triggers)
    if not (first.roles & FRESH or doubted):
        return False
    return not any(item.word.roles & OR for item in items[start:])
