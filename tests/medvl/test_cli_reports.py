"""`medvl predict --report`: whole reports in one pass, as a user runs it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_toy import Run, medvl
from PIL import Image

from datamodules.sources import MIMICCXR
from datamodules.studies import Study
from datamodules.twins import mimic_cxr
from datamodules.twins.dicom import write_dicom
from medvl.cli.grounder import Grounder
from medvl.cli.main import main
from medvl.cli.restore import restore

__all__ = ["medvl"]
QUICKSTART = Path(__file__).resolve().parent.parent.parent / "configs/quickstart/grounding.yaml"
REPORT = """INDICATION: Cough, query abscess.

FINDINGS: There is a mass in the left lung. No pleural effusion. Results were discussed with Dr. Jones.
"""
SAYS_MASS = "There is a mass in the left lung."
GENERATOR = """\
class Writer:
    def __init__(self, organ: str = "heart") -> None:
        self.organ = organ

    def __call__(self, image):
        return f"The {self.organ} is enlarged in {image.width} by {image.height} pixels, mode {image.mode}."


def write(image):
    return "A mass. No effusion."


def fail(image):
    raise RuntimeError("a secret of the patient")


def number(image):
    return 3
"""


@pytest.fixture(scope="module")
def trained(padchest_twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps; boxes for every sentence take a threshold of 0."""
    here = tmp_path_factory.mktemp("run")
    words = f"fit --config {QUICKSTART} --data.source.root {padchest_twin} --data.image_size 64 --data.batch_size 8"
    short = " --trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.enable_progress_bar false"
    with contextlib.chdir(here):
        assert main((words + short + " --trainer.logger false").split()) == 0
    return (here / "runs/grounding/grounding/latest").resolve()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    grey = np.random.default_rng(0).integers(0, 255, (150, 110), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "x.png")
    (tmp_path / "report.txt").write_text(REPORT)
    return tmp_path / "x.png"


def lines(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "reports.jsonl").read_text().splitlines()]


