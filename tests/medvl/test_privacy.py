"""Canaries in the tags, tables and texts of three small data sets: where they may turn up, and that it is nowhere else.

`SECURITY.md` has the same list for people.
"""

from __future__ import annotations

import csv
import json
import re
import traceback
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import write_slice

from datamodules.twins.dicom import write_dicom
from medvl.cli.main import main
from medvl.errors import MedvlError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "quickstart"
NAME, NUMBER, ACCESSION, BIRTH, PLACE = "Quillfeather", "mrn7391846", "acc5528417", "19470228", "Lazaretto"
WORD = "marmalade"  # in every sentence
WHO = (NAME, NUMBER, ACCESSION, BIRTH, PLACE)
TAGS = {
    "PatientName": f"{NAME}^Ada", "PatientID": NUMBER, "AccessionNumber": ACCESSION, "PatientBirthDate": BIRTH,
    "StudyDate": BIRTH, "InstitutionName": PLACE, "ReferringPhysicianName": NAME, "StudyDescription": WORD,
    "PatientComments": WORD,
}  # fmt: skip
ASKED_FOR = re.compile(  # outputs that are made of sentences: what somebody who runs test or predict wants to see
    r"runs/[^/]+/[^/]+/[^/]+/(predictions/(?:test|predictions)\.jsonl|predictions/coco_images\.json|report\.html)"
)
SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
SHORT = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"]


@dataclass(frozen=True)
class Case:
    """A task with a data set of its own: what it is called for checks, and the arguments that name it."""

    config: str
    format: str
    source: str
    more: tuple[str, ...] = ()


CASES = {
    "grounding": Case("grounding", "table", "PhraseTable", ("--data.image_size", "32")),
    "alignment": Case("alignment", "reports", "ReportTable", ("--data.image_size", "32")),
    "volume": Case("volume", "volume-table", "VolumeTable", ("--data.spacing", "[9.0,9.0,9.0]")),
}


def tagged(path: Path) -> None:
    """Put the canaries into the tags of a DICOM file."""
    data = pydicom.dcmread(path)
    for name, value in TAGS.items():
        setattr(data, name, value)
    data.save_as(path)


