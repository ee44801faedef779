"""Several aligned models on the same studies: P@10 by what was painted, with patient-bootstrap intervals over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from datamodules.twins.mimic_cxr import FACTORS
from medvl.metrics.bootstrap import Interval, paired_bootstrap, patient_bootstrap
from medvl.metrics.retrieval import DIRECTIONS, ClassRetrieval

Array = NDArray[np.float64]
NEAREST = 10
RARE = 0.08  # a disease that a smaller share of all studies has is of a minority
NORMAL = "no finding"
HEADLINE = "class/cross"
Rows = Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True)
class Truth:
    """What the renderer painted in the studies of a twin's split.

    Attributes:
        studies: Their names, as embeddings have them.
        patients: Whose they are.
        labels: Multi-hot `(studies, K)` by relevance: `class`, `class+side` (both sides stand for bilateral),
            `class+severity`, `minority` (rare classes alone) and `no finding`.
        rare: The minority classes.
    """

    studies: tuple[str, ...]
    patients: tuple[str, ...]
    labels: dict[str, Array]
    rare: tuple[str, ...]

    @classmethod
    def read(cls, twin: Path, split: str = "test") -> Truth:
        """Read the side file that a MIMIC-CXR twin has; rare is what is rare in all of it."""
        everyone = [json.loads(line) for line in (twin / FACTORS).read_text(encoding="utf-8").splitlines()]
        sets = [{finding["disease"] for finding in one["findings"]} for one in everyone]
        names = sorted(set().union(*sets))
        rare = tuple(name for name in names if sum(name in one for one in sets) < RARE * len(sets))
        own = [one for one in everyone if one["split"] == split]
        found = [one["findings"] for one in own]
        kinds = {
            "class": [{(one["disease"],) for one in study} for study in found],
            "class+side": [
                {(one["disease"], side) for one in study for side in _sides(one["side"])} for study in found
            ],
            "class+severity": [
                {(one["disease"], one["severity"]) for one in study if one["severity"]} for study in found
            ],
            "minority": [{(one["disease"],) for one in study if one["disease"] in rare} for study in found],
            NORMAL: [set() if study else {(NORMAL,)} for study in found],
        }
        labels = {kind: _multi_hot(terms) for kind, terms in kinds.items()}
        names = [f"s{one['study_id']}" for one in own]
        return cls(tuple(names), tuple(one["subject_id"] for one in own), labels, rare)

    def judge(self, embeddings: Path) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return P@10 of each study as a query, by `relevance/direction`, and likewise what chance is.

        Candidates are all studies of other patients. A query without a label of a kind is left out (NaN), and so is a
        study without image or text. `cross` is the mean of images to texts and texts to images.
        """
        rows = {row["study_id"]: row for row in pq.read_table(embeddings).to_pylist()}
        pairs = [
            (rows.get(name, {}).get("image_embedding"), rows.get(name, {}).get("text_embedding"))
            for name in self.studies
        ]
        kept = np.array([image is not None and text is not None for image, text in pairs])
        image, text = (
            torch.tensor(np.array([pair[side] for pair, whole in zip(pairs, kept, strict=True) if whole]))
            for side in (0, 1)
        )
        groups = torch.tensor(np.unique(self.patients, return_inverse=True)[1][kept])
        values, chances = {}, {}
        for kind, labels in self.labels.items():
            retrieval = ClassRetrieval((min(NEAREST, max(1, int(kept.sum()) - 2)),), own_pair=False)
            retrieval.update(image, text, torch.tensor(labels[kept]).float(), groups)
            for way in DIRECTIONS:
                precision = retrieval.queries(way)
                for found, name in ((precision.values[:, 0], values), (precision.chance, chances)):
                    column = np.full(len(kept), np.nan)
                    column[kept] = np.where(labels[kept].any(axis=1), found.double().numpy(), np.nan)
                    name[f"{kind}/{way}"] = column
            for name in (values, chances):
                name[f"{kind}/cross"] = (name[f"{kind}/i2t"] + name[f"{kind}/t2i"]) / 2
        return values, chances


@dataclass(frozen=True)
class Compared:
    """All methods on the same studies.

    Attributes:
        metrics: By method and metric.
        chance: By metric, of a random order.
        ahead: How far the first method is ahead, by peer and metric; paired.
    """

    metrics: Rows
    chance: dict[str, float]
    ahead: Rows

    def headline(self, method: str) -> float:
        """Return P@10 by class, the mean of both ways across."""
        return self.metrics[method][HEADLINE].mean


def compare(truth: Truth, runs: Mapping[str, Sequence[Path]], draws: int = 1000) -> Compared:
    """Compare methods, the first with all others.

    Args:
        truth: What was painted.
        runs: `embeddings.parquet` of each method and seed.
        draws: Draws of patients.
    """
    judged = {method: [truth.judge(path) for path in paths] for method, paths in runs.items()}
    means = {method: _mean([values for values, _ in found]) for method, found in judged.items()}
    first, *others = means
    chance = {name: _nanmean(value) for name, value in _mean([found[0][1] for found in judged.values()]).items()}
    metrics = {
        method: {name: patient_bootstrap(value, truth.patients, draws) for name, value in row.items()}
        for method, row in means.items()
    }
    ahead = {
        other: {
            name: paired_bootstrap(value, means[other][name], truth.patients, draws)
            for name, value in means[first].items()
        }
        for other in others
    }
    return Compared(metrics, chance, ahead)


def markdown(found: Compared, ways: Sequence[str] = ("cross", "i2i", "t2t")) -> str:
    """Return a table with a row per method: by kind across modalities with its interval, then the means within each."""
    kinds = ("class", "class+side", "class+severity", "minority", NORMAL)
    within = [f"class/{way}" for way in ways[1:]]
    heads = [*kinds, *(f"class, `{way}`" for way in ways[1:])]
    rows = [f"| method | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for method, row in found.metrics.items():
        cells = [_cell(row[f"{kind}/{ways[0]}"]) for kind in kinds] + [f"{row[name].mean:.3f}" for name in within]
        rows.append(f"| {method} | {' | '.join(cells)} |")
    cells = [f"{found.chance[name]:.3f}" for name in (*(f"{kind}/{ways[0]}" for kind in kinds), *within)]
    return "\n".join([*rows, f"| chance | {' | '.join(cells)} |"])


def _cell(interval: Interval) -> str:
    return f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def _sides(side: str) -> tuple[str, ...]:
    return ("left", "right") if side == "bilateral" else (side,) if side else ()


def _multi_hot(sets: Sequence[Iterable[tuple[str, ...]]]) -> Array:
    """Return `(len(sets), K)`; one column of zeros where no set has anything."""
    names = sorted({term for one in sets for term in one})
    column = {name: place for place, name in enumerate(names)}
    found = np.zeros((len(sets), max(1, len(names))))
    for row, one in enumerate(sets):
        found[row, [column[term] for term in one]] = 1
    return found


def _mean(rows: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.mean([row[name] for row in rows], axis=0) for name in rows[0]}


def _nanmean(values: Array) -> float:
    return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else float("nan")
