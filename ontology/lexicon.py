"""The lexicon: canonical names in `lexicon/canon.yaml`, and per language the words that mean them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from medvl.errors import ConfigError, nearest

FOLDER = Path(__file__).with_name("lexicon")
FILES = ("findings", "attributes", "descriptions", "context")
REACHES = ("all", "before", "near", "between", "after")
STATUSES = ("present", "absent", "uncertain", "historical")
GLUE = (
    "break",
    "and",
    "or",
    "with",
    "place",
    "verbs",
    "fresh",
    "pseudo",
    "present",
    "normal",
    "comma",
    "singular",
    "abbreviations",
)
PAIR = "pair"  # a direction in attributes.yaml: a part in the plural, so both sides, for `Ober(infer=True)`
_GROUP = re.compile(r"\(([^()]*)\)")


class _Words(yaml.SafeLoader):
    """YAML in which `no` is a word, not false."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as in the parent)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class Canon:
    """The canonical names.

    Attributes:
        diseases: Name of each disease, with its names in each label set.
        adjectives: Name of each adjective, with its group.
        directions: Name of each direction, with its group.
        without: What a disease does not take of directions: `all`, `place` (all but a side before it) or some names.
    """

    diseases: Mapping[str, Mapping[str, tuple[str, ...]]]
    adjectives: Mapping[str, str]
    directions: Mapping[str, str]
    without: Mapping[str, str | frozenset[str]]

    def labels(self, label_set: str) -> dict[str, str]:
        """Return the disease of each label of a set; of several diseases with one label, the first."""
        pairs = [(label, name) for name, sets in self.diseases.items() for label in sets.get(label_set, ())]
        return dict(reversed(pairs))


@dataclass(frozen=True)
class Term:
    """A way to name a finding, and the attributes that it gives it."""

    surface: str
    disease: str
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """A finding told as a subject and what is said of it; see the head of `descriptions.yaml`."""

    subject: tuple[str, ...]
    states: Mapping[str, str]
    normal: tuple[str, ...]
    clear: frozenset[str]
    only: bool
    uncertain: bool


@dataclass(frozen=True)
class Lexicon:
    """One language's words, each as it stands in a report; see the heads of the files."""

    language: str
    canon: Canon
    terms: tuple[Term, ...]
    attributes: Mapping[str, tuple[str, ...]]
    descriptions: tuple[Description, ...]
    triggers: Mapping[tuple[str, str], tuple[str, ...]]
    glue: Mapping[str, tuple[str, ...]]

    @property
    def normal(self) -> frozenset[str]:
        """Words that call any subject normal."""
        return frozenset(self.glue["normal"])


def languages() -> list[str]:
    """Return the languages that come with medvl."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


@cache
def load(language: str = "en") -> Lexicon:
    """Read a lexicon.

    Args:
        language: One that comes with medvl, or a folder with the four files of one (and `canon.yaml`, if its own).

    Raises:
        ConfigError: There is none, a file is not as its head says, or it names what `canon.yaml` does not.
    """
    folder = Path(language) if Path(language).is_dir() else FOLDER / language
    if not folder.is_dir():
        raise ConfigError(
            f"no lexicon {language!r}", hint=nearest(language, languages()), command="medvl ontology check"
        )
    own = folder / "canon.yaml"
    canon = _canon(own if own.is_file() else FOLDER / "canon.yaml")
    content = {name: _read(folder / f"{name}.yaml") for name in FILES}
    try:
        lexicon = _lexicon(folder.name, canon, content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"not a lexicon: {error}", where=str(folder), hint="see the heads of lexicon/en/*.yaml"
        ) from error
    _check_names(lexicon, folder)
    return lexicon


def denials_elsewhere(language: str) -> frozenset[str]:
    """Return words that deny in another language that comes with medvl, and are none of this one's."""
    own = load(language)
    forms = [*(term.surface for term in own.terms), *itertools.chain(*own.triggers.values(), *own.glue.values())]
    known = {word for form in forms for word in form.split()}
    others = (load(name) for name in languages() if name != own.language)
    return frozenset(word for other in others for word in other.triggers["absent", "all"] if " " not in word) - known


