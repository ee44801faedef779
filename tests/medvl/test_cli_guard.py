"""The guard of report data as a user gives it, in a config or on the command line: tables by name, sources by class."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cli_toy import Run, medvl

from datamodules.sources import MIMICCXR
from datamodules.twins import mimic_cxr

__all__ = ["medvl"]
QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "quickstart" / "alignment.yaml"


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guard") / "mimic"
    mimic_cxr.write(folder, 24, seed=0, size=64)
    return folder


def tables(twin: Path) -> tuple[Path, Path]:
    """Write a table with a patient that is trained on, and one with a stranger."""
    patient = next(r.patient_id for r in MIMICCXR(twin).load().records if r.split == "train")
    caught, free = Path("caught.csv"), Path("free.csv")
    caught.write_text(f"subject_id,dicom_id\n{patient.removeprefix('p')},a\n")
    free.write_text("subject_id,dicom_id\n99999999,a\n")
    return caught, free


def of_source(twin: Path) -> dict[str, object]:
    """Name the twin as a source, all of it held out."""
    return {"class_path": "MIMICCXR", "init_args": {"root": str(twin), "split": "test"}}


@pytest.mark.parametrize("form", ["table", "tables", "sources"])
@pytest.mark.parametrize("place", ["config", "command"])
def test_the_guard_of_reports_holds_however_it_is_given(medvl: Run, twin: Path, form: str, place: str) -> None:
    caught, free = tables(twin)
    given = {"table": str(caught), "tables": [str(free), str(caught)], "sources": [of_source(twin)]}[form]
    name = "guard_sources" if form == "sources" else "guard"
    overlay = {"data": {"init_args": {"image_size": 32}}}
    words = [f"--data.{name}", str(given) if isinstance(given, str) else yaml.safe_dump(given, default_flow_style=True)]
    if place == "config":
        overlay["data"]["init_args"][name] = given  # type: ignore[assignment]
        words = []
    Path("overlay.yaml").write_text(yaml.safe_dump(overlay))
    fit = f"fit --config {QUICKSTART} --data.source.root {twin} --config overlay.yaml --trainer.max_steps 1"
    status, _, error = medvl(fit, *words)
    assert (status, "held out for evaluation" in error) == (2, True), error
    assert ("caught.csv" in error) == (form != "sources")


def test_a_guard_that_catches_nobody_lets_training_begin(medvl: Run, twin: Path) -> None:
    free = tables(twin)[1]
    small = "--data.image_size 32 --trainer.limit_val_batches 1 --trainer.val_check_interval 1"
    fit = f"fit --config {QUICKSTART} --data.source.root {twin} --trainer.max_steps 1 {small} --data.guard {free}"
    status, _, error = medvl(fit)
    assert status == 0, error
