"""Signatures of failure: each shows in a run that was made to fail that way, and in no healthy one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_toy import Run, medvl
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.records import ReportRecord
from medvl.cli.metrics_file import MetricsFile
from medvl.cli.recording import WholeCheckpointIO
from medvl.errors import DataError
from medvl.evidence import Evidence, Part, Shares, write_shares
from medvl.metrics import GroundingMetrics
from medvl.metrics.zero_shot import ZeroShotClassification
from medvl.signatures import diagnose, effective_rank, over_separated, unrelated
from medvl.viz.report import write_report
from tasks.alignment.predictions import StudyResult, write_embeddings
from tasks.volume.scans import ScanResult, write_scans

__all__ = ["medvl"]
STUDIES, WIDTH = 60, 24
Vectors = tuple[Tensor, Tensor]


def run_folder(folder: Path) -> Path:
    """A run folder with one checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "fit.yaml").write_text("model: {}\n")
    WholeCheckpointIO().save_checkpoint({"state_dict": {}}, folder / "checkpoints/best.ckpt")
    return folder


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def paired(spread: float = 0.5) -> Vectors:
    """Texts anywhere, and images near them."""
    text = normalize(noise(STUDIES, WIDTH), dim=1)
    return normalize(text + spread * normalize(noise(STUDIES, WIDTH, seed=1), dim=1), dim=1), text


def one_vector() -> Vectors:
    """Texts anywhere, and images all at one place but for a hundredth."""
    image = normalize(noise(1, WIDTH, seed=2) + 0.01 * noise(STUDIES, WIDTH, seed=3), dim=1)
    return image, paired()[1]


def strangers() -> Vectors:
    """Images and texts anywhere."""
    return normalize(noise(STUDIES, WIDTH, seed=4), dim=1), paired()[1]