def test_a_report_becomes_a_page_json_and_coco(medvl: Run, trained: Path, image: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    status, out, error = medvl(f"predict --report report.txt --image x.png --run {trained} --threshold 0")
    assert status == 0, error
    folder = next((trained / "reports").iterdir())
    assert out.splitlines()[-1].startswith(str(folder))
    assert "mass" not in out + error
    assert {path: path.read_bytes() for path in before} == before  # nothing of the report is anywhere else
    assert {path.name for path in folder.iterdir()} == {
        "00001.html", "reports.jsonl", "coco_results.json", "coco_images.json",
    }  # fmt: skip
    (study,) = lines(str(folder))
    asked = [(one["text"], one["kind"]) for one in study["sentences"] if one["asked"]]
    assert asked == [(SAYS_MASS, "finding"), ("No pleural effusion.", "negated")]
    assert study["images"] == [{"file": "x.png", "width": 110, "height": 150}]
    for sentence in study["sentences"]:
        assert sentence["groundable"] == bool(sentence["boxes"]) == sentence["asked"]
        for box in sentence["boxes"]:
            x0, y0, x1, y1 = box["xyxy_px"]
            assert 0 <= x0 <= x1 <= 110
            assert 0 <= y0 <= y1 <= 150
    results = json.loads((folder / "coco_results.json").read_text())
    assert len(results) == sum(len(sentence["boxes"]) for sentence in study["sentences"])
    html = (folder / "00001.html").read_text()
    assert SAYS_MASS in html
    assert "<script" not in html
    assert 'src="http' not in html


def test_one_pass_finds_what_single_calls_find(trained: Path, image: Path) -> None:
    report = (
        "A mass in the left upper lobe. No effusion is seen anywhere today. Nodule. Clear right lung. The heart is big."
    )
    restored = restore(str(trained))
    grounder = Grounder(restored.model, restored.data, "cpu")
    grounder.task.postprocess = grounder.task.postprocess.__class__(threshold=0.0, fusion_iou=None)
    passes: list[int] = []
    grounder.task.model.image_encoder.register_forward_hook(
        lambda module, inputs, output: passes.append(len(inputs[0]))
    )
    whole = grounder.ground(Study("s", [image], report))
    assert passes == [1]
    assert len(whole.sentences) == 5
    for sentence in whole.sentences:
        (alone,) = grounder.ground(Study("s", [image], sentence.text)).sentences
        assert len(alone.boxes) == len(sentence.boxes) > 0
        for a, b in zip(alone.boxes, sentence.boxes, strict=True):
            torch.testing.assert_close(torch.tensor(a.xyxy_px), torch.tensor(b.xyxy_px), atol=1e-2, rtol=0)
            assert abs(a.score - b.score) < 1e-4


def test_a_dicom_is_read_as_its_picture(medvl: Run, trained: Path, image: Path) -> None:
    write_dicom(Path("x.dcm"), np.asarray(Image.open(image)), patient="ANNA", monochrome1=True)
    for name in ("x.png", "x.dcm"):
        words = f"predict --report report.txt --image {name} --run {trained} --threshold 0 --output of_{name}"
        assert medvl(words)[0] == 0
    (plain,), (film,) = lines("of_x.png"), lines("of_x.dcm")
    assert film["images"] == [{"file": "x.dcm", "width": 110, "height": 150}]
    assert film["sentences"] == plain["sentences"]
    assert "ANNA" not in "".join(path.read_text() for path in Path("of_x.dcm").iterdir())


def test_tables_and_folders_of_reports(medvl: Run, trained: Path, image: Path, tmp_path: Path) -> None:
    Image.open(image).rotate(90, expand=True).save("side.png")
    table = "image,report,study_id\nx.png,A mass.,s1\nside.png,A mass.,s1\nx.png,,s2\nnone.png,A nodule.,s3\n"
    Path("t.csv").write_text(table)
    status, _, error = medvl(f"predict --report t.csv --run {trained} --threshold 0 --output o1")
    assert status == 0, error
    assert "2 of 3 studies are left out; first t.csv:4: no report is given" in error
    (study,) = lines("o1")
    assert [(one["width"], one["height"]) for one in study["images"]] == [(110, 150), (150, 110)]
    assert {box["image"] for box in study["sentences"][0]["boxes"]} == {0, 1}
    assert len(json.loads(Path("o1/coco_images.json").read_text())["images"]) == 2

    Path("many").mkdir()
    for name in ("b", "a"):
        Path(f"many/{name}.txt").write_text(f"A mass {name}.")
        Path(f"many/{name}.png").write_bytes(image.read_bytes())
    assert medvl(f"predict --report many --run {trained} --output o2")[0] == 0
    assert [(one["study"], one["page"]) for one in lines("o2")] == [("a", "00001.html"), ("b", "00002.html")]


def test_a_data_set_in_its_own_layout(medvl: Run, trained: Path, tmp_path: Path) -> None:
    mimic_cxr.write(tmp_path / "mimic", 8, seed=0, size=32, workers=0)
    words = f"predict --report mimic --format mimic-cxr --run {trained} --threshold 0"
    status, _, error = medvl(f"{words} --only train --output o1")
    assert status == 0, error
    train = [record for record in MIMICCXR(Path("mimic")).load().records if record.split == "train"]
    assert [one["study"] for one in lines("o1")] == [record.study_id for record in train]
    for one, record in zip(lines("o1"), train, strict=True):
        assert [image["file"] for image in one["images"]] == [f"mimic/{path}" for path in record.images]
        assert {sentence["section"] for sentence in one["sentences"]} <= {"findings", "impression"}
        assert all(sentence["text"] in " ".join(record.text.split()) for sentence in one["sentences"])
    assert "--views" in medvl("predict --format mimic-cxr --report --help")[1]
    assert "did you mean '--views'" in medvl(f"{words} --view all")[2]


def test_a_generator_writes_what_is_not_given(medvl: Run, trained: Path, image: Path) -> None:
    Path("their_words.py").write_text(GENERATOR)
    words = f"predict --image x.png --run {trained} --allow-import their_words --generator their_words"
    status, _, error = medvl(f"{words}.Writer --generator.organ aorta --output o1")
    assert status == 0, error
    (study,) = lines("o1")
    assert study["sentences"][0]["text"] == "The aorta is enlarged in 110 by 150 pixels, mode L."
    assert study["generator"] == "their_words.Writer"
    assert "written by their_words.Writer, a program" in Path("o1/00001.html").read_text()
    assert medvl(f"{words}.write --output o2")[0] == 0
    assert len(lines("o2")[0]["sentences"]) == 2
    for name, told in (("fail", "the generator raised RuntimeError"), ("number", "returned int; expected text")):
        status, _, error = medvl(f"{words}.{name} --output o3")
        assert (status, told in error, "secret" in error, Path("o3").exists()) == (2, True, False, False)


def test_help_tells_both_ways(medvl: Run) -> None:
    status, out, _ = medvl("predict --report --help")
    assert (status, "--generator" in out) == (0, True)
    assert "medvl predict --report" in medvl("predict --help")[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--report none.txt --image x.png --run RUN", "no such report"),
        ("--report report.txt --image none.png --run RUN --output o", "no such image file\n  where: none.png"),
        ("--report report.txt --image report.txt --run RUN --output o", "not an image"),
        ("--report report.txt --run RUN", "which image is the report about?"),
        ("--report empty.txt --image x.png --run RUN --output o", "no sentence in this report\n  where: empty.txt"),
        ("--report why.txt --image x.png --run RUN --output o", "no sentence about the image in this report"),
        ("--report x.png --image x.png --run RUN", "this is no text file"),
        ("--report report.txt --image x.png", "which checkpoint?"),
        ("--report report.txt --image x.png --run RUN --output .", "there is something already"),
        ("--report report.txt --image x.png --run RUN --treshold 1", "did you mean '--threshold'?"),
        ("--report t.csv --run RUN", "column 'image' is missing"),
        ("--report t.csv --image x.png --run RUN", "several reports need a folder of images"),
        ("--report t.csv --only test --run RUN", "only a data set has splits"),
        ("--report none --format mimic-cxr --run RUN", "no such data set"),
        ("--report . --format mimic-cxr --image x.png --run RUN", "a data set brings its own images"),
        ("--report . --format vindr-cxr --run RUN", "no --format 'vindr-cxr'"),
        ("--generator os.system --image x.png --run RUN", "os.system is not allowed"),
        ("--generator=tasks.nothing --image x.png --run RUN", "nothing"),
        ("--report report.txt --image x.png --ckpt_path x.png", "not a whole checkpoint"),
    ],
)
def test_mistakes_are_told_in_four_lines(medvl: Run, trained: Path, image: Path, words: str, told: str) -> None:
    Path("empty.txt").write_text(" \n")
    Path("why.txt").write_text("INDICATION: Cough, query abscess.")
    Path("t.csv").write_text("picture,report\nx.png,A mass.\n")
    status, _, error = medvl(f"predict {words.replace('RUN', str(trained))}")
    assert status == 2, error
    assert told in error
    assert len(error.splitlines()) <= 4, error
    assert "abscess" not in error
    assert not Path("o").exists()
