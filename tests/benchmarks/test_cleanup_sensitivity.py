from __future__ import annotations

import math
from pathlib import Path

from benchmarks.cleanup_sensitivity import PLANTED, read_planted, score_rule, truth, versions
from datamodules.cleanup.rules import Change, Cleaned, anatomies, clean
from datamodules.sources import ChestImaGenome
from datamodules.twins import imagenome
from datamodules.twins.scene_graphs import LABEL_NOISE


def test_the_truth_is_what_a_twin_without_noise_has(tmp_path: Path) -> None:
    for name, noise in (("noisy", list(LABEL_NOISE)), ("true", ["none"])):
        imagenome.write(tmp_path / name, 24, 2, size=64, workers=0, noise=noise)
    given, true = (ChestImaGenome(tmp_path / name, workers=0).load().records for name in ("noisy", "true"))
    planted = read_planted(tmp_path / "noisy", given)
    assert set(planted.values()) == set(PLANTED)
    found = truth(given, planted)
    assert {(r.image, r.phrase): r.boxes for r in found} == {(r.image, r.phrase): r.boxes for r in true}
    spare = truth(given, planted, spare=True)
    assert [(r.image, r.phrase) for r in spare] == [(r.image, r.phrase) for r in given]
    made = versions(given, planted)
    assert made["no-cleaning"] == given
    assert len({str(records) for records in made.values()}) == len(made)


def test_precision_and_recall_count_places(tmp_path: Path) -> None:
    imagenome.write(tmp_path / "twin", 12, 2, size=64, workers=0)
    given = ChestImaGenome(tmp_path / "twin", workers=0).load().records
    planted = read_planted(tmp_path / "twin", given)
    whole = Cleaned(changes=[Change("negated", record, None) for record in given])
    every = sum(len(anatomies(record)) for record in given)
    count = sum(kind == "negated" for kind in planted.values())
    expected = {"precision": count / every, "recall": 1.0, "taken": every, "planted": count}
    assert score_rule(whole, "negated", planted) == expected
    nothing = score_rule(Cleaned(), "negated", planted)
    assert (math.isnan(nothing["precision"]), nothing["recall"], nothing["taken"]) == (True, 0, 0)
    assert all(score_rule(clean(given), rule, planted)["precision"] > 0.9 for rule in PLANTED)
