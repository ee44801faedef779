"""Zero-shot classification: scores against plain NumPy, labels that are left open, and as a user runs it."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.sources.chexpert_labels import CHEXPERT
from datamodules.twins import chexpert, mimic_cxr, rsna
from medvl.cli.main import main
from medvl.encoders import TinyConv, TinyText
from medvl.errors import ConfigError
from ontology.entities import Report
from ontology.extract import Ober
from ontology.lexicon import load
from tasks.alignment.model import AlignmentModel
from tasks.alignment.zero_shot import ZeroShot, ZeroShotEvaluation, embed_prompts

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
NAMES = ["Edema", "Fracture", "Mass"]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def make(mode: Any, blanks: Any = "unknown") -> tuple[ZeroShotEvaluation, Tensor, Tensor]:
    """Return an evaluation of one prompt for each class, and the score of 40 images by hand."""
    images, present, absent, owner = drawn(40, 6), drawn(3, 6, seed=1), drawn(3, 6, seed=2), torch.arange(3)
    evaluation = ZeroShotEvaluation(NAMES, (present, owner), (absent, owner), mode, blanks=blanks)
    return evaluation, images, images @ present.T - (images @ absent.T if mode == "multilabel" else 0)


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    wins = [float(a > b) for a in scores[labels == 1] for b in scores[labels == 0]]
    return float(np.mean(wins)) if wins else float("nan")


@pytest.mark.parametrize("blanks", ["unknown", "absent"])
def test_findings_are_called_where_affirming_prompts_are_nearer(blanks: str) -> None:
    evaluation, images, scores = make("multilabel", blanks)
    labels = torch.randint(-1, 3, (40, 3), generator=torch.Generator().manual_seed(3)).float()
    labels[labels == 2] = torch.nan
    labels[:2] = torch.nan
    for rows in torch.arange(40).split(7):
        evaluation.update(images[rows], labels[rows])
    found = evaluation.compute()
    gold = np.where(np.isnan(labels.numpy()), 0 if blanks == "absent" else -1, labels.numpy())
    assert found["images"] == (gold >= 0).any(axis=1).sum()
    for column, name in enumerate(NAMES):
        known = gold[:, column] >= 0
        own, truth = scores[:, column].numpy()[known], gold[:, column][known]
        called = own >= 0
        tp, wrong = (called & (truth == 1)).sum(), (called != (truth == 1)).sum()
        assert found[f"auc/{name}"].item() == pytest.approx(area(own, truth), abs=1e-6)
        assert found[f"f1/{name}"].item() == pytest.approx(2 * tp / (2 * tp + wrong), abs=1e-6)
        assert found[f"acc/{name}"].item() == pytest.approx(1 - wrong / known.sum(), abs=1e-6)
    assert found["auc"].item() == pytest.approx(np.mean([found[f"auc/{name}"].item() for name in NAMES]), abs=1e-6)


def test_of_five_by_200_the_highest_affirming_prompt_counts() -> None:
    evaluation, images, scores = make("multiclass", "absent")
    labels = torch.full((40, 3), torch.nan)
    labels[torch.arange(30), torch.arange(30) % 3] = 1
    labels[30:35] = 1  # more than one class: not of this benchmark
    evaluation.update(images, labels)
    found = evaluation.compute()
    assert found["images"] == 30
    right = (scores[:30].argmax(dim=1) == torch.arange(30) % 3).float().mean()
    assert found["acc"].item() == pytest.approx(right.item(), abs=1e-6)


def test_prompts_are_every_template_with_every_name() -> None:
    torch.manual_seed(0)
    model = AlignmentModel(TinyConv(width=64), TinyText(width=32, depth=1, buckets=64), dim=8).eval()
    with torch.no_grad():
        vectors, owner = embed_prompts(model, [["edema"], ["mass", "tumour"]], ["{}", "no {}"])
        expected = model.embed_texts(["edema", "no edema", "mass", "no mass", "tumour", "no tumour"])
    torch.testing.assert_close(vectors, expected)
    assert owner.tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("name", ["chexpert", "chexpert_5x200", "rsna"])
def test_prompts_of_the_configs_mean_their_label(name: str) -> None:
    """Our own reader of reports takes each affirming prompt for its label's finding, and each denying one for none."""
    (callback,) = yaml.safe_load((CONFIGS / f"zero_shot/{name}.yaml").read_text())["trainer"]["callbacks"]
    zero_shot, ober, labels = ZeroShot(**callback["init_args"]), Ober(), load().canon.diseases
    for label, names in zero_shot.names.items():
        for called in names:
            for status, templates in (("present", zero_shot.present), ("absent", zero_shot.absent)):
                for template in templates:
                    text = template.replace("{}", called)
                    found = ober.extract(Report("", text, ((0, len(text)),)))
                    assert found, text
                    assert {entity.status for entity in found} == {status}, text
                    sets = [labels[entity.disease].get("chexpert", ()) for entity in found]
                    assert name == "rsna" or any(label in one for one in sets), text


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ConfigError, match="class without a name"):
        ZeroShot({"Edema": []})
    with pytest.raises(ConfigError, match="templates with a slot"):
        ZeroShot({"Edema": ["edema"]}, absent=["no edema"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on a twin of MIMIC-CXR, in a folder with twins of CheXpert and RSNA."""
    here = tmp_path_factory.mktemp("run")
    mimic_cxr.write(here / "mimic", 16, seed=0, size=64, workers=0)
    chexpert.write(here / "chexpert", 16, seed=1, size=64, workers=0, split=False)
    rsna.write(here / "rsna", 16, seed=1, size=64, workers=0)
    words = f"fit --config {CONFIGS}/quickstart/alignment.yaml --data.source.root mimic --data.image_size 32"
    more = (
        "--data.batch_size 8 --trainer.max_steps 1 --trainer.val_check_interval 1 --trainer.enable_progress_bar false"
    )
    with contextlib.chdir(here), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVL_CACHE", str(here / "cache"))
        patch.setattr("sys.argv", ["medvl"])
        assert main(f"{words} {more}".split()) == 0
    return next((here / "runs/alignment").glob("*/latest")).resolve()


@pytest.mark.parametrize(
    ("config", "source", "labels"),
    [
        ("chexpert", "CheXpert --data.source.root chexpert --data.source.unpaired true --data.source.split test", 5),
        ("rsna", "ImageLabels --data.source.source RSNAPneumonia --data.source.source.root rsna", 1),
    ],
)
def test_a_run_is_measured_on_data_it_never_saw(
    run: Path, config: str, source: str, labels: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parents[3])
    monkeypatch.setattr("sys.argv", ["medvl"])
    words = f"test --run {run} --config {CONFIGS}/zero_shot/{config}.yaml --trainer.enable_progress_bar false"
    if config == "rsna":
        source += " --data.source.source.split test"
    assert main(f"{words} --data.source {source}".split()) == 0, capfd.readouterr().err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = {key: value for row in rows for key, value in row.items() if key.startswith("test/zero_shot/")}
    assert found["test/zero_shot/images"] > 8
    assert 0 <= found["test/zero_shot/auc"] <= 1
    assert sum(key.startswith("test/zero_shot/auc/") for key in found) >= labels


def test_five_of_chexpert_are_told_apart(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here = run.parents[3]
    rows = list(csv.DictReader((here / "chexpert/valid.csv").read_text().splitlines()))
    source = next(here.glob("chexpert/valid/*/*/*frontal*"))
    for number, row in enumerate(rows):  # a patient each, who has one of the five
        place = f"valid/patient{number:05d}/study1/view1_frontal.jpg"
        row |= {name: "1.0" if name == FIVE[number % 5] else "" for name in CHEXPERT}
        row |= {"Path": f"CheXpert-v1.0/{place}", "Frontal/Lateral": "Frontal", "AP/PA": "AP"}
        (here / "five" / place).parent.mkdir(parents=True)
        shutil.copy(source, here / "five" / place)
    with (here / "five/valid.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.chdir(here)
    monkeypatch.setattr("sys.argv", ["medvl"])
    words = f"test --run {run} --config {CONFIGS}/zero_shot/chexpert_5x200.yaml --trainer.enable_progress_bar false"
    drawn = "CheXpert5x200 --data.source.root five --data.source.per_class 2"
    assert main(f"{words} --data.source {drawn}".split()) == 0, capfd.readouterr().err
    shown = capfd.readouterr().out
    assert "zero_shot/acc" in shown
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert found["test/zero_shot/images"] == 10
    assert found["test/zero_shot/acc"] in [pytest.approx(right / 10) for right in range(11)]
    assert {f"test/zero_shot/auc/{name}" for name in FIVE} <= found.keys()


def test_labels_that_the_data_has_not_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parents[3])
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setenv("MEDVL_CACHE", str(Path("cache").resolve()))
    Path("mine.yaml").write_text(
        "trainer: {callbacks: [{class_path: tasks.alignment.zero_shot.ZeroShot, init_args: {names: {Gout: [gout]}}}]}"
    )
    assert main(["test", "--run", str(run), "--config", "mine.yaml"]) == 2
    error = capfd.readouterr().err
    assert "the data set has none of these labels" in error
    assert len(error.splitlines()) <= 4, error
