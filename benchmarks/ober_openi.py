"""OBER on the reports of Open-i, against the expert codes: which findings, on which side, how severe.

The reports and their MeSH codes lie inside the wheel of torchxrayvision, whence they are read and never copied (each
says CC BY-NC-ND 4.0). `labels` is a table of report-level labels, a row per report (`filename`, then a column per class
with 0 or 1, after NegBio's `openi_gld_std14.csv`, public domain); only the reports that it names are read at all.

A class is given to a report where it is present; what is uncertain is not. For sides and severities a pair is (finding,
side) or (finding, severity) over the findings that have a CheXpert class, devices and mediastinum left out; bilateral
is left and right. A finding that was missed is missed with its attributes. Two ways of counting: `side` and `severity`
are over coded findings, stated or hedged in the report, as the peers' figures are (MedTrim with its list: .845 and
.585; it knows no hedge); `side_strict` and `severity_strict` take what is present alone, and count the attributes of a
finding that is not coded at all as false, though coders leave out much that is written. Places are inferred as coders
do (`Ober(infer=True)`). Speed is one core, from text to entities, the cache of sentences empty at the start.

Peers read the same reports for the same terms (`ober_peers`): medspaCy where `--medspacy-python` names an interpreter
that has it (it needs a spaCy older than ours), and MedTrim's rule restated, with its list and without. `reported` are
figures of medspaCy 1.3.1 and of MedTrim's release itself, with other terms and on all 3,851 reports of NegBio's table.
`without_context` is our lexicon with every mention taken for present.
"""

from __future__ import annotations

import csv
import tarfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from benchmarks.harness import write_result
from benchmarks.ober_peers import LIST, ClauseRule, medspacy, terms
from medvl.errors import ConfigError, DataError
from ontology.entities import Entity, Report
from ontology.extract import Ober
from ontology.lexicon import Canon, Lexicon

ARCHIVE = "data/NLMCXR_reports.tgz"
CLASSES = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Effusion": "pleural effusion",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "consolidation",
    "Edema": "edema",
}
LEFT_OUT = frozenset({"Support Devices", "Enlarged Cardiomediastinum"})
SIDES = {"left": ("left",), "right": ("right",), "bilateral": ("left", "right")}
SEVERITIES = {name: (name,) for name in ("mild", "moderate", "severe", "small", "large")}
REPORTED = {"medspacy": 0.879, "medtrim-with-its-list": 0.719, "medtrim-as-released": 0.184}
ROUNDS = 3


class Study(NamedTuple):
    """A report, its labels by class, and its MeSH headings, each split at the slashes."""

    report: Report
    labels: Mapping[str, bool]
    headings: tuple[tuple[str, ...], ...]


class Score(NamedTuple):
    """Hits, false alarms and misses."""

    hits: int
    false: int
    missed: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.hits / max(1, 2 * self.hits + self.false + self.missed)

    def summary(self) -> dict[str, float]:
        """Return what is written."""
        precision = self.hits / max(1, self.hits + self.false)
        return {"f1": self.f1, "precision": precision, "recall": self.hits / max(1, self.hits + self.missed)}


def run(labels: str, seed: int = 0, medspacy_python: str = "") -> dict[str, Any]:
    """Measure against the table `labels`, write `ober-openi.json` and return it."""
    studies = read(Path(labels))
    ober = Ober("en", infer=True)
    found = [ober.extract(study.report) for study in studies]
    classes = {name: _classes(studies, found, [name]) for name in CLASSES}
    micro = _classes(studies, found, CLASSES)
    bare = [[_as_present(entity) for entity in entities] for entities in found]
    canon = ober.lexicon.canon
    side, severity = (_pairs(canon, studies, found, words) for words in (SIDES, SEVERITIES))
    side_all, severity_all = (_pairs(canon, studies, found, words, strict=True) for words in (SIDES, SEVERITIES))
    speed = len(studies) / _seconds(studies)
    peers = _peers(ober.lexicon, studies, medspacy_python)
    return write_result(
        "ober-openi",
        "micro-F1 over seven classes, Open-i reports",
        micro.f1,
        {name: peer["micro_f1"] for name, peer in peers.items()},
        n=len(studies),
        seed=seed,
        reported=REPORTED,  # measured apart, on other reports and terms: no ratio
        micro_f1=micro.f1,
        side_f1=side.f1,
        severity_f1=severity.f1,
        reports_per_s=speed,
        of_peers=peers,
        speed_ratio={name: speed / peer["reports_per_s"] for name, peer in peers.items() if "reports_per_s" in peer},
        micro=micro.summary(),
        side=side.summary(),
        severity=severity.summary(),
        side_strict=side_all.summary(),
        severity_strict=severity_all.summary(),
        per_class={name: score.summary() | {"n": score.hits + score.missed} for name, score in classes.items()},
        without_context=_classes(studies, bare, CLASSES).f1,
    )


