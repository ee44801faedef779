"""What names images in a text, whatever study it speaks of: labelled references and series named alone."""

from __future__ import annotations

from dataclasses import dataclass

from datamodules.snippets.numbers import Numbers, Range
from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import Words

_LOOSE = {",", ";", "/", "dash", ":", "."}
_ASIDE = 6  # tokens between brackets between a series and its image: `series 4 (soft tissue), image 38`


@dataclass(slots=True)
class Naming:
    """Images or a series, as named in a text.

    Attributes:
        series: Its number; None where the naming has none.
        images: Ranges, as written; empty where a series stands alone.
        first: Index of its first token.
        stop: Index behind its last.
        bare: Whether it is a pair of bare numbers.
        weak: Whether its only label may be another word (`im`, a misspelling).
        plural: Whether it is labelled as several images.
        plane: Said inside of it.
        refused: Why it is no reference to an image of this study; '' if it is one.
    """

    series: int | None
    images: list[Range]
    first: int
    stop: int
    bare: bool = False
    weak: bool = False
    plural: bool = False
    plane: str = ""
    refused: str = ""


class Grammar:
    """Reads labelled namings; see `docs/snippet-annotation.md` for what they are."""

    def __init__(self, tokens: Tokens, words: Words) -> None:
        self.tokens, self.words, self.numbers = tokens, words, Numbers(tokens, words)

    def read(self, at: int) -> Naming | None:
        """Return the naming that begins at a token, if one does."""
        token = self.tokens[at]
        label = self.words.label(token.text) if token.kind == "word" else ""
        if not label:
            return None
        if (both := self._both(at)) is not None:
            return both
        return self._series_first(at) if label == "series" else self._image_first(at)

    def series(self, at: int) -> tuple[int, int] | None:
        """Read a label and the number of one series."""
        if self.words.label(self.tokens[at].text) != "series":
            return None
        number = self.numbers.skip_label(at)
        if self.words.numbered(self.tokens[at].text) and not any(self._word(i, "number") for i in range(at, number)):
            return None
        return self.numbers.single(number)

    def images(self, at: int) -> tuple[list[Range], int] | None:
        """Read a label and a list of images."""
        label = self.words.label(self.tokens[at].text)
        if not label.startswith("image"):
            return None
        between = self._word(at - 1, "between") or (self._word(at - 1, "article") and self._word(at - 2, "between"))
        return self.numbers.listed(self.numbers.skip_label(at), label == "images", between)

    def _both(self, at: int) -> Naming | None:
        """Read `se/im 7/20`, `image/series: 71/3`."""
        first, second = (self.words.label(self.tokens[i].text) for i in (at, at + 2))
        if (
            self.tokens[at + 1].kind not in {"/", "dash"}
            or not first
            or not second
            or (first == "series") == (second == "series")
        ):
            return None
        start = self.numbers.skip_label(at + 2)
        left, sign, right = self.tokens[start], self.tokens[start + 1], self.tokens[start + 2]
        if not left.value or sign.kind not in {"/", "dash", ":"} or not right.value:
            return None
        if first != "series":
            return Naming(right.value, [(left.value, left.value)], at, start + 3)
        found = self.numbers.listed(start + 2, second == "images")
        return None if found is None else Naming(left.value, found[0], at, found[1], bare=True)

    def _series_first(self, at: int) -> Naming | None:
        found = self.series(at)
        if found is None:
            return None
        series, stop = found
        weak = self.words.weak(self.tokens[at].text)
        where, plane = self._to_image(at, stop)
        images = self.images(where)
        if images is not None and not self._image_then_series(where, images[1], stop):
            end = images[1]
            opened = [i for i in range(stop, where) if self.tokens.opens(i) and self.tokens.partner[i] >= where]
            if opened and self.tokens.partner[opened[0]] == end:
                end += 1
            first = at - 1 if self.tokens.opens(at - 1) and stop < where and self.tokens.partner[at - 1] == stop else at
            plural = self.words.label(self.tokens[where].text) == "images"
            return Naming(series, images[0], first, end, plane=plane, plural=plural)
        direct = None if weak else self._direct(stop)
        if direct is not None:
            return Naming(series, direct[0], at, direct[1], bare=True)
        return Naming(series, [], at, stop, weak=weak)

    def _direct(self, at: int) -> tuple[list[Range], int] | None:
        """Read the images behind a series without their label: `series 5/112`, `se4: 180-215`."""
        sign = self.tokens[at]
        hashed = at + (sign.kind == ",")
        if self.tokens[hashed].kind == "#":
            return self.numbers.listed(hashed + 1, True)
        if sign.kind not in {"/", ":"} or not self.tokens[at + 1].value:
            return None
        if sign.kind == ":" and not (self.tokens.touches(at) and self.tokens.touches(at + 1)):
            found = self.numbers.listed(at + 1, True)
            closed = found is not None and self.tokens[found[1]].kind == "close"
            return found if closed else None
        return self.numbers.listed(at + 1, True)

    def _to_image(self, at: int, stop: int) -> tuple[int, str]:
        """Return where the label of the image may stand behind a series, and the plane that is said between."""
        tokens, plane = self.tokens, ""
        where = stop
        if tokens.opens(at - 1) and tokens.partner[at - 1] == where:
            where += 1
        elif tokens.opens(where) and (aside := self._aside(where)):
            plane = next((p for i in range(where, aside) if (p := self.words.group(tokens[i].text, "planes"))), "")
            where = aside
        for _ in range(5):
            token = tokens[where]
            if self.words.label(token.text).startswith("image") and self.numbers.single(self.numbers.skip_label(where)):
                break
            said = self.words.group(token.text, "planes")
            phase = (
                self.words.group(token.text, "phases") or self._word(where, "phase") or self._word(where, "carriers")
            )
            if token.kind in _LOOSE and not tokens.ends_sentence(where):
                where += 1
            elif token.kind == "word" and (said or phase or self._word(where, "and")):
                plane, where = said or plane, where + 1
            elif self._only_word(where) or (token.kind == "open" and (where == stop or tokens[where - 1].kind == ",")):
                where += 1
            else:
                break
        return where, plane

    def _aside(self, at: int) -> int:
        """Return the index behind a bracket that holds a few words and no number; 0 if it is none."""
        close = self.tokens.partner[at]
        inside = [self.tokens[i] for i in range(at + 1, min(close, at + _ASIDE + 2))]
        if (
            len(inside) > _ASIDE
            or any(t.kind == "int" for t in inside)
            or any(self.words.label(t.text) == "images" for t in inside)
        ):
            return 0
        return close + 1

    def _image_then_series(self, where: int, stop: int, after: int) -> bool:
        """Tell whether the image behind a series is said to be of another one: `series 4, image 52 (series 5)`."""
        if where == after or not any(self.tokens[i].kind in {",", ";"} for i in range(after, where)):
            return False
        link = stop + 1 if self._word(stop, "link") else stop
        link += self._word(link, "article")
        return link > stop and self.series(link) is not None

    def _image_first(self, at: int) -> Naming | None:
        found = self.images(at)
        if found is None:
            return None
        images, stop = found
        pair = self._pair(at)
        if pair is not None:
            return pair
        label = self.words.label(self.tokens[at].text)
        naming = Naming(None, images, at, stop, weak=self.words.weak(self.tokens[at].text), plural=label == "images")
        where, plane, opened = self._to_series(stop)
        series = self.series(where)
        if series is None or (opened and self.tokens.partner[opened] != series[1]):
            return naming
        # "image 60, series 8 image 112": the series is that of what follows
        if not opened and where == stop + (self.tokens[stop].kind in _LOOSE):
            ahead, _ = self._to_image(where, series[1])
            behind = self.images(ahead)
            if behind is not None and self.series(self._to_series(behind[1])[0]) is None:
                return naming
        if not opened and self.tokens[series[1]].kind == "/" and self.tokens[series[1] + 1].value:
            return naming
        naming.series, naming.stop, naming.plane, naming.weak = series[0], series[1] + bool(opened), plane, False
        return naming

    def _pair(self, at: int) -> Naming | None:
        """Read `image 4:72`, whose first number is the series."""
        start = self.numbers.skip_label(at)
        series, sign = self.tokens[start], self.tokens[start + 1]
        if (
            not series.value
            or sign.kind != ":"
            or not self.tokens.touches(start + 1)
            or not self.tokens.touches(start + 2)
        ):
            return None
        found = self.numbers.listed(start + 2, True)
        return None if found is None else Naming(series.value, found[0], at, found[1])

    def _to_series(self, at: int) -> tuple[int, str, int]:
        """Return where the label of a series may stand behind an image, the plane between, and an open bracket."""
        tokens, where, plane, opened = self.tokens, at, "", 0
        for _ in range(5):
            token = tokens[where]
            if self.words.label(token.text) == "series" and self.numbers.single(self.numbers.skip_label(where)):
                break
            said = self.words.group(token.text, "planes")
            phase = self.words.group(token.text, "phases") or self._word(where, "phase")
            if token.kind in {",", ";", "/", "dash"} and where == at:
                where += 1
            elif tokens.opens(where) and where == at:
                opened, where = where, where + 1
            elif self._word(where, "everywhere"):
                break
            elif token.kind == "word" and (said or phase or self._word(where, "link") or self._word(where, "article")):
                plane, where = said or plane, where + 1
            else:
                break
        return where, plane, opened

    def _only_word(self, at: int) -> bool:
        """Tell whether a preposition stands right before an image: `series 3 at image 402`."""
        leads = any(self._word(at, kind) for kind in ("link", "between", "lead"))
        return leads and self.words.label(self.tokens[at + 1].text).startswith("image")

    def _word(self, at: int, kind: str) -> bool:
        return self.tokens[at].kind == "word" and self.words.has(self.tokens[at].text, kind)
