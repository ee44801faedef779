"""What is wrong with a lexicon: words given twice, words with two meanings, words and names that can never be found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from ontology.lexicon import Lexicon, keys
from ontology.scan import Scanner

ROLES_THAT_BEND = ("break", "pseudo")  # a phrase of these does nothing else


class Problem(NamedTuple):
    """A problem: `duplicate`, `ambiguous` or `unreachable`; the file, the word, and what is wrong with it."""

    code: str
    file: str
    word: str
    message: str


def check(lexicon: Lexicon) -> list[Problem]:
    """Return everything wrong with a lexicon, by file and word."""
    found = [*_findings(lexicon), *_attributes(lexicon), *_roles(lexicon), *_names(lexicon), *_unseen(lexicon)]
    return sorted(set(found), key=lambda problem: (problem.file, problem.word, problem.code))


def _findings(lexicon: Lexicon) -> Iterator[Problem]:
    diseases = defaultdict(list)
    for term in lexicon.terms:
        diseases[term.surface].append(term.disease)
    for surface, names in diseases.items():
        if len(set(names)) > 1:
            yield Problem("ambiguous", "findings", surface, f"names {' and '.join(dict.fromkeys(names))}")
        elif len(names) > 1:
            yield Problem("duplicate", "findings", surface, f"given {len(names)} times for {names[0]}")


def _attributes(lexicon: Lexicon) -> Iterator[Problem]:
    meanings = defaultdict(list)
    for key, surfaces in lexicon.attributes.items():
        for surface in surfaces:
            meanings[surface].append(key)
    for surface, found in meanings.items():
        if len(found) > 1:
            yield Problem("ambiguous", "attributes", surface, f"means {' and '.join(found)}")
    named = {term.surface: term.disease for term in lexicon.terms}
    for surface in sorted(named.keys() & meanings.keys()):
        yield Problem("ambiguous", "attributes", surface, f"is also a name of {named[surface]}")


def _roles(lexicon: Lexicon) -> Iterator[Problem]:
    """Look for a phrase that means two statuses, or that is to be passed over and yet to do something."""
    statuses = defaultdict(set)
    for (status, reach), surfaces in lexicon.triggers.items():
        for surface in surfaces:
            statuses[surface, "behind" if reach == "after" else "ahead"].add(status)
    for (surface, where), found in statuses.items():
        if len(found) > 1:
            yield Problem("ambiguous", "context", surface, f"means {' and '.join(sorted(found))} of what is {where}")
    triggers = {surface for surface, _ in statuses}
    named = {term.surface for term in lexicon.terms}
    for surface in lexicon.glue["pseudo"]:
        if surface in triggers or surface in named:
            yield Problem("ambiguous", "context", surface, "is in `pseudo` and in another list")


def _names(lexicon: Lexicon) -> Iterator[Problem]:
    """Look for canonical names that no word means."""
    canon = lexicon.canon
    findings = {term.disease for term in lexicon.terms}
    findings |= {disease for entry in lexicon.descriptions for disease in entry.states.values()}
    for name in canon.diseases:
        if name not in findings:
            yield Problem("unreachable", "findings", name, "no word means it")
    attributes = {name for key in lexicon.attributes for name in keys(key)}
    for name in (*canon.adjectives, *canon.directions):
        if name not in attributes:
            yield Problem("unreachable", "attributes", name, "no word means it")


def _unseen(lexicon: Lexicon) -> Iterator[Problem]:
    """Look for phrases that are not found even where they stand alone in a sentence."""
    scanner = Scanner(lexicon)
    for word in scanner.words.values():
        if word.roles:
            _, items = scanner.scan(f"zzz {word.surface} zzz")
            if [item.word.surface for item in items] != [word.surface]:
                yield Problem("unreachable", "lexicon", word.surface, "is never found: other words take its place")
