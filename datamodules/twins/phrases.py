"""Grammar of the synthetic reports: a planned finding (painted or not) becomes one English and one Spanish sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.twins import frames, synonyms
from datamodules.twins import lexicon as lex
from datamodules.twins.shapes import Lesion

PLACED = 0.32  # share of sentences about a finding that say where it is
_TAILED = 0.06  # share of them that add what is not there
_UNCOUNTABLE = (
    "asis", "osis", "scarring", "thickening", "pleura", "cardiomegaly", "dilatation", "enlargement", "prominence",
    *synonyms.UNCOUNTABLE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence in two languages, and the places it names."""

    en: str
    es: str
    locations: tuple[str, ...] = ()


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _article(text: str) -> str:
    return ("an " if text[0] in "aeiou" else "a ") + text


def _agree(adjective: str, gender: str, plural: bool) -> str:
    """Spanish agreement of a masculine singular adjective; of its first inflected word where it has several."""
    if adjective.startswith("de "):
        return adjective
    if " " in adjective:
        head, tail = adjective.rsplit(" ", 1)
        return f"{head} {_agree(tail, gender, plural)}"
    if gender == "f" and adjective.endswith("o"):
        adjective = adjective[:-1] + "a"
    if not plural:
        return adjective
    return adjective + ("s" if adjective[-1] in "aeo" else "es")


@dataclass(frozen=True, slots=True)
class _Place:
    """Words of a place: an adjective before the English noun or a phrase after it; a phrase after the Spanish one."""

    en_before: str = ""
    en_after: str = ""
    es_after: str = ""
    named: tuple[str, ...] = ()


def _nouns(kind: str, unseen: bool) -> tuple[str, ...]:
    return synonyms.NOUNS[kind] if unseen else lex.WORDS[kind].en


def _place(rng: np.random.Generator, lesions: tuple[Lesion, ...], scope: str, unseen: bool) -> _Place:
    sides, zones = {lesion.side for lesion in lesions}, {lesion.zone for lesion in lesions}
    if "midline" in sides or scope == lex.FIXED:
        return _Place()
    if len(sides) == 2:
        if rng.random() < 0.6:
            both = synonyms.BOTH.get("".join(zones), "bilateral") if unseen else "bilateral"
            return _Place(both, "", "bilaterales", ("bilateral",))
        return _Place("", lex.BOTH_EN[scope], lex.BOTH_ES[scope], ("bilateral",))
    (side,), zone = sides, next(iter(zones)) if len(zones) == 1 else ""
    masculine, feminine = lex.SIDE_ES[side]
    if scope == lex.LUNG and zone and rng.random() < 0.5:
        english = f"in the {side} {_pick(rng, (synonyms.ZONES if unseen else lex.ZONES_EN)[zone])}"
        spanish, gender = _pick(rng, lex.ZONES_ES[zone]).split("|")
        article, adjective = ("la", feminine) if gender == "f" else ("el", masculine)
        return _Place("", english, f"en {article} {spanish} {adjective}", (side, zone))
    spanish = _pick(rng, lex.WHOLE_ES[scope]).format(m=masculine, f=feminine)
    if scope != lex.LUNG and rng.random() < 0.45:
        return _Place(side, "", spanish, (side,))
    return _Place("", _pick(rng, lex.WHOLE_EN[scope]).format(s=side), spanish, (side,))


@dataclass(frozen=True, slots=True)
class _Draw:
    """Choices that both languages share, so that their sentences say the same."""

    words: lex.Words
    nouns: tuple[str, ...]  # in English
    count: int
    grade: int | None  # of size; None where size is not said
    texture: int | None  # which texture adjective
    amount: int  # which word for a count
    place: _Place

    @property
    def counted(self) -> bool:
        """Whether the number of lesions is said."""
        return self.count > 1 and self.place.named != ("bilateral",)


def _english(rng: np.random.Generator, draw: _Draw) -> str:
    plural, place = draw.count > 1, draw.place
    noun = _pick(rng, draw.nouns).split("|")[plural]
    sizes = () if draw.grade is None else lex.SIZES_EN[draw.words.sizes][draw.grade]
    adjectives = [_pick(rng, sizes)] if sizes else []
    adjectives += [] if draw.texture is None else [draw.words.en_more[draw.texture]]
    after = place.en_after
    if place.en_before and " of " in noun:
        after = "on both sides" if plural else f"on the {place.en_before}"
    elif place.en_before:
        adjectives.append(place.en_before)
    phrase = " ".join([*adjectives, noun])
    if draw.counted:
        phrase = f"{lex.COUNTS_EN[draw.count][draw.amount]} {phrase}"
    with_article = phrase if plural or _uncountable(noun) else _article(phrase)
    first = bool(after) and rng.random() < 0.25
    return _pick(rng, frames.FIRST_EN if first else frames.PRESENT_EN).format(
        np=phrase, a=with_article, at=f" {after}" if after else "", At=_capital(after), be="are" if plural else "is"
    )