def expand(pattern: str) -> Iterator[str]:
    """Yield what a pattern stands for, lower case: `(a|b)` is either, `(s)` may be absent."""
    parts = _GROUP.split(str(pattern).lower())
    options = [[part] if i % 2 == 0 else part.split("|") if "|" in part else [part, ""] for i, part in enumerate(parts)]
    for chosen in itertools.product(*options):
        if surface := " ".join("".join(chosen).split()):
            yield surface


def _all(patterns: Any) -> tuple[str, ...]:
    if not isinstance(patterns, list):
        raise TypeError(f"expected a list in place of {str(patterns)[:40]!r}")
    return tuple(dict.fromkeys(surface for pattern in patterns for surface in expand(pattern)))


def _names(value: Any) -> tuple[str, ...]:
    """Return one name or a list of them as a tuple."""
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),) if value else ()


def keys(text: str) -> tuple[str, ...]:
    """Return the names in `right, upper`."""
    return tuple(name.strip() for name in text.split(","))


def _read(path: Path) -> Any:
    try:
        return _Words(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot read the lexicon", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError("not YAML", where=f"{path}{line}", hint=str(getattr(error, "problem", ""))) from error


def _canon(path: Path) -> Canon:
    content = _read(path)
    try:
        labels = {d: {s: _names(v) for s, v in (sets or {}).items()} for d, sets in content["diseases"].items()}
        adjectives = {name: group for group, names in content["adjectives"].items() for name in names}
        directions = {name: group for group, names in content["directions"].items() for name in names}
        without = {d: v if isinstance(v, str) else frozenset(v) for d, v in content["without"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"not a list of canonical names: {error}", where=str(path)) from error
    return Canon(labels, adjectives, directions, without)


def _lexicon(language: str, canon: Canon, content: Mapping[str, Any]) -> Lexicon:
    context = content["context"]
    words = content["attributes"]
    return Lexicon(
        language,
        canon,
        tuple(_terms(content["findings"])),
        {key: _all(patterns) for kind in ("adjectives", "directions") for key, patterns in words[kind].items()},
        tuple(_description(entry) for entry in content["descriptions"]),
        {(s, r): _all(p) for s in STATUSES[1:] for r, p in context[s].items() if _known(r, REACHES)},
        {name: _all(context.get(name, [])) for name in GLUE},
    )


def _terms(findings: Mapping[str, Iterable[str]]) -> Iterator[Term]:
    for disease, patterns in findings.items():
        for pattern in patterns:
            names, _, attributes = str(pattern).partition("=>")
            given = keys(attributes) if attributes else ()
            yield from (Term(surface, disease, given) for surface in expand(names))


def _description(entry: Mapping[str, Any]) -> Description:
    states = {surface: disease for disease, words in entry["states"].items() for surface in _all(words)}
    clear = frozenset(_all(entry.get("clear", [])))
    only, uncertain = bool(entry.get("only")), bool(entry.get("uncertain"))
    return Description(_all(entry["subject"]), states, _names(entry.get("normal")), clear, only, uncertain)


def _known(name: str, names: tuple[str, ...]) -> bool:
    if name not in names:
        raise ValueError(f"{name!r}: {nearest(name, names)}")
    return True


def _check_names(lexicon: Lexicon, folder: Path) -> None:
    """Refuse names that the canon does not have."""
    canon = lexicon.canon
    attributes = {PAIR, *canon.adjectives, *canon.directions}
    named: list[tuple[str, Collection[str], str]] = [
        (term.disease, canon.diseases, "findings") for term in lexicon.terms
    ]
    named += [(name, attributes, "findings") for term in lexicon.terms for name in term.attributes]
    named += [(name, attributes, "attributes") for key in lexicon.attributes for name in keys(key)]
    for entry in lexicon.descriptions:
        named += [(name, canon.diseases, "descriptions") for name in (*entry.states.values(), *entry.normal)]
    for name, known, file in named:
        if name not in known:
            raise ConfigError(
                f"{name!r} is not in canon.yaml", where=str(folder / f"{file}.yaml"), hint=nearest(name, known)
            )