def _peers(lexicon: Lexicon, studies: Sequence[Study], python: str) -> dict[str, dict[str, Any]]:
    """Return what peers find: micro-F1, and reports a second or side and severity, which each has one of."""
    texts = [study.report.text for study in studies]
    found: dict[str, dict[str, Any]] = {}
    if python:
        wanted = {surface: name for surface, name in terms(lexicon).items() if name in CLASSES.values()}
        told = medspacy(python, wanted, texts)
        entities = [[Entity(name, "present", (), (), (0, 0), 0) for name in names] for names in told["found"]]
        found["medspacy"] = _peer(studies, entities) | {
            "version": told["version"],
            "reports_per_s": len(studies) / told["seconds"],
        }
    for name, words in (("medtrim-rule", LIST), ("medtrim-rule-without-list", ())):
        rule = ClauseRule(lexicon, words)
        entities = [rule.extract(text) for text in texts]
        found[name] = _peer(studies, entities) | {
            key: _pairs(lexicon.canon, studies, entities, values).f1
            for key, values in (("side_f1", SIDES), ("severity_f1", SEVERITIES))
        }
    return found


def _peer(studies: Sequence[Study], found: Sequence[Sequence[Entity]]) -> dict[str, Any]:
    score = _classes(studies, found, CLASSES).summary()
    return {"micro_f1": score.pop("f1"), **score}


def read(labels: Path) -> list[Study]:
    """Read the reports that a table of labels names, and none other.

    Raises:
        ConfigError: torchxrayvision is not installed.
        DataError: The table has not the columns, or names no report that there is.
    """
    try:
        with labels.open(encoding="utf-8", newline="") as file:
            rows = {row["filename"]: {name: row[name] == "1" for name in CLASSES} for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise DataError(
            "not a table of labels", where=str(labels), hint=f"expected filename, {', '.join(CLASSES)}"
        ) from error
    spec = find_spec("torchxrayvision")
    if spec is None or spec.origin is None:
        raise ConfigError("torchxrayvision is not installed", command="pip install 'medvl[bench]'")
    studies = []
    with tarfile.open(Path(spec.origin).parent / ARCHIVE) as archive:
        for member in archive:
            name = f"CXR{Path(member.name).stem}"
            if name in rows and (file_of := archive.extractfile(member)):
                studies.append(_study(name, rows[name], file_of.read()))
    if not studies:
        raise DataError("the table names no report of Open-i", where=str(labels), hint="expected CXR1, CXR2, ...")
    return studies


def _study(name: str, labels: Mapping[str, bool], xml: bytes) -> Study:
    root = ElementTree.fromstring(xml)  # noqa: S314 (a file of an installed package)
    parts = {part.get("Label"): part.text or "" for part in root.iter("AbstractText")}
    headings = tuple(
        tuple(word.strip() for word in (heading.text or "").split("/")) for heading in root.findall(".//MeSH/major")
    )
    return Study(Report.of(name, parts.get("FINDINGS", ""), parts.get("IMPRESSION", "")), labels, headings)


def _classes(studies: Sequence[Study], found: Sequence[Sequence[Entity]], names: Iterable[str]) -> Score:
    """Score report-level classes, pooled over `names`."""
    count: Counter[tuple[bool, bool]] = Counter()
    for study, entities in zip(studies, found, strict=True):
        positive = {entity.disease for entity in entities if entity.status == "present"}
        count.update((CLASSES[name] in positive, study.labels[name]) for name in names)
    return Score(count[True, True], count[True, False], count[False, True])


def _pairs(
    canon: Canon,
    studies: Sequence[Study],
    found: Sequence[Sequence[Entity]],
    words: Mapping[str, tuple[str, ...]],
    strict: bool = False,
) -> Score:
    """Score (finding, attribute) pairs; a finding is named by its CheXpert class. `strict`: see the head."""
    of_heading = canon.labels("openi")
    statuses = ("present",) if strict else ("present", "uncertain")
    totals = [0, 0, 0]
    for study, entities in zip(studies, found, strict=True):
        coded = [(_group(canon, _disease(of_heading, heading)), heading) for heading in study.headings]
        gold = {(group, value) for group, heading in coded if group for value in _values(heading[1:], words)}
        ours = {
            (group, value)
            for entity in entities
            if entity.status in statuses and (group := _group(canon, entity.disease))
            for value in _values((*entity.adjectives, *entity.directions), words)
        }
        if not strict:
            ours = {pair for pair in ours if pair[0] in {group for group, _ in coded}}
        for i, part in enumerate((gold & ours, ours - gold, gold - ours)):
            totals[i] += len(part)
    return Score(*totals)


def _disease(of_heading: Mapping[str, str], heading: tuple[str, ...]) -> str:
    """Return the disease of a MeSH heading; of some, a qualifier is part of the name (`Thickening/.../pleura`)."""
    named = [f"{heading[0]}/{qualifier}" for qualifier in heading[1:]]
    return next((of_heading[name] for name in (heading[0], *named) if name in of_heading), "")


def _group(canon: Canon, disease: str) -> str:
    label = canon.diseases.get(disease, {}).get("chexpert", ("",))[0]
    return "" if label in LEFT_OUT else label


def _values(names: Iterable[str], words: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {value for name in names for value in words.get(name, ())}


def _as_present(entity: Entity) -> Entity:
    return Entity(entity.disease, "present", entity.adjectives, entity.directions, entity.span, entity.sentence)


def _seconds(studies: Sequence[Study]) -> float:
    """Return the least of some timings; each starts with an empty cache."""
    times = []
    for _ in range(ROUNDS):
        ober = Ober("en", infer=True)
        start = time.perf_counter()
        for study in studies:
            ober.extract(study.report)
        times.append(time.perf_counter() - start)
    return min(times)
