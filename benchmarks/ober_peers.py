"""Others that read findings from reports, on the same terms as ours: what differs is how they read what is said of one.

`clause_rule` restates the matcher of MedTrim's release (icon-lab/MedTrim at 28d08ff, `data/OBER.py`) from what it does:
sentences are cut at but, with and `, which`, and end at without and rather than; a clause that has a word of its list
says nothing, and as released it has no list at all; every adjective and direction of a clause is of every finding in
it. Its vocabulary is a binary file that is not read here, so terms are ours, and of the sixteen words of its list the
eight that are on record. On the release itself the same reports gave what `ober_openi.REPORTED` has.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from medvl.errors import ConfigError
from ontology.entities import Entity
from ontology.lexicon import Lexicon, keys

WORKER = Path(__file__).with_name("medspacy_worker.py")
LIST = ("no", "not", "normal", "clear", "unremarkable", "resolved", "intact", "minor")
SUBJECTS = ("heart", "heart size", "cardiac silhouette", "cardiac size", "cardiac shadow")
VERBS = ("", "is", "appears", "remains")
DEGREES = ("", "mildly", "slightly", "moderately", "markedly", "borderline")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_CLAUSE = re.compile(r"\b(?:but|with)\b|, which\b")
_END = re.compile(r" (?:without|rather than) ")
_SPACE = re.compile(r"[^a-z]+")


def terms(lexicon: Lexicon) -> dict[str, str]:
    """Return the surface forms of each finding, those of a large heart that take a verb among them."""
    found = {term.surface: term.disease for term in lexicon.terms}
    for subject, verb, degree in product(SUBJECTS, VERBS, DEGREES):
        found[" ".join(f"{subject} {verb} {degree} enlarged".split())] = "cardiomegaly"
        found[" ".join(f"{degree} enlarged {subject}".split())] = "cardiomegaly"
    return found


class ClauseRule:
    """Findings by clauses, as MedTrim's release reads them.

    Args:
        lexicon: Of terms and attributes.
        silent: Words that empty a clause; none as released.
    """

    def __init__(self, lexicon: Lexicon, silent: Sequence[str] = LIST) -> None:
        self.terms = {_plain(surface): name for surface, name in terms(lexicon).items()}
        self.attributes = {
            _plain(surface): keys(names) for names, forms in lexicon.attributes.items() for surface in forms
        }
        self.directions = lexicon.canon.directions
        self.silent = frozenset(silent)
        self._term, self._attribute = _any_of(self.terms), _any_of(self.attributes)

    def extract(self, text: str) -> list[Entity]:
        """Return the findings of a text; spans are not told."""
        sentences = enumerate(_SENTENCE.split(text.lower()))
        return [
            entity
            for number, sentence in sentences
            for clause in _CLAUSE.split(sentence)
            for entity in self._clause(_plain(_END.split(clause, maxsplit=1)[0]), number)
        ]

    def _clause(self, words: str, number: int) -> Iterable[Entity]:
        if not self.silent.isdisjoint(words.split()):
            return
        names = {self.terms[surface] for surface in self._term.findall(words)}
        said = {name for form in self._attribute.findall(words) for name in self.attributes[form]} if names else set()
        sides = tuple(sorted(said & self.directions.keys()))
        others = tuple(sorted(said - self.directions.keys()))
        for name in sorted(names):
            yield Entity(name, "present", others, sides, (0, 0), number)


def medspacy(python: str, wanted: Mapping[str, str], texts: Sequence[str]) -> dict[str, Any]:
    """Return what medspaCy affirms: `version`, `seconds` and `found`.

    Args:
        python: Interpreter that has it.
        wanted: Class of each surface form.
        texts: Reports.

    Raises:
        ConfigError: It does not run there.
    """
    task = json.dumps({"terms": dict(wanted), "texts": list(texts)})
    try:
        done = subprocess.run([python, str(WORKER)], input=task, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError("cannot run the interpreter of medspaCy", where=python) from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise ConfigError(
            f"medspaCy failed: {' '.join(last)[:80]}",
            where=python,
            hint="it pins an older spaCy: give it an environment of its own",
            command=f"{python} -m pip install medspacy",
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _plain(text: str) -> str:
    """Return letters and single spaces."""
    return _SPACE.sub(" ", text).strip()


def _any_of(surfaces: Iterable[str]) -> re.Pattern[str]:
    """Match whole words, the longest first."""
    forms = sorted(filter(None, surfaces), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, forms))})\b")
