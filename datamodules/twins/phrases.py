"""Grammar of the synthetic reports: a planned finding (painted or not) becomes one English and one Spanish sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.twins import lexicon as lex
from datamodules.twins.findings import Lesion

PLACED = 0.33  # share of sentences about a finding that say where it is
_TAILED = 0.06  # share of them that add what is not there


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
    """Words of a place: an adjective before the noun, or a phrase after it, in each language."""

    en_before: str = ""
    en_after: str = ""
    es_after: str = ""
    named: tuple[str, ...] = ()


def _place(rng: np.random.Generator, lesions: tuple[Lesion, ...], scope: str, plural: bool) -> _Place:
    sides = {lesion.side for lesion in lesions}
    if "midline" in sides or scope == lex.FIXED:
        return _Place()
    if len(sides) == 2:
        if rng.random() < 0.6:
            return _Place("bilateral", "", "bilaterales" if plural else "bilateral", ("bilateral",))
        return _Place("", lex.BOTH_EN[scope], lex.BOTH_ES[scope], ("bilateral",))
    side = next(iter(sides))
    masculine, feminine = lex.SIDE_ES[side]
    zones = {lesion.zone for lesion in lesions}
    zone = next(iter(zones)) if len(zones) == 1 else ""
    if scope == lex.LUNG and zone and rng.random() < 0.5:
        spanish, gender = _pick(rng, lex.ZONES_ES[zone]).split("|")
        return _Place(
            "", f"in the {side} {_pick(rng, lex.ZONES_EN[zone])}",
            f"en {'el' if gender == 'm' else 'la'} {spanish} {masculine if gender == 'm' else feminine}", (side, zone),
        )  # fmt: skip
    after_es = _pick(rng, lex.WHOLE_ES[scope]).format(m=masculine, f=feminine)
    if rng.random() < 0.45 and scope != lex.LUNG:
        return _Place(side, "", after_es, (side,))
    return _Place("", _pick(rng, lex.WHOLE_EN[scope]).format(s=side), after_es, (side,))


def affirm(rng: np.random.Generator, kind: str, lesions: tuple[Lesion, ...], other: str | None, placed: bool | None = None) -> Sentence:
    """A sentence that affirms a finding.

    Args:
        rng: Choices of words.
        kind: The finding.
        lesions: Its planned lesions; number, size, and side come from them.
        other: A kind that is not in the image, for a tail such as "without pneumothorax"; None for no tail.
        placed: Whether to name the place; None draws it.
    """
    words = lex.WORDS[kind]
    count = len(lesions)
    plural = count > 1
    named = rng.random() < PLACED if placed is None else placed
    place = _place(rng, lesions, words.place, plural) if named else _Place()
    noun_en = _pick(rng, words.en).split("|")[plural]
    single_es, plural_es, gender = _pick(rng, words.es).split("|")
    noun_es = plural_es if plural else single_es

    before_en, after_es = [], []
    same_size = len({lesion.grade for lesion in lesions}) == 1
    sizes_en, sizes_es = (table[words.sizes][lesions[0].grade] for table in (lex.SIZES_EN, lex.SIZES_ES))
    if sizes_en and same_size and rng.random() < 0.4:
        before_en.append(_pick(rng, sizes_en))
        after_es.append(_agree(_pick(rng, sizes_es), gender, plural))
    if words.en_more and rng.random() < 0.2:
        before_en.append(_pick(rng, words.en_more))
        after_es.append(_agree(_pick(rng, words.es_more), gender, plural))
    if place.en_before:
        before_en.append(place.en_before)
    counted = plural and place.named != ("bilateral",)
    head_en = " ".join([*before_en, noun_en])
    head_es = " ".join([noun_es, *after_es])
    article_en, article_es = ("" if plural else None), "una " if gender == "f" else "un "
    if counted and count in lex.COUNTS_EN:
        i = int(rng.integers(3))
        article_en, article_es = lex.COUNTS_EN[count][i] + " ", lex.COUNTS_ES[count][i] + " "
        article_es = "varias " if article_es == "varios " and gender == "f" else article_es
        head_en, head_es = article_en + head_en, article_es + head_es
        a_en, a_es = head_en, head_es
    else:
        a_en = head_en if article_en == "" or _uncountable(noun_en) else _article(head_en)
        a_es = head_es if plural else article_es + head_es
    at_en = f" {place.en_after}" if place.en_after else ""
    at_es = f" {place.es_after}" if place.es_after else ""

    if at_en and rng.random() < 0.25:
        en = _pick(rng, lex.FRONT_EN).format(At=_capital(place.en_after), np=head_en, a=a_en)
    else:
        en = _pick(rng, lex.PRESENT_EN).format(np=head_en, a=a_en, at=at_en)
    if at_es.startswith((" en", " sobre")) and rng.random() < 0.25:
        es = _pick(rng, lex.FRONT_ES).format(At=_capital(place.es_after), np=head_es, a=a_es)
    else:
        es = _pick(rng, lex.PRESENT_ES).format(np=head_es, a=a_es, at=at_es)
    if plural:
        en = en.replace(" is ", " are ") if not en.startswith(("There is evidence", "Note is")) else en
        for one, many in (("Se observa ", "Se observan "), ("Se aprecia ", "Se aprecian "), ("Se identifica ", "Se identifican "),
                          ("Se visualiza ", "Se visualizan "), ("Existe ", "Existen "), ("Se evidencia ", "Se evidencian "),
                          ("Se objetiva ", "Se objetivan "), ("Destaca ", "Destacan "), ("Probable ", "Probables ")):  # fmt: skip
            es = es.replace(one, many).replace(one.lower(), many.lower())
    if other is not None and rng.random() < _TAILED:
        other_en, other_es = _bare(rng, other)
        en = en[:-1] + _pick(rng, lex.TAIL_EN).format(other=other_en) + "."
        es = es[:-1] + _pick(rng, lex.TAIL_ES).format(other=other_es) + "."
    return Sentence(_capital(en), _capital(es), place.named)


def _uncountable(noun: str) -> bool:
    return noun.endswith(("asis", "osis", "scarring", "thickening", "pleura", "cardiomegaly", "atelectasis", "dilatation", "enlargement", "heart", "hilum"))


def _bare(rng: np.random.Generator, kind: str) -> tuple[str, str]:
    words = lex.WORDS[kind]
    return _pick(rng, words.en).split("|")[0], _pick(rng, words.es).split("|")[0]


def negate(rng: np.random.Generator, kind: str, other: str) -> Sentence:
    """A sentence that denies one or two findings."""
    np_en, np_es = _bare(rng, kind)
    other_en, other_es = _bare(rng, other)
    i = int(rng.integers(len(lex.NEGATED_EN)))
    if i == len(lex.NEGATED_EN) - 1 and rng.random() < 0.7:  # resolved findings are rarer
        i = 0
    en = lex.NEGATED_EN[i].format(np=np_en, Np=_capital(np_en), other=other_en)
    spanish = lex.NEGATED_ES[int(rng.integers(len(lex.NEGATED_ES) - 1))]
    return Sentence(en, spanish.format(np=np_es, other=other_es))


def normal(rng: np.random.Generator, present: frozenset[str]) -> Sentence:
    """A sentence about normal anatomy that is true with the kinds in the image."""
    if not present and rng.random() < 0.2:
        return Sentence(*lex.NORMAL_STUDY[int(rng.integers(len(lex.NORMAL_STUDY)))])
    fitting = [(en, es) for en, es, not_with in lex.NORMAL if not present.intersection(not_with)]
    return Sentence(*fitting[int(rng.integers(len(fitting)))])
