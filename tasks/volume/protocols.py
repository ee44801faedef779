"""Named protocols: what is reported of CT models, each with exactly its volumes, classes and definition of right.

- `ctrate/retrieval/first`: reports and volumes of the first reconstruction of each study; right is the study's own.
- `ctrate/retrieval/all`: the same over every reconstruction (3,039 volumes), right being the very row, as CT-CLIP
  counts: a report stands there once for each reconstruction, and ties are met as a random order would.
- `ctrate/retrieval/dedup`: first reconstructions, equal reports merged.
- `ctrate/auc18`: macro AUC of CT-RATE's 18 classes by prompts, on first reconstructions.
- `ctrate/map/any`, `ctrate/map/exact`: volumes that find volumes; right is one that shares a class, or has exactly the
  same ones. First reconstructions with a finding ask and answer; AP@k is divided by k (RadFinder, SPECTRE).
- `radchestct/16`: macro AUC of Rad-ChestCT's 16 classes; calcification scores as the higher of the arterial and the
  coronary one (CT-CLIP, RadFinder).
- `radchestct/15`: without medical material and lymphadenopathy, and each of the two calcifications against the one
  label (the classes of HLIP).
- `localisation`: depth errors in mm (`tasks.volume.judged`), beside those of the scan's middle and of a random depth.

Every figure comes with `low` and `high`, resampling patients; the candidates stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvl.distributed import gather_objects
from medvl.errors import ConfigError, nearest
from medvl.metrics.bootstrap import Interval, bootstrap_statistics, patient_bootstrap
from medvl.metrics.boxes import Array
from medvl.metrics.neighbours import average_precision, instance_recall
from medvl.metrics.weighted import weighted_auc, weighted_means
from medvl.relevance import same_set, share_any
from tasks.volume.judged import Judged, anywhere, in_the_middle
from tasks.volume.scans import ScanResult, StepResults

CTRATE_18 = (
    "Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion",
    "Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis", "Lung nodule",
    "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern",
    "Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
)  # fmt: skip
_CALCIFICATIONS = ("Arterial wall calcification", "Coronary artery wall calcification")
_SHARED = tuple(name for name in CTRATE_18 if name not in (*_CALCIFICATIONS, "Mosaic attenuation pattern"))
# Of each class the label that it is held against, and the classes whose prompts are asked.
Classes = dict[str, tuple[str, tuple[str, ...]]]
_OWN: Classes = {name: (name, (name,)) for name in CTRATE_18}
CLASSES: dict[str, Classes] = {
    "ctrate/auc18": _OWN,
    "radchestct/16": {name: _OWN[name] for name in _SHARED} | {"Calcification": ("Calcification", _CALCIFICATIONS)},
    "radchestct/15": {name: _OWN[name] for name in _SHARED if name not in ("Medical material", "Lymphadenopathy")}
    | {name: ("Calcification", (name,)) for name in _CALCIFICATIONS},
}
RETRIEVAL = ("ctrate/retrieval/first", "ctrate/retrieval/all", "ctrate/retrieval/dedup")
SIMILAR = {"ctrate/map/any": share_any, "ctrate/map/exact": same_set}
LOCALISATION = "localisation"
NAMES = (*RETRIEVAL, *CLASSES, *SIMILAR, LOCALISATION)
HEADLINE = (
    *(f"{name}/{way}/r@10" for name in RETRIEVAL for way in ("i2t", "t2i")),
    *(f"{name}/auc" for name in CLASSES),
    *(f"{name}/map@10" for name in SIMILAR),
    *(f"{LOCALISATION}/{name}" for name in ("mae", "median", "middle/mae", "random/mae")),
)
RECALL_AT, MAP_AT, RANDOM_RUNS = (5, 10, 50, 100), (5, 10, 50), 16
Figures = dict[str, Interval]
PromptsOf = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Of classes, unit vectors that affirm and deny each, `(K, C)`."""


def known_protocols(names: Sequence[str]) -> tuple[str, ...]:
    """Return the protocols that are named, by themselves or by what their names begin with: `ctrate`, `radchestct/16`.

    Raises:
        ConfigError: One is no protocol's.
    """
    found: list[str] = []
    for name in names:
        meant = [one for one in NAMES if one == name or one.startswith(f"{name}/")]
        if not meant:
            raise ConfigError(f"no protocol {name!r}", where="model.protocols", hint=nearest(name, NAMES))
        found += meant
    return tuple(dict.fromkeys(found))


