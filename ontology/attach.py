"""Which finding an adjective or a direction belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ontology.mentions import Mention
from ontology.scan import Item
from ontology.words import Role

AND, OR, COMMA, VERB = int(Role.AND), int(Role.OR), int(Role.COMMA), int(Role.VERB)
ATTRIBUTE, WITH, PLACE, TRIGGER = int(Role.ATTRIBUTE), int(Role.WITH), int(Role.PLACE), int(Role.TRIGGER)
SINGULAR = int(Role.SINGULAR)
SUBJECT, FINDING, BREAK = int(Role.SUBJECT), int(Role.FINDING), int(Role.BREAK)
EXPLAINS = int(Role.EXPLAINS)
COORDINATOR = AND | OR | COMMA
PARTING = COORDINATOR | VERB | WITH | BREAK | TRIGGER | EXPLAINS


def attach(items: Sequence[Item], start: int, end: int, mentions: Sequence[Mention], joined: Sequence[str]) -> None:
    """Give the attributes of the clause `items[start:end]` to its mentions (at least one)."""
    places = sorted({mention.item for mention in mentions})
    groups = [[m for m in mentions if m.item == place] for place in places]
    used = set(places) | {mention.anchor for mention in mentions}
    links = [joined[max(k for k, m in enumerate(mentions) if m.item == place)] for place in places]
    give_before(items, _own(items, start, places[0]), groups[0], used, places[0])
    _share_forward(0, groups, links, items, places)
    for k in range(len(places)):
        stop = places[k + 1] if k + 1 < len(places) else end
        parting = _part(items, places[k] + 1, stop) if k + 1 < len(places) else stop
        _give_behind(items, places[k] + 1, parting, k, groups, links, used)
        if k + 1 < len(places):
            give_before(items, range(parting, stop), groups[k + 1], used, stop)
            _share_forward(k + 1, groups, links, items, places)


def give(word_item: Item, mention: Mention, *, place_only: bool = False, behind: bool = False) -> None:
    """Add an item's attributes to a mention."""
    for name in () if behind and mention.before_only else word_item.word.directions:
        if name not in mention.directions:
            mention.directions.append(name)
    for name in () if place_only else word_item.word.adjectives:
        if name not in mention.adjectives:
            mention.adjectives.append(name)


def _own(items: Sequence[Item], start: int, stop: int) -> range:
    """Return the items before a clause's first finding that may speak of it: not those of a subject left unspoken."""
    subjects = [i for i in range(start, stop) if items[i].word.roles & SUBJECT]
    if subjects:
        partings = [i for i in range(subjects[-1], stop) if items[i].word.roles & (COORDINATOR | WITH)]
        start = partings[-1] if partings else start
    return range(start, stop)


def give_before(items: Sequence[Item], span: range, group: Sequence[Mention], used: set[int], place: int) -> None:
    """Give what stands before a finding."""
    subject = max((i for i in span if items[i].word.roles & SUBJECT and i not in used), default=-1)
    if subject == place - 1 and items[subject].end == items[place].start:  # a word of the finding: "lung pneumothorax"
        subject = -1
    for i in span:
        if i not in used and items[i].word.roles & ATTRIBUTE:
            for mention in group:
                give(items[i], mention, place_only=i < subject)


def _part(items: Sequence[Item], start: int, stop: int) -> int:
    """Return where, between two findings, the attributes of the first end and those of the second begin."""
    partings = [i for i in range(start, stop) if items[i].word.roles & PARTING]
    if not partings:
        placed = any(items[i].word.roles & PLACE for i in range(start, stop))
        return stop if placed else start
    at = partings[-1]
    # "nodule and patchy left | and | right opacities": attributes on both sides, and an earlier parting.
    while at - 1 >= start and items[at].word.roles & COORDINATOR and len(partings) > 1 and _touches(items, at, stop):
        partings.pop()
        at = partings[-1]
    return at + 1


def _touches(items: Sequence[Item], at: int, stop: int) -> bool:
    before, item = items[at - 1], items[at]
    beyond = items[at + 1] if at + 1 < stop else None
    return (
        beyond is not None
        and bool(before.word.roles & ATTRIBUTE and beyond.word.roles & ATTRIBUTE)
        and before.end == item.start
        and beyond.start == item.end
    )


def _give_behind(
    items: Sequence[Item],
    start: int,
    stop: int,
    k: int,
    groups: Sequence[Sequence[Mention]],
    links: Sequence[str],
    used: set[int],
) -> None:
    """Give what stands behind a finding; what a verb says of a list goes to all of it, a place to the bare ones."""
    first = k
    while first and links[first - 1]:
        first -= 1
    joint = [mention for group in groups[first:k] for mention in group]
    bare = [mention for mention in joint if not mention.directions]
    verb = shared = False
    for i in range(start, stop):
        roles = items[i].word.roles
        if roles & VERB and not verb:
            verb = True
            shared = not (roles & SINGULAR and _is_apart(items, start - 1))
        if i in used or not roles & ATTRIBUTE:
            continue
        for mention in groups[k]:
            give(items[i], mention, behind=True)
        for mention in bare if not verb else joint if shared else ():
            give(items[i], mention, place_only=not verb, behind=True)


def _is_apart(items: Sequence[Item], at: int) -> bool:
    """Tell whether a comma and an "and" set off the finding at `at`: "X, and a Y is on the left" speaks of Y."""
    commas = [i for i in range(at - 1, max(at - 6, 0), -1) if items[i].word.roles & COMMA]
    return bool(commas) and bool(items[commas[0] + 1].word.roles & AND)


def _share_forward(
    k: int, groups: Sequence[Sequence[Mention]], links: Sequence[str], items: Sequence[Item], places: Sequence[int]
) -> None:
    """Give a bare finding that is joined to the one before it the places that stand before that one."""
    if k + 1 >= len(groups) or not links[k] or not groups[k][0].directions:
        return
    gap = items[places[k] + 1 : places[k + 1]]
    if not any(item.word.roles & (ATTRIBUTE | PLACE) for item in gap):
        for mention in groups[k + 1]:
            mention.directions.extend(groups[k][0].directions)


def explain(items: Sequence[Item], mentions: Sequence[Mention]) -> None:
    """Give a finding without a place that of the one before it, where words between say that it explains that one."""
    for first, second in pairwise(mentions):
        gap = items[first.item + 1 : second.item]
        explains = any(item.word.roles & (EXPLAINS | OR) for item in gap)
        if explains and not second.directions and "absent" not in (first.status, second.status):
            second.directions.extend(first.directions)
