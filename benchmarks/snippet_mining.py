"""Snippet mining on the frozen sentences, and how often it finds a reference where there is none.

`tests/datamodules/snippets_{en,de}.jsonl` were annotated before any rule (docs/snippet-annotation.md says how they are
scored). `first_look` is what the rules, written on the odd half, reached on the even half before its errors were read,
without the first 40 sentences, which had been seen. `snippets2_{en,de}.jsonl` were written when the rules were done, by
someone who had not read them; `unseen` is what the rules reached on them at once, before any of their errors was read.
`snippets3_{en,de}.jsonl` were written in the same way by someone else, after the errors of the first two were mended;
`unseen_again` is the first look at those.
The other figures are of all sentences, of all sets or of each (`per_set`), after their errors were read and mended.
`false_hits_per_1000` counts references found in the real reports of Open-i, radiographs that have none; they lie inside
the wheel of torchxrayvision, whence they are read and never copied (each says CC BY-NC-ND 4.0). Speed is one core, on
Open-i reports, and on the frozen sentences joined to reports of twenty.
"""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from benchmarks.harness import write_result
from datamodules.snippets.references import Reference
from datamodules.snippets.reports import Miner
from medvl.errors import ConfigError

SENTENCES = Path(__file__).resolve().parent.parent / "tests" / "datamodules"
LANGUAGES = ("en", "de")
ARCHIVE = "data/NLMCXR_reports.tgz"
FIRST_LOOK = {
    "en": {"precision": 136 / 140, "recall": 136 / 144, "snippets": 0.929, "n": 144},
    "de": {"precision": 161 / 173, "recall": 161 / 167, "snippets": 0.920, "n": 167},
}
UNSEEN = {
    "en": {"precision": 144 / 150, "recall": 144 / 148, "snippets": 123 / 131, "n": 148},
    "de": {"precision": 142 / 151, "recall": 142 / 147, "snippets": 119 / 131, "n": 147},
}
UNSEEN_AGAIN = {
    "en": {"precision": 109 / 115, "recall": 109 / 117, "snippets": 85 / 93, "n": 117},
    "de": {"precision": 106 / 111, "recall": 106 / 115, "snippets": 85 / 93, "n": 115},
}
SETS = {"first": "snippets", "second": "snippets2", "third": "snippets3"}
REPORTED = {"radfinder": {"precision": 0.994, "recall": 0.902}}  # German, private reports: no ratio
ROUNDS = 3


class Score(NamedTuple):
    """Counts over the sentences of a language; the last four are of the matched, and of sentences with references."""

    hits: int
    false: int
    missed: int
    inherited: int
    planes: int
    snippets: int
    sentences: int

    @property
    def precision(self) -> float:
        """Share of what was found that is annotated."""
        return self.hits / max(1, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Share of what is annotated that was found."""
        return self.hits / max(1, self.hits + self.missed)

    def summary(self) -> dict[str, float]:
        """Return what is written."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "n": self.hits + self.missed,
            "inherited": self.inherited / max(1, self.hits),
            "planes": self.planes / max(1, self.hits),
            "snippets": self.snippets / max(1, self.sentences),
        }


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `snippet-mining.json` and return it."""
    scores = {language: score(language) for language in LANGUAGES}
    reports = openi()
    miner, found = Miner("en"), 0
    for report in reports:
        found += miner.report(report, whole=True)[1]["references"]
    joined = {language: _joined(language) for language in LANGUAGES}
    return write_result(
        "snippet-mining",
        "F1 of references, the worse language",
        min(2 * s.precision * s.recall / (s.precision + s.recall) for s in scores.values()),
        {},
        n=sum(s.hits + s.missed for s in scores.values()),
        seed=seed,
        reported=REPORTED,
        precision=min(s.precision for s in scores.values()),
        recall=min(s.recall for s in scores.values()),
        per_language={language: s.summary() for language, s in scores.items()},
        per_set={name: {lang: score(lang, (name,)).summary() for lang in LANGUAGES} for name in SETS},
        first_look=FIRST_LOOK,
        unseen=UNSEEN,
        unseen_again=UNSEEN_AGAIN,
        false_hits_per_1000=1000 * found / len(reports),
        openi_reports=len(reports),
        reports_per_s=len(reports) / _seconds("en", reports),
        ct_reports_per_s={language: len(texts) / _seconds(language, texts) for language, texts in joined.items()},
    )


def score(language: str, sets: Sequence[str] = tuple(SETS)) -> Score:
    """Score the frozen sentences of a language, in some or all sets."""
    miner = Miner(language)
    totals = [0] * 7
    for row in rows(language, sets):
        mined = miner.sentence(row["text"], row["context"])
        left = list(mined.references)
        for gold in row["references"]:
            ours = next((one for one in left if matches(one, gold)), None)
            if ours is None:
                totals[2] += 1
                continue
            left.remove(ours)
            totals[0] += 1
            totals[3] += ours.inherited == gold["inherited"]
            totals[4] += ours.plane == gold["plane"]
        totals[1] += len(left)
        if row["references"]:
            totals[5] += letters(mined.snippet or "") == letters(row["snippet"])
            totals[6] += 1
    return Score(*totals)


def rows(language: str, sets: Sequence[str] = tuple(SETS)) -> list[dict[str, Any]]:
    """Return the annotated sentences of a language, in some or all sets."""
    files = (SENTENCES / f"{SETS[name]}_{language}.jsonl" for name in sets)
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def matches(ours: Reference, gold: dict[str, Any]) -> bool:
    """Tell whether series and images are the same and the spans overlap."""
    start, stop = gold["span"]
    overlap = ours.span[0] < stop and start < ours.span[1]
    return overlap and ours.series == gold["series"] and _set(ours.images) == _set(gold["images"])


def letters(text: str) -> str:
    """Return letters and digits only, case folded."""
    return "".join(character for character in text.casefold() if character.isalnum())


def openi() -> list[str]:
    """Return the reports of Open-i.

    Raises:
        ConfigError: torchxrayvision is not installed.
    """
    spec = find_spec("torchxrayvision")
    if spec is None or spec.origin is None:
        raise ConfigError("torchxrayvision is not installed", command="pip install 'medvl[bench]'")
    found = []
    with tarfile.open(Path(spec.origin).parent / ARCHIVE) as archive:
        for member in archive:
            if member.name.endswith(".xml") and (file := archive.extractfile(member)):
                root = ElementTree.fromstring(file.read())  # noqa: S314 (a file of an installed package)
                found.append("\n".join(part.text or "" for part in root.iter("AbstractText")))
    return found


def _set(images: Sequence[Sequence[int]]) -> set[int]:
    return {image for first, last in images for image in range(first, last + 1)}


def _joined(language: str) -> list[str]:
    sentences = [row["text"] for row in rows(language)]
    return ["\n\n".join(sentences[at : at + 20]) for at in range(0, len(sentences), 20)]


def _seconds(language: str, texts: Sequence[str]) -> float:
    """Return the least of some timings."""
    times = []
    for _ in range(ROUNDS):
        miner, start = Miner(language), time.perf_counter()
        for text in texts:
            miner.report(text, whole=True)
        times.append(time.perf_counter() - start)
    return min(times)
