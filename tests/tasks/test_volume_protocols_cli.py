"""Protocols through the command line: named for a run, figures in its metrics file, another data set's labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.sources.rad_chestct import CLASSES
from medvl.cli.main import main
from tasks.volume.scans import read_scans

CONFIGS = Path(__file__).parents[2] / "configs"


def rad_chestct(folder: Path, studies: int) -> Path:
    """A small Rad-ChestCT: one class of 84 for each of ours, at one place, and noise for volumes."""
    names, rng = [f"{group[0]}*other" for group in CLASSES.values()], np.random.default_rng(0)
    lines = [f"NoteAcc_DEID,{','.join(names)}"]
    for i in range(studies):
        lines.append(f"tst{i:05d}," + ",".join(str((i + at) % 2) for at in range(len(names))))
        folder.mkdir(exist_ok=True)
        np.savez_compressed(folder / f"tst{i:05d}.npz", ct=rng.integers(-1000, 100, (30, 40, 40)).astype(np.int16))
    (folder / "imgtest_Abnormality_and_Location_Labels.csv").write_text("\n".join(lines))
    return folder


def last_test(run: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == "test"][-1]


def test_protocols_measure_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["medvl"])
    twin, runs = tmp_path / "twin", tmp_path / "runs"
    assert main(["data", "twin", "ct-rate", str(twin), "--studies", "14", "--size", "40", "--seed", "4"]) == 0
    words = ["--config", str(CONFIGS / "quickstart" / "volume.yaml"), "--data.source.root", str(twin)]
    words += ["--data.spacing", "[10, 10, 10]", "--runs", str(runs)]
    assert main(["fit", *words, "--trainer.max_steps", "1", "--trainer.val_check_interval", "1"]) == 0
    (run,) = runs.glob("volume/*/*-*")

    assert (
        main(["test", "--run", str(run), "--model.protocols", "[ctrate, localisation]", "--data.several", "each"]) == 0
    )
    found, scans = last_test(run), read_scans(run / "predictions" / "volumes.parquet")
    firsts = sum(one.first for one in scans)
    assert found["test/ctrate/retrieval/first/volumes"] == firsts
    assert found["test/ctrate/retrieval/all/volumes"] == len(scans) >= firsts
    for name in ("retrieval/dedup/t2i/r@5", "auc18/auc", "map/any/map@5", "map/exact/map@5"):
        assert f"test/ctrate/{name}" in found, name
        assert f"test/ctrate/{name}/low" in found or found[f"test/ctrate/{name}"] is None, name
    assert {len(one.scores) for one in scans} == {18}

    assert found["test/localisation/mae"] == pytest.approx(found["test/mae"], rel=1e-3)
    assert {"test/localisation/middle/mae", "test/localisation/mae@12mm", "test/localisation/mae/low"} <= found.keys()

    folder = rad_chestct(tmp_path / "rad", 4)
    words = ["--data.source", "RadChestCT", "--data.source.root", str(folder), "--data.source.split", "test"]
    words += ["--model.protocols", "[radchestct]"]
    assert main(["test", "--run", str(run), *words]) == 0
    found = last_test(run)
    assert not any(name.startswith(("test/localisation", "test/ctrate")) for name in found)
    assert (found["test/radchestct/16/classes"], found["test/radchestct/15/classes"]) == (16, 15)
    assert "test/radchestct/16/auc/Calcification" in found
