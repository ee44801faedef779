"""Snippet mining: the frozen sentences, the grammar by cases, whole reports, links to mm, hostile input."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from datamodules.snippets.link import StudyDepths, link, read_depths
from datamodules.snippets.numbers import span_of
from datamodules.snippets.references import Reference
from datamodules.snippets.reports import Miner
from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import language_of, load
from medvl.errors import ConfigError, DataError
from medvl.io.sidecar import Sidecar, Slice

HERE = Path(__file__).resolve().parent
# file: references, least precision, recall, share of snippets right (letters and digits), as measured
FLOORS = {
    "snippets_en": (281, 1.0, 1.0, 0.99),
    "snippets_de": (389, 1.0, 1.0, 0.98),
    "snippets2_en": (148, 1.0, 0.98, 0.95),
    "snippets2_de": (147, 1.0, 0.98, 0.93),
    "snippets3_en": (117, 0.98, 0.97, 0.94),
    "snippets3_de": (115, 1.0, 0.99, 0.98),
}
Found = tuple[int | None, tuple[tuple[int, int], ...]]


def found(text: str, language: str = "en", context: str | None = None) -> list[Found]:
    """Return series and images of each reference."""
    return [(one.series, one.images) for one in Miner(language).sentence(text, context).references]


def letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def images(ranges: Any) -> set[int]:
    return {image for first, last in ranges for image in range(first, last + 1)}


@pytest.mark.parametrize("file", FLOORS)
def test_frozen_sentences(file: str) -> None:
    rows = [json.loads(line) for line in (HERE / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]
    miner, hits, false, missed, told, right, cited = Miner(file[-2:]), 0, 0, 0, 0, 0, 0
    for row in rows:
        mined = miner.sentence(row["text"], row["context"])
        left = list(mined.references)
        for gold in row["references"]:
            start, stop = gold["span"]
            same = [
                one
                for one in left
                if one.series == gold["series"]
                and images(one.images) == images(gold["images"])
                and one.span[0] < stop
                and start < one.span[1]
            ]
            hits, missed = hits + bool(same), missed + (not same)
            for one in same[:1]:
                left.remove(one)
                told += one.inherited == gold["inherited"] and one.plane == gold["plane"]
        false += len(left)
        if row["references"]:
            cited += 1
            right += letters(mined.snippet or "") == letters(row["snippet"])
    references, precision, recall, snippets = FLOORS[file]
    assert hits + missed == references
    assert hits / (hits + false) >= precision
    assert hits / (hits + missed) >= recall
    assert told / hits >= 0.99
    assert right / cited >= snippets


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Cyst (series 7, image 91).", "en", [(7, ((91, 91),))]),
        ("Cyst (SE 7 IM 91).", "en", [(7, ((91, 91),))]),
        ("Cyst, image 91 of series 7.", "en", [(7, ((91, 91),))]),
        ("Cyst (7/91).", "en", [(7, ((91, 91),))]),
        ("Cyst [7:91-95, 99].", "en", [(7, ((91, 95), (99, 99)))]),
        ("Cysts (7/91, 8/45).", "en", [(7, ((91, 91),)), (8, ((45, 45),))]),
        ("Cyst, series seven, image ninety-one.", "en", [(7, ((91, 91),))]),
        ("Cyst, image one hundred and four.", "en", [(None, ((104, 104),))]),
        ("Cyst, seires 7 imgae 91.", "en", [(7, ((91, 91),))]),
        ("Cyst, images 95 through 91 of series 7.", "en", [(7, ((91, 95),))]),
        ("Cyst, images 191-5.", "en", [(None, ((191, 195),))]),
        ("Cyst, images 91 \u2192 95.", "en", [(None, ((91, 95),))]),
        ("Cyst between images 91 and 95.", "en", [(None, ((91, 95),))]),
        ("Cyst, image 91/240.", "en", [(None, ((91, 91),))]),
        ("Cysts, images 91/94.", "en", [(None, ((91, 91), (94, 94)))]),
        ("Cysts on image 91, 2 mm, and image 95.", "en", [(None, ((91, 91),)), (None, ((95, 95),))]),
        ("On series 7 there are cysts (image 91, image 95).", "en", [(7, ((91, 91), (95, 95)))]),
        ("Zyste (Serie 7, Bilder 91\u201395 und 99).", "de", [(7, ((91, 95), (99, 99)))]),
        ("Zyste auf den Schichten 91 bis 95 der Serie 7.", "de", [(7, ((91, 95),))]),
        ("Zyste, Bild einundneunzig, Serie sieben.", "de", [(7, ((91, 91),))]),
        ("Zyste (Seire 7, Blid 91).", "de", [(7, ((91, 91),))]),
    ],
)
def test_ways_to_write_a_reference(text: str, language: str, expected: list[Found]) -> None:
    assert found(text, language) == expected


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("Previously 8 mm (7/91).", "en", "prior"),
        ("On the outside CT, image 91, the cyst was smaller.", "en", "prior"),
        ("Image 91 of the CT of 3 April 2020 showed no cyst.", "en", "prior"),
        ("Ultrasound image 91 shows the cyst.", "en", "modality"),
        ("Scout (series 1, image 91).", "en", "placeless"),
        ("Images 1 to 91 of series 7 were reconstructed.", "en", "count"),
        ("Strength (4/5).", "en", "score"),
        ("Ribs (4-8).", "en", "measurement"),
        ("Follow-up (4/2025).", "en", "date"),
        ("MELD (22/40).", "en", "score"),
        ("Screen save (series 7, image 91).", "en", "placeless"),
        ("Values on series 7 image 91 as a screenshot.", "en", "placeless"),
        ("Fused PET/CT images, series 7 image 91.", "en", "modality"),
        ("Nodule on the pre-treatment scan (7/91).", "en", "prior"),
        ("Nodule 8 mm (series 7, image 91) at that time.", "en", "prior"),
        ("Images 1-91 without contrast.", "en", "count"),
        ("Der Herd in der CT vom 12.05. Verhalt (Serie 7, Bild 91).", "de", "prior"),
        ("Der Herd ma\u00df noch 8 mm (7/91).", "de", "prior"),
        ("Stanzbiopsien (12/14).", "de", "count"),
        ("In der VU 8 mm (Serie 7, Bild 91).", "de", "prior"),
        ("Im Vor-CT, Serie 7, Bild 91, noch 8 mm.", "de", "prior"),
        ("MRT-Leber: Serie 7, Bild 91.", "de", "modality"),
        ("Auf dem Topogramm (Serie 1, Bild 91).", "de", "placeless"),
    ],
)
def test_what_is_no_reference(text: str, language: str, reason: str) -> None:
    mined = Miner(language).sentence(text)
    assert mined.references == ()
    assert mined.snippet is None
    assert mined.refused[reason] == 1


@pytest.mark.parametrize("text", ["Nodule 7 x 9 mm.", "Slices 1-2 mm thick.", "At L4/5.", "S1 root.", "Pitch 1.2.", ""])
def test_numbers_that_name_nothing(text: str) -> None:
    mined = Miner("en").sentence(text)
    assert mined.references == ()
    assert not mined.refused


def test_now_turns_back_from_the_prior_study() -> None:
    text = "Previously 8 mm (7/91), now 9 mm (6/88)."
    assert found(text) == [(6, ((88, 88),))]
    assert Miner("en").sentence(text).snippet == "Previously 8 mm, now 9 mm."
    assert found("It was 8 mm on image 91.", context="On the study of 2019, a cyst was seen.") == []
    assert found("Today it is 9 mm (image 91).", context="On the study of 2019, a cyst was seen.") != []


def test_series_are_inherited_from_this_study_in_this_plane() -> None:
    context = "Cyst in the liver (series 7, image 91)."
    assert found("Another is on image 95.", context=context) == [(7, ((95, 95),))]
    assert found("Another is on coronal image 95.", context=context) == [(None, ((95, 95),))]
    assert found("Another is on image 95.", context="On the study of 2019, series 7, no cyst. Today:") == [
        (None, ((95, 95),))
    ]
    later = Miner("en").sentence("The cyst (image 91) and the stone (image 95), both series 7, are unchanged.")
    assert [(one.series, one.inherited) for one in later.references] == [(7, True), (7, True)]


@pytest.mark.parametrize(("first", "last", "expected"), [(38, 41, (38, 41)), (52, 38, (38, 52)), (138, 41, (138, 141))])
def test_ranges_written_downwards_or_short(first: int, last: int, expected: tuple[int, int]) -> None:
    assert span_of(first, last) == expected


@pytest.mark.parametrize(
    ("text", "snippet"),
    [
        ("The cyst is best seen on image 91.", "The cyst."),
        ("Image 91 shows a cyst.", "A cyst."),
        ("See series 7 image 91.", ""),
        ("cyst (9 mm; series 7, image 91; stable)", "Cyst (9 mm; stable)"),
        ("Cysts (see e.g. series 7, image 91 and series 8, image 95).", "Cysts."),
    ],
)
def test_what_only_points_goes(text: str, snippet: str) -> None:
    assert Miner("en").sentence(text).snippet == snippet


def test_reports_keep_sections_apart_and_tell_places() -> None:
    report = (
        "COMPARISON: CT of 2019, series 3 image 20.\nFINDINGS: Cyst (se. 7, im. 91). Stone on image 95.\n"
        "IMPRESSION: Stone. See image 95."
    )
    snippets, counts = Miner("en").report(report)
    assert [(one.text, one.section) for one in snippets] == [
        ("Cyst.", "findings"),
        ("Stone.", "findings"),
        ("Stone.", "impression"),  # "See image 95." points for the sentence before it
    ]
    assert [[reference.series for reference in one.references] for one in snippets] == [[7], [7], [None]]
    cited = [report[slice(*reference.span)] for one in snippets for reference in one.references]
    assert cited == ["se. 7, im. 91", "image 95", "image 95"]
    assert [report[slice(*one.span)] for one in snippets][:2] == ["Cyst (se. 7, im. 91).", "Stone on image 95."]
    assert counts == {"references": 3}
    assert Miner("en").report(report, whole=True)[1]["prior"] == 1


def test_language_is_told_by_its_common_words() -> None:
    assert language_of("Kein Nachweis von Metastasen in der Leber.") == "de"
    assert language_of("There is no metastasis in the liver.") == "en"
    with pytest.raises(ConfigError, match="no language"):
        load("fr")


def study(step: float = 2.0) -> StudyDepths:
    """A series 7 whose images 1 to 100 run from the head down, and a series 8 of three."""
    down = tuple(Slice(step * z, 101 - z, "", step) for z in range(1, 101))
    return StudyDepths([Sidecar(down, 7), Sidecar(down[:3], 8)])


def test_references_become_weighted_intervals_in_mm() -> None:
    references = [Reference(7, ((91, 93), (95, 95)), (0, 1)), Reference(7, ((1, 1),), (2, 3))]
    intervals, counts, problems = link(references, study())
    assert [(one.low, one.high) for one in intervals] == [(15.0, 21.0), (11.0, 13.0), (199.0, 201.0)]
    assert [one.weight for one in intervals] == pytest.approx([3 / 8, 1 / 8, 1 / 2])
    assert counts == {"linked": 2}
    assert problems == []


@pytest.mark.parametrize("number", [7, None])
def test_without_a_series_it_is_the_only_one(number: int | None) -> None:
    only = StudyDepths([Sidecar((Slice(1.0, 1, "", 1.0), Slice(2.0, 2, "", 1.0)), number)])
    intervals, counts, _ = link([Reference(None, ((2, 2),), (0, 1))], only)
    assert [(one.low, one.high, one.weight) for one in intervals] == [(1.5, 2.5, 1.0)]
    assert counts == {"linked": 1}


@pytest.mark.parametrize(
    ("reference", "case"),
    [
        (Reference(7, ((91, 191),), (0, 1)), "image not in the series"),
        (Reference(9, ((91, 91),), (0, 1)), "no such series"),
        (Reference(None, ((91, 91),), (0, 1)), "series unknown"),
        (Reference(7, ((91, 91),), (0, 1), plane="coronal"), "no depth"),
    ],
)
def test_what_cannot_be_linked_is_named(reference: Reference, case: str) -> None:
    intervals, counts, problems = link([reference], study())
    assert intervals == []
    assert counts == {case: 1}
    assert problems[0].startswith(case)
    assert "91" in problems[0]


def test_sidecars_are_read_by_report(tmp_path: Path) -> None:
    sidecar = Sidecar((Slice(1.0, 1, "", 1.0), Slice(2.0, 2, "", 1.0)), 7).as_dict()
    (tmp_path / "a.json").write_text(json.dumps([sidecar]))
    for path, name in ((tmp_path, "a"), (tmp_path / "a.json", "whatever")):
        depths = read_depths(path, name)
        assert depths is not None
        assert depths.interval_of(7, 1, 2) == (0.5, 2.5)
        assert depths.interval_of(7, 1, 3) is None
    assert read_depths(tmp_path, "b") is None
    assert read_depths(tmp_path, "../a") is not None  # an id is no path: read as "a"
    (tmp_path / "c.json").write_text('{"slices": 3}')
    for path in (tmp_path / "c.json", tmp_path / "none"):
        with pytest.raises(DataError, match="sidecar"):
            read_depths(path, "x")


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x1b[31mimage 4\x07",
        "(" * 500 + "4/38" + ")" * 500,
        "image " * 500,
        "image 99999999999999999999",
        "\u0663/\u0664",
    ],
)
def test_hostile_text_is_read(text: str) -> None:
    mined = Miner("auto").report(text, whole=True)
    assert sum(mined[1].values()) <= 2


@pytest.mark.parametrize("part", ["(4/38, ", "image 38, ", "series 4 ", "4/38 - ", "one hundred and ", "((("])
def test_time_grows_with_length_alone(part: str) -> None:
    """Four times the text takes no more than some ten times as long."""
    words = load("en")

    def seconds(count: int) -> float:
        times = []
        for _ in range(2):
            start = time.process_time()
            Miner("en").sentence(part * count)
            times.append(time.process_time() - start)
        return min(times)

    assert len(Tokens(part * 3)) > 0
    assert words.label("image") == "image"
    assert seconds(1600) < 10 * seconds(400) + 0.05


def test_a_megabyte_is_read() -> None:
    text = ("Cyst in the liver (series 7, image 91). " + "No further lesion is seen. " * 400) * 90
    start = time.process_time()
    snippets, counts = Miner("en").report(text)
    assert len(text) > 900_000
    assert counts["references"] == len(snippets) == 90
    assert time.process_time() - start < 60


def test_words_of_scales_do_not_make_every_pair_a_score() -> None:
    for text in (
        "Grade III splenic laceration (4/38).",
        "At the level of the arch (4/38).",
        "Cyst at 3 o'clock (4/38).",
        "Fused C2 and C3 (4/38).",
    ):
        assert found(text) == [(4, ((38, 38),))]
    for text in ("Fraktur Typ B (4/38).", "Seit dem Vorjahr stabil (4/38).", "Milzruptur Grad III (4/38)."):
        assert found(text, "de") == [(4, ((38, 38),))]
    assert found("Aktuell dort Herd (4/38).", "de", "Die CT vom 2.6.2021 liegt vor.") == [(4, ((38, 38),))]


@pytest.mark.parametrize(
    "text",
    [
        "MRI is recommended for the lesion in segment 6 (4/38).",
        "There is a cyst (4/38).",
        "Prior cholecystectomy, clips (4/38).",
        "The previously noted cyst is stable (4/38).",
    ],
)
def test_what_sounds_like_another_study_and_is_none(text: str) -> None:
    for context in (None, "MRI is recommended.", "Prior studies are not available."):
        assert found(text, context=context) == [(4, ((38, 38),))]
