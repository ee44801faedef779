"""Triplets for a data set of the size of MIMIC-CXR: `medvl ontology mine` as a user runs it, its time and its memory.

227,835 studies whose entities are those of Open-i's reports, perturbed until at least 60,000 of them differ (see
`benchmarks.entity_sets`). Reading and writing count. Anchors drawn at random are checked against all other studies.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.entity_sets import studies_like_openi
from benchmarks.harness import ROOT, write_result
from ontology.search import TOLERANCE
from ontology.similarity import EntitySets, Similarity
from ontology.studies import Studies

MINE = ("-m", "medvl", "ontology", "mine")
CHECKED = 400
TAU_MIN, TAU_MAX = 0.25, 0.6


def run(seed: int = 0, studies: int = 227_835, strength: float = 0.4, negatives: str = "hardest") -> dict[str, Any]:
    """Measure, write `miner-scale.json` and return it; smaller data and other negatives are only measured."""
    drawn, source = studies_like_openi(studies, seed, strength)
    with tempfile.TemporaryDirectory() as folder:
        entities, output = Path(folder) / "entities.jsonl", Path(folder) / "triplets.parquet"
        _write(entities, drawn)
        words = ["--entities", str(entities), "--output", str(output), "--negatives", negatives, "--seed", str(seed)]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *MINE, *words], cwd=ROOT, capture_output=True, text=True, check=True)
        minutes = (time.perf_counter() - start) / 60
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        table = pq.read_table(output)
    sets = EntitySets(drawn.profiles)
    _check(drawn, sets, table, negatives, seed)
    kept = json.loads(table.schema.metadata[b"medvl"])
    result = {
        "minutes": minutes,
        "cpu_minutes": (used.ru_utime + used.ru_stime) / 60,
        "peak_gib": used.ru_maxrss / 2**20,
        "distinct": len(sets),
        "triplets": len(table),
        "checked": CHECKED,
        "negatives": negatives,
        "entities": source,
        "cases": kept["counts"],
    }
    print(done.stdout)
    if studies < 200_000 or negatives != "hardest":
        print(json.dumps(result, indent=2))
        return result
    return write_result("miner-scale", "minutes", minutes, {}, studies, seed, higher_is_better=False, **result)


def _write(path: Path, studies: Studies) -> None:
    """Write studies as an extractor does."""
    with path.open("w", encoding="utf-8") as file:
        for name, profile, patient in zip(studies.ids, studies.profiles, studies.patients.tolist(), strict=True):
            entities = [
                {"disease": disease, "status": "present", "adjectives": sorted(first), "directions": sorted(second)}
                for disease, (first, second) in profile.items()
            ]
            file.write(json.dumps({"id": name, "patient_id": f"p{patient}", "entities": entities}) + "\n")


def _check(studies: Studies, sets: EntitySets, table: Any, negatives: str, seed: int) -> None:
    """Compare anchors drawn at random with all other studies: best positive, negative, and that none was left out."""
    number = {name: row for row, name in enumerate(studies.ids)}
    mined = {number[row["anchor"]]: row for row in table.to_pylist()}
    similarity = Similarity(sets)
    for anchor in np.random.default_rng(seed).choice(len(studies), CHECKED, replace=False).tolist():
        scores = similarity.matrix(sets.of[[anchor]], np.arange(len(sets)))[0][sets.of]
        scores[studies.patients == studies.patients[anchor]] = -1
        row = mined.get(anchor)
        if row is not None:
            np.testing.assert_allclose(row["positive_score"], scores.max(), atol=1e-9)
            scores[number[row["positive"]]] = -1  # no study is both
        inside: NDArray[np.float64] = scores[(scores >= TAU_MIN - TOLERANCE) & (scores < TAU_MAX - TOLERANCE)]
        if row is None:
            assert not len(inside), "an anchor with a negative in the range has no triplet"  # noqa: S101
            continue
        if negatives != "random":
            expected = inside.max() if negatives == "hardest" else inside.min()
            np.testing.assert_allclose(row["negative_score"], expected, atol=1e-9)
