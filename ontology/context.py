"""Is a finding present, absent, uncertain or past? By the scope of trigger words, after NegEx and ConText.

Chapman et al. 2001 (doi:10.1006/jbin.2001.1029) and Harkema et al. 2009 (doi:10.1016/j.jbi.2009.05.002) let a trigger
reach a window of words up to a terminating word. Here it reaches the end of its clause, the next finding, or a list.
"""

from __future__ import annotations

from collections.abc import Sequence

from ontology.mentions import Mention
from ontology.scan import Item
from ontology.words import Role

AND, OR, COMMA, VERB = int(Role.AND), int(Role.OR), int(Role.COMMA), int(Role.VERB)
TRIGGER, ATTRIBUTE, STATE, BREAK = int(Role.TRIGGER), int(Role.ATTRIBUTE), int(Role.STATE), int(Role.BREAK)
WITH, SUBJECT = int(Role.WITH), int(Role.SUBJECT)
_PARTING = VERB | BREAK | WITH


def join(items: Sequence[Item], mentions: Sequence[Mention]) -> list[str]:
    """Return how each mention is joined to the next one: `or`, `and`, or an empty string.

    A comma joins where the list goes on to an "and" or an "or"; it then counts as that.
    """
    joined = [""] * len(mentions)
    versus = False  # "opacity, atelectasis versus pneumonia" is no list
    said = {mention.anchor for mention in mentions}
    for k in range(len(mentions) - 2, -1, -1):
        seen, gap = 0, range(mentions[k].item + 1, mentions[k + 1].item)
        for i in gap:
            seen |= items[i].word.roles
        if seen & _PARTING or (seen & STATE and not said.isdisjoint(gap)):
            continue
        if any(("absent", "all") in items[i].word.triggers for i in gap):
            continue
        ahead = "" if versus else joined[k + 1]
        versus = any(("uncertain", "between") in items[i].word.triggers for i in gap)
        joined[k] = "or" if seen & OR else "and" if seen & AND else ahead if seen & COMMA else ""
    return joined


def settle(items: Sequence[Item], start: int, end: int, mentions: Sequence[Mention], joined: Sequence[str]) -> None:
    """Set the status of the mentions of the clause `items[start:end]`."""
    heard: dict[int, list[tuple[str, int]]] = {}
    for at in range(start, end):
        if items[at].word.roles & TRIGGER:
            triggers = items[at].word.triggers
            ahead = any(reach != "after" for _, reach in triggers) and any(mention.anchor > at for mention in mentions)
            for status, reach in triggers:
                if ahead and reach == "after":
                    continue  # "possible" speaks of what follows; of what precedes where nothing does
                for k in _reached(items, at, reach, mentions, joined):
                    heard.setdefault(k, []).append((status, at))
    for k, spoken in heard.items():
        if not mentions[k].settled:
            mentions[k].status = _weigh(spoken, mentions[k])
            past = [
                reach for at in range(start, end) for status, reach in items[at].word.triggers if status == "historical"
            ]
            mentions[k].past = mentions[k].status == "historical" and "near" in past and len(set(past)) == 1


def _weigh(triggers: Sequence[tuple[str, int]], mention: Mention) -> str:
    """Let the past outweigh doubt, and doubt denial, unless the doubt or the past is itself denied."""
    denied = [at for status, at in triggers if status == "absent"]
    for status in ("historical", "uncertain"):
        places = [at for found, at in triggers if found == status]
        if places and not (denied and min(denied) < min(places) < mention.anchor):
            return status
    return "absent" if denied else mention.status


def _reached(
    items: Sequence[Item], at: int, reach: str, mentions: Sequence[Mention], joined: Sequence[str]
) -> list[int]:
    """Return which mentions a trigger at item `at` speaks of."""
    following = next((k for k, mention in enumerate(mentions) if mention.anchor > at), None)
    preceding = next((k for k in range(len(mentions) - 1, -1, -1) if mentions[k].item < at), None)
    if reach == "after":
        return _back(preceding, joined)
    if reach == "between":
        return [k for k in (preceding, following) if k is not None]
    if following is None:
        return []
    if reach == "all":
        return list(range(following, len(mentions)))
    if reach == "near" and any(item.word.roles & (COMMA | VERB) for item in items[at + 1 : mentions[following].anchor]):
        return []
    return _forth(items, following, mentions, joined)


def _back(last: int | None, joined: Sequence[str]) -> list[int]:
    if last is None:
        return []
    first = last
    while first and joined[first - 1]:
        first -= 1
    return list(range(first, last + 1))


def _forth(items: Sequence[Item], first: int, mentions: Sequence[Mention], joined: Sequence[str]) -> list[int]:
    """Go on from the first mention reached: over "or" to any, over "and" to a bare one."""
    found = [first]
    for k in range(first, len(mentions) - 1):
        gap = items[mentions[k].item + 1 : mentions[k + 1].item]
        bare = not any(item.word.roles & ATTRIBUTE for item in gap)
        if not (joined[k] == "or" or (joined[k] == "and" and bare)):
            break
        found.append(k + 1)
    return found