def write_data(task: str, folder: Path) -> Path:
    """Write ten studies of ten patients, canaries in everything but the file names, and return the table."""
    folder.mkdir()
    rows = []
    for at, split in enumerate(SPLITS):
        text = f"Nodule {at} by the {WORD} hilum."
        row = {"patient_id": f"{NUMBER}{at}", "split": split, "name": NAME, "accession": ACCESSION, "born": BIRTH}
        if task == "volume":
            for z in range(6):
                (folder / f"v{at}").mkdir(exist_ok=True)
                tagged(write_slice(folder / f"v{at}" / f"{z}.dcm", (-55.0, -42.0, 9.0 * z), z + 1))
            snippets = json.dumps([{"text": text, "intervals": [[0, 20]]}])
            row |= {"volume": f"v{at}", "text": f"FINDINGS: {text}", "snippets": snippets, "labels": "nodule"}
        else:
            pixels = np.random.default_rng(at).integers(0, 255, (48, 48)).astype(np.uint8)
            write_dicom(folder / f"x{at}.dcm", pixels, patient=NUMBER, age=60, sex="F")
            tagged(folder / f"x{at}.dcm")
            row |= {"image": f"x{at}.dcm", "study_id": f"s{at}"}
            row |= (
                {"phrase": text, "boxes": "[[4, 4, 30, 30]]"} if task == "grounding" else {"text": f"FINDINGS: {text}"}
            )
        rows.append(row)
    return write_table(folder / "table.csv", rows)


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def contents(path: Path) -> Iterator[bytes]:
    """Yield what a file holds, unpacked."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield str(pq.read_table(path).to_pylist()).encode()


def leaks(folder: Path, data: Path) -> list[str]:
    """Return which canaries are in which names and files below a folder, but for the data and what was asked for."""
    found = []
    for path in (path for path in folder.rglob("*") if not path.is_relative_to(data)):
        name = path.relative_to(folder).as_posix()
        found += [f"{canary} in the name {name}" for canary in (*WHO, WORD) if canary.lower() in name.lower()]
        if path.is_file() and not path.is_symlink():
            unwanted = WHO if ASKED_FOR.fullmatch(name) else (*WHO, WORD)
            held = b"\0".join(contents(path)).lower()
            found += [f"{canary} in {name}" for canary in unwanted if canary.lower().encode() in held]
    return found


@pytest.mark.parametrize("task", CASES)
def test_canaries_stay_in_the_data(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    case = CASES[task]
    table = write_data(task, tmp_path / "data")
    given = ["--config", str(CONFIGS / f"{case.config}.yaml"), "--data.batch_size", "4", *case.more]
    given += ["--data.source", case.source, "--data.source.root", str(table)]
    given += ["--data.source.box_format", "xyxy_px"] if task == "grounding" else []
    boxes = ["--box-format", "xyxy_px"] if task == "grounding" else []
    convert = [["data", "convert", case.format, str(table)]] if task == "volume" else []
    for words in (
        ["data", "check", case.format, str(table), *boxes],
        *convert,
        ["fit", *given, *SHORT],
        ["test", *given, "--ckpt_path", "best"],
        ["predict", *given, "--ckpt_path", "best"],
        ["doctor", f"runs/{task}/{case.config}/latest"],
    ):
        status = main(words)
        out, error = capfd.readouterr()
        assert status == 0 or words[0] == "doctor", error
        assert not [canary for canary in (*WHO, WORD) if canary.lower() in (out + error).lower()], words[:2]
    assert leaks(tmp_path, tmp_path / "data") == []
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("runs/**/*") if path.is_file()}
    assert any(name.endswith("predictions/test.jsonl") for name in written) or task == "alignment"
    assert any("tfevents" in name for name in written)
    assert any(name.endswith("best.ckpt") for name in written)


FAULTS = {  # what goes wrong in a table, told without what its cells say
    "a cell too many": lambda text: text.replace(",train,", f",train,{WORD},", 1),
    "cells moved": lambda text: text.replace(",train,", f",{NAME},", 1),
    "boxes of words": lambda text: text.replace('"[[4, 4, 30, 30]]"', f"{WORD} {NAME}", 1),
    "no column": lambda text: text.replace("phrase", "note", 1),
    "two splits": lambda text: text.replace(f"{NUMBER}9", f"{NUMBER}0", 1),
    "no image": lambda text: text.replace("x0.dcm", "y0.dcm", 1),
    "a quote left open": lambda text: text.replace("Nodule 1", '"Nodule 1', 1),
    "no image is one": lambda text: text.replace(".dcm", ".txt"),
}


@pytest.mark.parametrize("debug", [False, True], ids=["told", "traceback"])
def test_mistakes_quote_no_patient(
    debug: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    table = write_data("grounding", tmp_path / "data")
    whole = table.read_text()
    cut = (tmp_path / "data" / "x1.dcm").read_bytes()
    (tmp_path / "data" / "x1.dcm").write_bytes(cut[:-200])
    if debug:
        monkeypatch.setenv("MEDVL_DEBUG", "1")
    given = ["--config", str(CONFIGS / "grounding.yaml"), "--data.image_size", "32", "--data.on_error", "raise"]
    given += ["--data.source", "PhraseTable", "--data.source.root", str(table), "--data.source.box_format", "xyxy_px"]
    told = []
    for fault in FAULTS.values() if not debug else list(FAULTS.values())[:4]:
        table.write_text(fault(whole))
        assert table.read_text() != whole
        words = ["fit", *given, *SHORT] if debug else ["data", "check", "table", str(table), "--box-format", "xyxy_px"]
        try:
            assert main(words) != 0
        except MedvlError as error:
            told.append("".join(traceback.format_exception(error)))
    told += capfd.readouterr()
    assert ("DataError" if debug else "table.csv:2") in "".join(told)
    for canary in (*WHO, WORD):
        assert canary.lower() not in "".join(told).lower(), "".join(told)
