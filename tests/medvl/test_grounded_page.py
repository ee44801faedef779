"""The page of a grounded report: every box belongs to its sentence, and nothing is fetched or run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from medvl.grounded import GroundedBox, GroundedImage, GroundedReport, GroundedSentence
from medvl.viz.grounded import write_page
from medvl.viz.ties import COLOURS


class Ties(HTMLParser):
    """Collects the classes of sentences and boxes, and every tag and address."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[set[str]] = []
        self.boxes: list[set[str]] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        classes = set((known.get("class") or "").split())
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.said += [classes] if "said" in classes else []
        self.boxes += [classes] if "box" in classes else []


def report(tmp_path: Path, count: int = 10) -> GroundedReport:
    for name in "ab":
        grey = np.random.default_rng(0).integers(0, 255, (60, 40), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{name}.png")
    images = tuple(GroundedImage(str(tmp_path / f"{name}.png"), 40, 60) for name in "ab")
    one, two = GroundedBox(0, (2.0, 3.0, 20.00049, 30.0), 0.75), GroundedBox(1, (0.0, 0.0, 40.0, 60.0), 0.5)
    placed = [
        GroundedSentence(f"Finding <{n}> & more.", "findings", boxes=(one, two)[: 1 + n % 2]) for n in range(count)
    ]
    silent = [
        GroundedSentence("Told to <script>alert(1)</script>.", "findings", "non-diagnostic", asked=False),
        GroundedSentence("No mass.", "impression", "negated"),
    ]
    return GroundedReport("study <1>", images, (*placed, *silent), threshold=0.4)


def test_sentences_and_boxes_are_tied(tmp_path: Path) -> None:
    told = report(tmp_path)
    html = write_page(tmp_path / "page.html", told).read_text()
    found = Ties()
    found.feed(html)
    assert len(found.said) == 12
    assert len(found.boxes) == 15
    placed = [classes for classes in found.said if "tied" in classes]
    for n, (classes, sentence) in enumerate(zip(placed, told.sentences, strict=False), start=1):
        ties = {f"t{n}", f"k{(n - 1) % len(COLOURS)}"}
        assert ties <= classes
        assert sum(ties <= box for box in found.boxes) == len(sentence.boxes)
        assert f".study:has(.t{n}:is(:hover, :focus)) .mark.t{n}" in html
    assert "Finding &lt;9&gt; &amp; more." in html
    assert "script" not in found.tags
    assert all(address.startswith("data:image/jpeg;base64,") for address in found.addresses)
    assert len(found.addresses) == 2


def test_a_sentence_said_twice_has_one_number(tmp_path: Path) -> None:
    told = report(tmp_path, count=2)
    found = Ties()
    found.feed(
        write_page(tmp_path / "page.html", replace(told, sentences=(*told.sentences, told.sentences[0]))).read_text()
    )
    assert ["t1" in classes for classes in found.said] == [True, False, False, False, True]
    assert len(found.boxes) == 3


def test_numbers_keep_apart_and_inside(tmp_path: Path) -> None:
    html = write_page(tmp_path / "page.html", report(tmp_path, count=5)).read_text()
    spots = numbers_in(html)
    assert all(x >= 0 and y >= 0 and x + w <= 40.1 and y + h <= 60.1 for x, y, w, h in spots)
    assert len(spots) == 7
    assert len(set(spots[:5])) == 5
    assert "No room" not in html
    assert "7 sentences, 5 with a place, 7 boxes above 0.40" in html


def numbers_in(html: str) -> list[tuple[float, ...]]:
    """Left, top, width and height of every number, in the order in which they are drawn."""
    found = re.findall(
        r'<g class="mark number [^"]*"><rect x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"', html
    )
    return [tuple(map(float, spot)) for spot in found]


def test_numbers_of_many_boxes_never_cover_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (300, 200), dtype=np.uint8)).save(tmp_path / "a.png")
    low, scores = rng.uniform((20, 40), (120, 180), (400, 2)).round(1), rng.permutation(400) / 400
    boxes = [GroundedBox(0, (x, y, x + 40, y + 50), s) for (x, y), s in zip(low.tolist(), scores.tolist(), strict=True)]
    image = GroundedImage(str(tmp_path / "a.png"), 200, 300)

    def draw(count: int) -> tuple[list[tuple[float, ...]], str]:
        said = tuple(GroundedSentence(f"Finding {n}.", boxes=tuple(boxes[n:count:10])) for n in range(10))
        html = write_page(tmp_path / "page.html", GroundedReport("study", (image,), said, 0.0)).read_text()
        assert html.count('<g class="mark box ') == count
        assert html.rfind('<g class="mark box ') < html.find('<g class="mark number ')  # no line crosses a number
        return numbers_in(html), html

    for count in (40, 400):
        spots, html = draw(count)
        for i, (x, y, w, h) in enumerate(spots):
            assert all(abs(x - a) >= min(w, c) - 0.11 or abs(y - b) >= h - 0.11 for a, b, c, _ in spots[:i])
        assert (f">No room for the numbers of {count - len(spots)} boxes" in html) == (len(spots) < count)
    assert len(draw(40)[0]) == 40
    assert 40 < len(spots) < 400


def test_json_and_predictions_say_the_same(tmp_path: Path) -> None:
    told = report(tmp_path)
    values = json.loads(told.to_json(page="00001.html"))
    assert values["page"] == "00001.html"
    assert [one["groundable"] for one in values["sentences"]] == [True] * 10 + [False] * 2
    assert values["sentences"][0]["boxes"] == [{"image": 0, "xyxy_px": [2.0, 3.0, 20.0, 30.0], "score": 0.75}]
    predictions = list(told.predictions())
    assert len(predictions) == 2 * 11
    assert sum(len(one.boxes_xyxy_px) for one in predictions) == 15
    assert {one.image for one in predictions if one.phrase == "No mass."} == {image.file for image in told.images}