class Protocols:
    """Measures the volumes and snippets of a test by named protocols.

    Args:
        names: Some of `NAMES`, or what several of them begin with.
        draws: Of patients, for the intervals.
    """

    def __init__(self, names: Sequence[str], draws: int = 1000) -> None:
        self.names, self.draws = known_protocols(names), draws
        self.tested: list[StepResults] = []

    def check(self, data: Any) -> None:
        """Refuse data that a protocol cannot be measured on, before any of it is tested.

        Raises:
            ConfigError: It has none of the labels, or not every reconstruction.
        """
        labels = tuple(getattr(data, "label_names", ()))
        for name in self.names:
            wanted = [label for label, _ in CLASSES.get(name, {}).values()]
            wanted += CTRATE_18 if name in SIMILAR else ()
            if wanted and not set(wanted) & set(labels):
                hint = "use that data set as --data.source"
                raise ConfigError(f"{name} needs labels that this data has not", where="model.protocols", hint=hint)
            if name == "ctrate/retrieval/all" and getattr(data, "several", "each") != "each":
                hint = "--data.several each"
                raise ConfigError(f"{name} needs every reconstruction", where="data.several", hint=hint)

    def add(self, tested: StepResults) -> None:
        """Keep a batch."""
        if self.names:
            self.tested.append(tested)

    def measure(self, prompts_of: PromptsOf) -> dict[str, float]:
        """Return the figures of all ranks, and start anew."""
        every = gather_objects(self.tested) if self.names else []
        self.tested = []
        scans = sorted((scan for one in every for scan in one.scans), key=lambda scan: scan.volume)
        found: dict[str, float] = {}
        for name in self.names:
            if name in RETRIEVAL:
                figures = retrieval(scans, name.rpartition("/")[2], self.draws)
            elif name in SIMILAR:
                figures = similar(scans, SIMILAR[name], self.draws)
            elif name in CLASSES:
                figures = diseases(scans, CLASSES[name], prompts_of, self.draws)
            else:
                snippets = sorted((row for one in every for row in one.snippets), key=lambda row: row.volume)
                judged = Judged.of(snippets)
                priors = {"middle": [in_the_middle(snippets)]}
                priors["random"] = [anywhere(snippets, seed) for seed in range(RANDOM_RUNS)]
                figures = judged.figures(self.draws)
                for prior, runs in priors.items():
                    figures[f"{prior}/mae"] = Judged.of(*runs).figures(self.draws)["mae"]
            for key, interval in figures.items():
                found[f"{name}/{key}"] = interval.mean
                if not np.isnan(interval.low):
                    found |= {f"{name}/{key}/low": interval.low, f"{name}/{key}/high": interval.high}
        return found


def retrieval(scans: Sequence[ScanResult], kind: str, draws: int) -> Figures:
    """Return R@5/10/50/100 of volumes that ask for reports (`i2t`) and back (`t2i`), and what chance is."""
    rows = [scan for scan in scans if scan.report is not None and (scan.first or kind == "all")]
    if not rows:
        return {}
    image = torch.stack([scan.vector for scan in rows])
    text = torch.stack([scan.report for scan in rows if scan.report is not None])
    ids = torch.arange(len(rows))
    patients = {"i2t": [scan.patient for scan in rows], "t2i": [scan.patient for scan in rows]}
    texts = ids
    if kind == "dedup":
        merged = {scan.text: scan.patient for scan in reversed(rows)}  # a text asks for the first who has it
        numbers = {key: at for at, key in enumerate(merged)}
        ids, texts = torch.tensor([numbers[scan.text] for scan in rows]), torch.arange(len(merged))
        text = torch.zeros(len(merged), text.shape[1]).index_add_(0, ids, text)
        patients["t2i"] = list(merged.values())
    asked = {"i2t": (image, text, ids, texts), "t2i": (text, image, texts, ids)}
    found = {"volumes": _count(len(rows)), "texts": _count(len(texts))}
    for way, given in asked.items():
        hits, chance = instance_recall(*given, RECALL_AT)
        for at, k in enumerate(RECALL_AT):
            found[f"{way}/r@{k}"] = patient_bootstrap(hits[:, at].numpy(), patients[way], draws)
            found[f"{way}/chance@{k}"] = _count(float(chance[:, at].nanmean()))
    return found


def similar(scans: Sequence[ScanResult], rule: Callable[[Tensor, Tensor], Tensor], draws: int) -> Figures:
    """Return MAP@5/10/50 of volumes that ask for volumes."""
    rows = [scan for scan in scans if scan.first and any(scan.labels.get(name) == 1 for name in CTRATE_18)]
    if not rows:
        return {}
    vectors = torch.stack([scan.vector for scan in rows])
    labels = torch.tensor([[float(scan.labels.get(name) == 1) for name in CTRATE_18] for scan in rows])
    places = torch.arange(len(rows))
    values = average_precision(
        vectors, vectors, lambda block: rule(labels[block], labels), MAP_AT, lambda block: places[block, None] == places
    )
    patients = [scan.patient for scan in rows]
    by_rank = zip(MAP_AT, values.numpy().T, strict=True)
    return {"volumes": _count(len(rows))} | {
        f"map@{k}": patient_bootstrap(column, patients, draws) for k, column in by_rank
    }


def diseases(scans: Sequence[ScanResult], classes: Classes, prompts_of: PromptsOf, draws: int) -> Figures:
    """Return the AUC of each class that has positives and negatives, and their mean."""
    rows = [scan for scan in scans if scan.first]
    if not rows:
        return {}
    positive, negative = (vectors.float().cpu() for vectors in prompts_of(CTRATE_18))
    margins = torch.stack([scan.vector for scan in rows]) @ (positive - negative).T
    column = {name: at for at, name in enumerate(CTRATE_18)}
    asked = {name: margins[:, [column[one] for one in own]].amax(dim=1) for name, (_, own) in classes.items()}
    gold = {name: np.array([scan.labels.get(label, np.nan) for scan in rows]) for name, (label, _) in classes.items()}
    scores = {name: np.where(np.isin(gold[name], (0, 1)), row.double().numpy(), np.nan) for name, row in asked.items()}
    kept = [name for name in classes if {0, 1} <= set(gold[name].tolist())]

    def statistics(weights: Array) -> Array:
        areas = [weighted_auc(scores[name], gold[name] == 1, weights) for name in kept]
        return np.stack([weighted_means(np.stack(areas, axis=1), np.ones((1, len(areas))))[0], *areas], axis=1)

    found: Figures = {"volumes": _count(len(rows)), "classes": _count(len(kept))}
    if not kept:
        return found
    intervals = bootstrap_statistics(statistics, [scan.patient for scan in rows], n=draws, items=2 * len(rows))
    return found | dict(zip(["auc", *(f"auc/{name}" for name in kept)], intervals, strict=True))


def _count(value: float) -> Interval:
    return Interval(float(value), np.nan, np.nan)