def by_class() -> Vectors:
    """Both near the place of their class, and nothing else."""
    centre = noise(6, WIDTH, seed=5).repeat(STUDIES // 6, 1)
    return tuple(normalize(centre + 0.3 * noise(STUDIES, WIDTH, seed=seed), dim=1) for seed in (6, 7))  # type: ignore[return-value]


def write_studies(run: Path, vectors: Vectors) -> None:
    """Write embeddings of studies of six classes, as test of an alignment run does."""
    results = [
        StudyResult(
            ReportRecord((f"{i}.png",), f"p{i}", f"s{i}", "test", "twin"),
            f"{i}.png", image, text, torch.eye(6)[i % 6], (f"finding {i % 6}",), i,
        )
        for i, (image, text) in enumerate(zip(*vectors, strict=True))
    ]  # fmt: skip
    (run / "predictions").mkdir(exist_ok=True)
    write_embeddings(run / "predictions/embeddings.parquet", results)


def log(run: Path, metrics: Mapping[str, Tensor | float]) -> None:
    """Write metrics of a test."""
    MetricsFile(run, "test").log_metrics({f"test/{name}": float(value) for name, value in metrics.items()}, 0)


def grounding(shown: float = 0.9, grown: float = 1.0) -> dict[str, Tensor]:
    """Return the metrics of a model that shows boxes for a share of the sentences, so many times too long each way."""
    rng, metric = np.random.default_rng(0), GroundingMetrics()
    for i in range(100):
        x, y = rng.uniform(0.2, 0.6, 2)
        gold = torch.tensor([[x, y, x + 0.1, y + 0.2]])
        middle, half = (gold[:, :2] + gold[:, 2:]) / 2, grown * (gold[:, 2:] - gold[:, :2]) / 2
        box = torch.cat([middle - half, middle + half], dim=1)
        boxed, seen = i % 2 == 0, i < 100 * shown
        found = {"boxes": box if boxed and seen else box[:0], "scores": torch.ones(int(boxed and seen))}
        metric.update([found], [{"boxes": gold if boxed else gold[:0]}])
    return metric.compute()


def prompts(kind: str) -> dict[str, Tensor | float]:
    """Return zero-shot metrics over 60 images: scores that tell, that do not, and of which one is always highest."""
    labels = torch.arange(60) % 4
    scores = noise(60, 4) + 3 * torch.eye(4)[labels] * (kind != "noise")
    metric = ZeroShotClassification(tuple("abcd"))
    metric.update(scores + 50 * torch.eye(4)[0] * (kind == "constant"), labels)
    return {"zero_shot/images": 60.0, **{f"zero_shot/{name}": value for name, value in metric.compute().items()}}


HEALTHY: dict[Part, Shares] = {"image": Shares(60, 0.1, 50, 0.6, 0.1), "text": Shares(60, 0.3, 50, 0.6, 0.2)}


def healthy(run: Path) -> None:
    write_studies(run, paired())
    log(run, {**grounding(), **prompts("telling")})
    write_shares(run / "predictions/permuted.json", HEALTHY)


def collapsed(run: Path) -> None:
    write_studies(run, one_vector())


def swapped_collapse(run: Path) -> None:
    write_studies(run, one_vector()[::-1])


def unpaired(run: Path) -> None:
    write_studies(run, strangers())


def classes_only(run: Path) -> None:
    write_studies(run, by_class())


def silent(run: Path) -> None:
    log(run, grounding(shown=0.1))


def oversized(run: Path) -> None:
    log(run, grounding(grown=3.0))


def chance(run: Path) -> None:
    log(run, prompts("noise"))


def constant(run: Path) -> None:
    log(run, prompts("constant"))


def blind(run: Path) -> None:
    write_shares(run / "predictions/permuted.json", HEALTHY | {"image": Shares(60, 0.98, 50, 0.6, 0.58)})


def deaf(run: Path) -> None:
    write_shares(run / "predictions/permuted.json", HEALTHY | {"text": Shares(60, 0.5, 50, 0.6, 0.59)})


PLANTED = {
    collapsed: ("collapsed image embeddings (severe)", "unrelated image and text (severe)"),
    swapped_collapse: ("collapsed text embeddings (severe)", "unrelated image and text (severe)"),
    unpaired: ("unrelated image and text (severe)",),
    classes_only: ("over-separated classes (mild)",),
    silent: ("over-suppression (severe)",),
    oversized: ("boxes at the right place in the wrong size (severe)",),
    chance: ("zero-shot collapse (mild)",),
    constant: ("zero-shot collapse (mild)",),
    blind: ("ignores the image (severe)",),
    deaf: ("ignores the text (mild)",),
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_each_failure_is_named(plant: object, medvl: Run, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "runs/task/planted/now")
    plant(run)  # type: ignore[operator]
    status, out, error = medvl(f"doctor {run}")
    assert (status, error) == (1, "")
    problems = [line.removeprefix("PROBLEM    ") for line in out.splitlines() if line.startswith("PROBLEM")]
    assert sorted(one.partition(":")[0] for one in problems) == sorted(PLANTED[plant])  # type: ignore[index]
    assert out.count("  next     ") == len(problems)
    page = write_report(run).read_text(encoding="utf-8")
    for name in PLANTED[plant]:  # type: ignore[index]
        assert name.partition(" (")[0].capitalize() in page


def test_a_healthy_run_is_silent(medvl: Run, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "runs/task/planted/now")
    healthy(run)
    status, out, _ = medvl(f"doctor {run}")
    assert status == 0, out
    assert sum(line.startswith("not seen") for line in out.splitlines()) == 9
    assert out.endswith("no problem found\n")
    page = write_report(run).read_text(encoding="utf-8")
    assert "None of the 9 that this run can be judged by" in page
    assert 'class="notice"><strong>' not in page


def test_without_a_test_nothing_is_judged(medvl: Run, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    status, out, _ = medvl(f"doctor {run}")
    assert status == 0
    assert f"medvl test --run {run}" in out
    assert diagnose(Evidence()) == []


def test_volumes_are_read_alike(tmp_path: Path) -> None:
    image, text = by_class()
    rows = [
        ScanResult(
            f"{i}.nii.gz", f"s{i}", f"p{i}", True, i, image[i], text[i], {"a": 1.0, f"b{i % 6}": 1.0, "c": 0.0}, {}
        )
        for i in range(STUDIES)
    ]
    rows.append(replace(rows[0], volume="x.nii.gz", report=None, text=None))
    write_scans(tmp_path / "predictions/volumes.parquet", rows)
    assert len(Evidence.of(tmp_path).image) == 0  # no loss has aligned them
    log(tmp_path, {"contrastive": 1.0})
    seen = Evidence.of(tmp_path)
    np.testing.assert_allclose(seen.image, image.numpy(), atol=1e-6)
    assert seen.shows[7] == {"a", "b1"}
    assert [one.name for one in diagnose(seen) if one.severity != "healthy"] == ["over-separated classes"]


def test_effective_rank_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert effective_rank(turn) == pytest.approx(8)
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1)
    values = np.array([4.0, 2.0, 1.0, 1.0])
    shares = values / 8
    expected = np.prod(shares**-shares)  # the exponential of the entropy
    assert effective_rank(turn[:, :4] * values @ turn[:4, :]) == pytest.approx(expected)


def test_partners_are_compared_with_strangers_only() -> None:
    image, text = (part.double().numpy() for part in paired())
    seen = Evidence(
        image=image, text=text, said=tuple(i // 2 for i in range(STUDIES)), shows=(frozenset("a"),) * STUDIES
    )
    found = unrelated(seen)
    wins = [
        image[i] @ text[i] > other
        for i in range(STUDIES)
        for j in range(STUDIES)
        if i // 2 != j // 2
        for other in (image[i] @ text[j], image[j] @ text[i])
    ]
    assert found is not None
    assert f"in {np.mean(wins):.0%} of comparisons" in found.evidence
    assert over_separated(replace(seen, shows=(frozenset(),) * STUDIES)) is None
    assert unrelated(replace(seen, said=(1,) * STUDIES)) is None
    assert unrelated(replace(seen, image=image[:10], text=text[:10], said=seen.said[:10])) is None


def test_what_test_left_may_be_damaged(medvl: Run, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    healthy(run)
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text() + '{"stage": "test", "test/n_a')
    assert Evidence.of(run).metrics["n_acc"] == 1
    for damage in ("{", "[" * 100_000, '{"image": {"answers": 3}}'):
        (run / "predictions/permuted.json").write_text(damage)
        with pytest.raises(DataError, match="not readable as test left it"):
            Evidence.of(run)
    status, _, error = medvl(f"doctor {run}")
    assert (status, len(error.splitlines())) == (2, 3)


def test_the_most_frequent_answer_is_counted() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.2, 0.1], [0.6, 0.5], [0.7, 0.2]])
    multiclass, multilabel = ZeroShotClassification("ab"), ZeroShotClassification("ab", "multilabel")
    multiclass.update(scores, torch.tensor([0, 1, 0, 1, 0]))
    multilabel.update(scores, torch.ones(5, 2))
    assert multiclass.compute()["same_answer"] == 1
    assert multilabel.compute()["same_answer"] == pytest.approx(2 / 5)  # the sets are a, ab, none, ab, a
    nobody = ZeroShotClassification("ab", "multilabel")
    nobody.update(scores[:0], torch.ones(0, 2))
    assert nobody.compute()["same_answer"].isnan()