def _spanish(rng: np.random.Generator, draw: _Draw) -> str:
    plural, after = draw.count > 1, draw.place.es_after
    forms = _pick(rng, draw.words.es).split("|")
    gender = forms[2]
    sizes = () if draw.grade is None else lex.SIZES_ES[draw.words.sizes][draw.grade]
    adjectives = [_agree(_pick(rng, sizes), gender, plural)] if sizes else []
    adjectives += [] if draw.texture is None else [_agree(draw.words.es_more[draw.texture], gender, plural)]
    phrase = " ".join([forms[plural], *adjectives])
    with_article = phrase if plural else f"{'una' if gender == 'f' else 'un'} {phrase}"
    if draw.counted:
        amount = lex.COUNTS_ES[draw.count][draw.amount]
        with_article = phrase = f"{'varias' if (amount, gender) == ('varios', 'f') else amount} {phrase}"
    first = after.startswith(("en ", "sobre ")) and rng.random() < 0.25
    return _pick(rng, frames.FIRST_ES if first else frames.PRESENT_ES).format(
        np=phrase,
        a=with_article,
        at=f" {after}" if after else "",
        At=_capital(after),
        n="n" if plural else "",
        s="s" if plural else "",
    )


def affirm(
    rng: np.random.Generator,
    kind: str,
    lesions: tuple[Lesion, ...],
    other: str,
    placed: bool | None = None,
    unseen: bool = False,
) -> Sentence:
    """A sentence that affirms a finding.

    Args:
        rng: Choices of words.
        kind: The finding.
        lesions: Its planned lesions; number, size and side come from them.
        other: A kind that is not in the image, for a rare tail such as "without pneumothorax".
        placed: Whether to name the place; None draws it.
        unseen: Whether English says finding and place by `synonyms` in place of its usual words.
    """
    words, count = lex.WORDS[kind], len(lesions)
    named = rng.random() < PLACED if placed is None else placed
    alike = len({lesion.grade for lesion in lesions}) == 1 and bool(lex.SIZES_EN[words.sizes][0])
    draw = _Draw(
        words=words,
        nouns=_nouns(kind, unseen),
        count=count,
        grade=lesions[0].grade if alike and rng.random() < 0.4 else None,
        texture=int(rng.integers(len(words.es_more))) if words.es_more and rng.random() < 0.2 and not unseen else None,
        amount=int(rng.integers(3)),
        place=_place(rng, lesions, words.place, unseen) if named else _Place(),
    )
    en, es = _english(rng, draw), _spanish(rng, draw)
    if rng.random() < _TAILED:
        other_en, other_es = _bare(rng, other, unseen)
        en = en[:-1] + _pick(rng, frames.TAIL_EN).format(other=other_en) + "."
        es = es[:-1] + _pick(rng, frames.TAIL_ES).format(other=other_es) + "."
    return Sentence(_capital(en), _capital(es), draw.place.named)


def _uncountable(noun: str) -> bool:
    """Whether an English noun takes no article in the singular."""
    head = noun.split(" of ")[0]
    return head.endswith(_UNCOUNTABLE)


def _bare(rng: np.random.Generator, kind: str, unseen: bool) -> tuple[str, str]:
    return _pick(rng, _nouns(kind, unseen)).split("|")[0], _pick(rng, lex.WORDS[kind].es).split("|")[0]


def negate(rng: np.random.Generator, kind: str, other: str, unseen: bool = False) -> Sentence:
    """A sentence that denies one or two findings; `unseen` as in `affirm`."""
    np_en, np_es = _bare(rng, kind, unseen)
    other_en, other_es = _bare(rng, other, unseen)
    i = int(rng.integers(len(frames.NEGATED_EN)))
    if i == len(frames.NEGATED_EN) - 1 and rng.random() < 0.7:  # resolved findings are rarer
        i = 0
    en = frames.NEGATED_EN[i].format(np=np_en, Np=_capital(np_en), other=other_en)
    spanish = _pick(rng, frames.NEGATED_ES)
    return Sentence(en, spanish.format(np=np_es, other=other_es))


def normal(rng: np.random.Generator, present: frozenset[str]) -> Sentence:
    """A sentence about normal anatomy that is true with the kinds in the image."""
    if not present and rng.random() < 0.2:
        return Sentence(*frames.NORMAL_STUDY[int(rng.integers(len(frames.NORMAL_STUDY)))])
    fitting = [(en, es) for en, es, not_with in frames.NORMAL if not present.intersection(not_with)]
    return Sentence(*fitting[int(rng.integers(len(fitting)))])
