"""A sentence without its references: what only points to an image is taken out, the rest is left as it was typed."""

from __future__ import annotations

import itertools
import re

from datamodules.snippets.grammar import Naming
from datamodules.snippets.references import OTHER_STUDIES, Reading

_STEPS = 9  # words taken before a reference at most
_CLEAN = (  # on text whose blanks are single; every pattern takes a run of signs at once, so that time stays linear
    (re.compile(r"[(\[{<][,;:./ -]*[)\]}>]"), ""),  # empty brackets
    (re.compile(r"([(\[{])[,;: ]+"), r"\1"),
    (re.compile(r"(?<![,;: ])[,;: ]+(?=[)\]}])"), ""),
    (re.compile(r"(?<! ) +"), " "),
    (re.compile(r" ([,;:.!?])"), r"\1"),
    (re.compile(r"(?<![,;: ])[,;:](?: ?[,;:])+"), lambda run: ";" if run[0].endswith(";") else ","),
    (re.compile(r"[,;:] ?([.])"), r"\1"),
    (re.compile(r" [-\u2013\u2014] ?(?=[.,;]|$)"), ""),
    (re.compile(r"(?<!\.)\. ?\.(?= |$)"), "."),
)
_FIRST, _LAST = " ,;:.!?)", " ,;:-\u2013\u2014"
_BULLET = re.compile(r"^\s*[-*\u2022\u2013]\s")


def snippet_of(reading: Reading) -> str:
    """Return the text of a reading without its references, cleaned; '' if nothing else is said."""
    gone = _Removal(reading).gone
    tokens, text = reading.tokens, reading.tokens.text
    parts, stop = [], 0
    for at, token in enumerate(tokens):
        if gone[at]:
            parts.append(text[stop : token.start])
            stop = token.stop
            if not (parts[-1] and parts[-1][-1].isspace()):
                parts.append(" " if at + 1 < len(tokens) and not tokens.touches(at + 1) else "")
    parts.append(text[stop:])
    left = " ".join("".join(parts).split())
    for pattern, instead in _CLEAN:
        left = pattern.sub(instead, left)
    left = left.strip(" ,;:") if _BULLET.match(text) else left.lstrip(_FIRST + _LAST).rstrip(_LAST)
    left = left if any(character.isalnum() for character in left) else ""
    return left[:1].upper() + left[1:]


