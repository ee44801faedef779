"""Pairs of bare numbers in brackets: `(4/38)`, `(4:38-41, 44)`, `[4-38; 5-12]`, and what else such pairs may be."""

from __future__ import annotations

from datamodules.snippets.grammar import Naming
from datamodules.snippets.numbers import Numbers
from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import Words

LEAST_IMAGE = 13  # as the second of a bare pair; below it, scores, fractions, months and counts are likelier
_KNOWN = frozenset(
    {
        "lead",
        "prior_adverb",
        "prior",
        "prior_bare",
        "now",
        "there",
        "phase",
        "carriers",
        "and",
        "ibid",
        "modality",
        "same_modality",
        "compare",
    }
)
_SERIES_OF_DASH = range(1, 13)  # `(8-132)`; other ranges are ages, ribs, sizes
_LEAST_WINDOW = 100  # width of a window; `aortopulmonary window (2/33)` is none
_LAST_DAY = 31  # of a month, and of the years of which reports write two digits
_NEAR = 4  # words before a bracket that may say what its numbers are


class Pairs:
    """Reads pairs where a bracket, or a list that began with one, allows them."""

    def __init__(self, tokens: Tokens, words: Words) -> None:
        self.tokens, self.words, self.numbers = tokens, words, Numbers(tokens, words)
        self._depth = 0
        self._clean = False  # nothing foreign since the bracket or the last separator
        self._refused = ""  # why the pair before in the same brackets was none
        self._goes_on = -1  # where a list of pairs may go on without a bracket

    def pass_over(self, at: int) -> None:
        """Take note of a token that belongs to no naming."""
        token = self.tokens[at]
        if self.tokens.opens(at):
            self._depth, self._clean, self._refused = self._depth + 1, True, ""
        elif self.tokens.closes(at):
            self._depth, self._clean = max(0, self._depth - 1), False
        elif token.kind in {",", ";", ":"}:
            self._clean = self._depth > 0
        elif token.kind == "word":
            self._clean = self._clean and self._known(token.text)
        elif token.kind not in {"/", "dash", ".", "&", "+"}:
            self._clean = False

    def found(self, naming: Naming) -> None:
        """Take note of a naming that ends."""
        self._clean = self._depth > 0
        self._goes_on = naming.stop if naming.bare else -1
        if self._goes_on >= 0 and self.tokens[naming.stop].kind in {",", ";"}:
            self._goes_on += 1
        if self._goes_on >= 0 and self.words.has(self.tokens[self._goes_on].text, "and"):
            self._goes_on += 1

    def read(self, at: int) -> Naming | None:
        """Return the pair that begins at a token; one that is something else says in `refused` what."""
        series, sign, image = self.tokens[at], self.tokens[at + 1], self.tokens[at + 2]
        allowed = self._clean if self._depth else False
        if not (allowed or at == self._goes_on) or series.kind != "int" or sign.kind not in {"/", ":", "dash"}:
            return None
        found = self.numbers.listed(at + 2, True) if image.kind == "int" else None
        if not series.value or found is None or series.text.startswith("0") or image.text.startswith("0"):
            return None
        images, stop = found
        if self.tokens[stop].kind in {"/", "dash", ":"} or not self._may_end(stop):
            return None
        naming = Naming(series.value, images, at, stop, bare=True)
        naming.refused = self._refused or self._other(at, naming, sign.kind, allowed and at != self._goes_on)
        self._refused = naming.refused
        return naming

    def _may_end(self, at: int) -> bool:
        token = self.tokens[at]
        if token.kind == "word":
            return self._known(token.text)
        return token.kind in {"", "close", ",", ";", ".", "open", "&", "+"}

    def _known(self, word: str) -> bool:
        if self.words.kinds(word) & _KNOWN:
            return True
        return any(self.words.group(word, group) for group in ("planes", "phases"))

    def _other(self, at: int, naming: Naming, sign: str, opening: bool) -> str:
        """Return what a pair is if it is no reference."""
        series, image = naming.series or 0, naming.images[0][0]
        if image >= 1900 or series >= 1900:
            return "date"
        if opening and (told := self._told(at)):
            return told
        if opening and (told := self._told_behind(naming.stop)):
            return told
        if sign == "dash" and (series not in _SERIES_OF_DASH or image < max(25, 4 * series)):
            return "measurement"
        if image < LEAST_IMAGE:
            return "score"
        if sign == ":" and series < 24 and image < 60 and self._near(at, "not_pair:time", 8):
            return "time"
        if (
            series > 9
            and series % 5 == 0
            and image % 5 == 0
            and series > image
            and series < 500
            and series >= 100
            and image <= 60
        ):
            return "measurement"  # window and level
        return ""

    def _told(self, at: int) -> str:
        """Return what the words before a bracket say that its numbers are."""
        tokens, opened = self.tokens, at - 1
        while opened >= 0 and not tokens.opens(opened):
            opened -= 1
            if at - opened > _NEAR + 2:
                return ""
        seen = 0
        for i in range(opened - 1, max(-1, opened - 8), -1):
            token = tokens[i]
            if token.kind in {",", ";", ":", "close", "int", "dec"} or seen == _NEAR:
                break
            if token.kind == "word":
                if len(token.text) == 1 and tokens[i - 1].kind == "int" and tokens.touches(i):
                    break  # the lymph node station 4L
                seen += 1
                if told := self.words.group(token.text, "not_pair"):
                    if told == "window" and (self.tokens[at].value < _LEAST_WINDOW or seen > 1):
                        continue
                    if told == "date" and max(tokens[at].value, tokens[at + 2].value) > _LAST_DAY:
                        continue
                    near = 2 if told in {"measurement", "anatomy", "count", "date"} else _NEAR
                    if seen <= near and not (told == "anatomy" and seen > 1):
                        return "measurement" if told == "window" else told
        return ""

    def _told_behind(self, at: int) -> str:
        token = self.tokens[at + 1] if self.tokens.closes(at) else self.tokens[at]
        if token.kind != "word":
            return ""
        if self.words.has(token.text, "units"):
            return "measurement"
        told = self.words.group(token.text, "not_pair")
        return told if told in {"count", "score"} else ""

    def _near(self, at: int, kind: str, reach: int) -> bool:
        return any(kind in self.words.kinds(self.tokens[i].text) for i in range(max(0, at - 3 * reach), at))
