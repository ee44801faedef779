"""From a data set to triplets to a training run: every command's output is the next one's input."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_toy import Run, medvl

from datamodules.sources.mimic_cxr import MIMICCXR
from datamodules.twins import mimic_cxr

__all__ = ["medvl"]
QUICKSTART = Path(__file__).parents[2] / "configs/quickstart/alignment.yaml"
STEPS = "--trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.log_every_n_steps 1 --model.dim 16"
LOSS = "--model.loss MedTrimLoss --data.source.root twin --data.image_size 32 --data.batch_size 4"


@pytest.fixture
def triplets(medvl: Run, tmp_path: Path) -> Path:
    """The twin of MIMIC-CXR, its entities and triplets, in the working folder."""
    mimic_cxr.write(Path("twin"), 30, seed=0, size=60, workers=0)
    for words in (
        "data reports mimic-cxr twin --output reports.jsonl",
        "ontology extract --input reports.jsonl --output entities.jsonl",
        "ontology mine --entities entities.jsonl --output triplets.parquet --fallback below",
    ):
        status, _, error = medvl(words)
        assert status == 0, error
    return Path("triplets.parquet")


def test_reports_mined_and_trained_on(medvl: Run, triplets: Path) -> None:
    records = MIMICCXR("twin").load().records
    lines = [json.loads(line) for line in Path("reports.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [record.study_id for record in records]
    for line, record in zip(lines, records, strict=True):
        assert (line["patient_id"], line["split"]) == (record.patient_id, record.split)
        assert line["findings"] or line["impression"]
    assert pq.ParquetFile(triplets).metadata.num_rows > 4
    remined = "--data.entities EntityFile --data.entities.path entities.jsonl --data.remine_every 1"
    for name, more in (("table", f"--data.triplets {triplets}"), ("mined", remined)):
        status, _, error = medvl(f"fit --config {QUICKSTART} {STEPS} {LOSS} {more} --name {name}")
        assert status == 0, error
        logged = next(Path("runs").glob(f"alignment/{name}/*/metrics.jsonl")).read_text()
        assert "train/ii" in logged
    status, _, error = medvl(f"fit --config {QUICKSTART} {STEPS} {LOSS} --data.triplets none.parquet")
    assert (status, "no such table of triplets" in error) == (2, True)


def test_what_has_no_reports_is_told(medvl: Run, padchest_twin: Path, tmp_path: Path) -> None:
    status, _, error = medvl(f"data reports padchest-gr {padchest_twin} --output out.jsonl")
    assert status == 2
    assert "has sentences or labels, no reports" in error
    Path("t.csv").write_text("image,text,labels,split\n,,Edema,test\n")
    status, _, error = medvl("data reports reports t.csv --unpaired --output out.jsonl")
    assert status == 2
    assert not Path("out.jsonl").exists()