class _Removal:
    """Marks the tokens that go."""

    def __init__(self, reading: Reading) -> None:
        self.tokens, self.words = reading.tokens, reading.words
        self.gone = bytearray(len(self.tokens))
        going = [naming for naming in reading.namings if self._goes(naming)]
        for naming in going:
            self._mark(naming.first, naming.stop)
        self._between(going)
        for naming in going:
            first = self._before(naming)
            stop = self._behind(naming, first)
            self._brackets(first, stop)
        self._between(going)
        for naming in going:
            self._last_and(naming)

    def _goes(self, naming: Naming) -> bool:
        if naming.images or naming.refused in OTHER_STUDIES:
            return not naming.refused or naming.refused in OTHER_STUDIES
        return not naming.refused

    def _mark(self, first: int, stop: int) -> None:
        for at in range(first, stop):
            self.gone[at] = 1

    def _kind(self, at: int, *kinds: str) -> bool:
        token = self.tokens[at]
        return token.kind == "word" and any(self.words.has(token.text, kind) for kind in kinds)

    def _leads(self, at: int) -> bool:
        """Tell whether a word only leads to the reference behind it."""
        token = self.tokens[at]
        if token.kind != "word":
            return False
        if self.words.group(token.text, "planes") or self.words.label(token.text) in {"image", "images"}:
            return not self.words.has(token.text, "prior")
        if self._kind(at, "article") and self._kind(at + 1, "link", "point_start"):
            return False  # "der mit Pfeil auf Bild 38 markierte Herd"
        if self.words.label(token.text) == "series" and self._kind(at - 1, "ibid"):
            return True
        plain = self._kind(at, "carriers") and self._planed(at) and not token.text.startswith(("mip", "ct"))
        return plain or self._kind(at, "lead", "article", "ibid", "between")

    def _planed(self, at: int) -> bool:
        """Tell whether a plane is said right before a word such as "reconstruction"."""
        return self.words.group(self.tokens[at - 1].text, "planes") != ""

    def _before(self, naming: Naming) -> int:
        """Take out the words that lead to a reference; return the index of the first that went."""
        tokens, first = self.tokens, naming.first
        at = first - 1
        for _ in range(_STEPS):
            token = tokens[at]
            if at < 0 or self.gone[at]:
                break
            before = at - 1 - (token.kind == "," and tokens[at - 1].kind == ".")
            sign = token.kind in {".", ",", ":"} and self._leads(before) and self._short(before)
            if sign or self._leads(at):
                at -= 1
            elif self._planed(carrier := at - (token.kind == ",")) and self._kind(carrier, "carriers"):
                self.gone[carrier - 1] = 1  # "sagittal MIP": the plane goes, the rest stays
                break
            else:
                break
            first = at + 1
        first = self._pointing(first, naming.stop)
        self._mark(first, naming.first)
        return first

    def _short(self, at: int) -> bool:
        word = self.tokens[at].text
        if self.words.group(word, "planes") or self.words.label(word) == "series":
            return True
        return len(word) <= 4 or self._kind(at, "ibid", "carriers") or word in {"instance", "example"}

    def _pointing(self, first: int, stop: int) -> int:
        """Take a verb that only points ("is best seen on") with the words that lead to the reference."""
        if first >= stop:
            return first
        core = any(self._kind(i, "point_core") for i in range(first, stop))
        at, start = first - 1, first
        behind = self._point_after(stop)
        while at >= 0 and first - at <= _STEPS and self._kind(at, "point") and not self.gone[at]:
            core = core or self._kind(at, "point_core")
            if self._kind(at, "point_start") and (core or behind):
                start = at
            at -= 1
        reached = at + 1 == first and self._kind(at, "reach") and self._kind(first, "from", "between", "lead")
        return at if reached and not self._kind(at - 1, "lead") and self._sentence_ends(stop) else start

    def _sentence_ends(self, at: int) -> bool:
        return self.tokens[at].kind in {"", ".", ";"}

    def _point_after(self, at: int) -> int:
        """Return the index behind a verb that only points, behind a reference; 0 for none."""
        found = self.words.phrases(self.tokens, at) if self.tokens[at].kind == "word" else {}
        return found.get("point_after", 0)

    def _behind(self, naming: Naming, first: int) -> int:
        """Take out what belongs to a reference behind it; return the index behind the last that went."""
        tokens, at = self.tokens, naming.stop
        if tokens[at].kind == "," and (self._kind(at + 1, "lead") and tokens[at + 1].text.startswith("resp")):
            at += 2
        elif self.words.group(tokens[at].text, "planes") and tokens[at + 1].kind in {"close", ",", ";", ".", ""}:
            at += 1
        opening = all(self.gone[i] or tokens[i].kind not in {"word", "int", "dec"} for i in range(first))
        if opening and naming.images and self._kind(at, "show"):
            at += 1 + (tokens[at + 1].text == "sich")
        elif (after := self._point_after(at)) and (opening or tokens[after].kind in {"", ".", ",", ";", ":", "close"}):
            at = after
        self._mark(naming.stop, at)
        before, commas = first - 1, tokens[first - 1].kind == "," and tokens[at].kind == ","
        if commas and self._kind(at + 1, "rejoin"):
            self.gone[before] = self.gone[at] = 1
        return at

    def _brackets(self, first: int, stop: int) -> None:
        """Take brackets that hold nothing any more."""
        tokens = self.tokens
        for _ in range(3):
            while first > 0 and self._joins(first - 1) and tokens.opens(first - 2):
                first -= 1
            if not (tokens.opens(first - 1) and tokens.partner[first - 1] >= stop):
                return
            close = tokens.partner[first - 1]
            if close - stop > _STEPS or any(
                not self.gone[i] and tokens[i].kind in {"word", "int", "dec"} and not self._joins(i)
                for i in range(stop, close)
            ):
                return
            self._mark(first - 1, close + 1)
            first, stop = first - 1, close + 1

    def _between(self, going: list[Naming]) -> None:
        """Take "and" and signs that stand between references only."""
        for left, right in itertools.pairwise(going):
            inner = range(left.stop, right.first)
            if len(inner) <= _STEPS and all(self.gone[i] or self._joins(i) for i in inner):
                self._mark(left.stop, right.first)

    def _last_and(self, naming: Naming) -> None:
        """Nothing yet is joined by an "and" before brackets that are gone."""
        at = naming.stop
        if self.tokens[at].kind == "close" and not self.gone[at] and self._joins(naming.first - 1):
            self.gone[naming.first - 1] = 1

    def _joins(self, at: int) -> bool:
        return self.tokens[at].kind in {",", ";", "/", "&", "+", "dash"} or self._kind(at, "and")
