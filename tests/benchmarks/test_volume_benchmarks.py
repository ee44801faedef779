"""Volume benchmarks: priors, comparisons and pools beside plain counts, and one run of two steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmarks import harness, volume_joint, volume_localization
from benchmarks.training import call, films
from benchmarks.volume_joint import Arm, pooled_recall
from benchmarks.volume_scores import Compared, in_the_organ
from datamodules.twins.mimic_cxr import FACTORS
from medvl.cli.lightning import MedvlCLI
from tasks.volume.judged import in_the_middle
from tasks.volume.predictions import SnippetResult
from tasks.volume.scans import ScanResult


def snippets(count: int = 60, spread: float = 20.0, seed: int = 0) -> list[SnippetResult]:
    """Answers about as far off as `spread` says, of patients with three snippets each, a quarter of them absent."""
    rng, own, found = np.random.default_rng(0), np.random.default_rng(seed), []
    for i in range(count):
        low = float(rng.uniform(-300, 0))
        gold = ((low, low + 10.0, 1.0),) if i % 4 else ()
        mm, present = low + float(own.normal(0, spread)), float(own.uniform(0.6, 1) if gold else own.uniform(0, 0.7))
        volume = f"valid_fixed/valid_{i // 3}/valid_{i // 3}_a/valid_{i // 3}_a_1.nii.gz"
        found.append(
            SnippetResult(volume, f"t{i}", mm, mm, mm, present, (), gold, (-330.0, 30.0), "lung", "x", f"p{i // 3}")
        )
    return found


def test_ours_is_held_against_the_strictest_peer() -> None:
    runs = {
        "ours": [snippets(spread=10, seed=1), snippets(spread=10, seed=2)],
        "far": [snippets(spread=60, seed=3)],
        "near": [snippets(spread=30, seed=4)],
    }
    runs["silent"] = [[replace(one, mm=0.0, present=0.0) for one in runs["ours"][0]]]
    found = Compared.of(runs, draws=200)
    assert found.peers[0] == "near"
    errors = [
        np.mean([max(one.gold[0][0] - one.mm, one.mm - one.gold[0][1], 0) for one in run if one.gold])
        for run in (*runs["ours"], runs["near"][0])
    ]
    assert found.always_ratio.mean == pytest.approx(np.mean(errors[:2]) / errors[2])
    assert found.ratio.mean >= found.always_ratio.mean
    assert found.ratio.low < found.ratio.mean < found.ratio.high
    assert found.row("silent")["mae_mm"] == found.metrics["silent"]["always/mae"].mean
    assert found.row("ours")["absent_auroc"] > 0.9
    assert set(found.breakdown("organ")["lung"]) == set(runs)
    assert found.markdown().count("\n") == 6
    with pytest.raises(ValueError, match="other snippets"):
        Compared.of(runs | {"far": [snippets(48)]})


def test_the_anatomy_prior_answers_the_named_organ(tmp_path: Path) -> None:
    given = [replace(one, organ="kidney") for one in snippets(6)]
    lines = []
    for volume in sorted({one.volume for one in given}):
        name = Path(volume).name.removesuffix(".nii.gz")
        organs = {"kidney": [-200, -100], "left_kidney": [-140, -100]} if "valid_0" in name else {}
        sides = [{"text": one.snippet, "claim": {"side": "left" if one.snippet == "t1" else ""}} for one in given]
        lines.append(json.dumps({"volumes": [name, "other"], "organs": organs, "snippets": sides}))
    (tmp_path / FACTORS).write_text("\n".join(lines))
    found = in_the_organ(given, tmp_path)
    assert [one.mm for one in found] == [
        -150,
        -120,
        -150,
        -150,
        -150,
        -150,
    ]  # of the second scan, the middle: no kidney
    assert [one.mm for one in in_the_middle(given)] == [-150] * 6
    assert {one.present for one in found} == {1.0}


def test_a_pool_is_the_mean_over_pools_drawn() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(40, 40)) + np.eye(40)
    found = pooled_recall(similarity, 3, 10)
    own = np.diag(similarity)
    for query in range(0, 40, 7):
        others = np.delete(similarity[query], query)
        drawn = [(rng.choice(others, 9, replace=False) > own[query]).sum() < 3 for _ in range(3000)]
        assert found[query] == pytest.approx(np.mean(drawn), abs=0.04)
    whole = (similarity > own[:, None]).sum(axis=1) < 3
    np.testing.assert_array_equal(pooled_recall(similarity, 3, 100), whole)
    assert pooled_recall(np.ones((40, 40)), 10, 40).mean() == 0  # 19 of 39 equals come before


def scans(noise: float, seed: int, count: int = 30) -> list[ScanResult]:
    rng, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    reports = normalize(torch.randn(count, 6, generator=rng), dim=1)
    labels = (torch.rand(count, 3, generator=rng) < 0.4).float()
    labels[:, 2] = 0.0
    vectors = normalize(reports + noise * torch.randn(count, 6, generator=own), dim=1)
    scores = labels + noise * torch.randn(count, 3, generator=own)
    names = ("a", "b", "c")
    return [
        ScanResult(
            f"v{i}", f"s{i}", f"p{i // 2}", True, i, vectors[i], reports[i],
            dict(zip(names, labels[i].tolist(), strict=True)), dict(zip(names, scores[i].tolist(), strict=True)),
        )
        for i in range(count)
    ]  # fmt: skip


def test_arms_are_averaged_over_seeds_and_ways() -> None:
    runs = [scans(0.8, seed) for seed in (1, 2)]
    arm = Arm.of(runs, pool=1000)
    recall, areas = [], []
    for run in runs:
        similarity = torch.stack([one.vector for one in run]) @ torch.stack([one.report for one in run]).T  # type: ignore[misc]
        for part in (similarity, similarity.T):
            recall.append(((part > part.diagonal()[:, None]).sum(dim=1) < 5).double().mean())
        for name in ("a", "b"):  # nobody has c
            gold, scores = (torch.tensor([getattr(one, key)[name] for one in run]) for key in ("labels", "scores"))
            areas.append((scores[gold == 1][:, None] > scores[gold == 0]).double().mean())
    found = arm.statistics(np.ones((1, 30)))[0]
    assert found[1] == pytest.approx(float(np.mean(recall)))
    assert found[-1] == pytest.approx(float(np.mean(areas)))
    with pytest.raises(ValueError, match="other volumes"):
        Arm.of([runs[0], runs[1][::-1]], pool=10)


def test_differences_are_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    same, worse = Arm.of([scans(0.5, 1)], pool=20), Arm.of([scans(2.0, 1)], pool=20)
    patients = [one.patient for one in scans(0.5, 1)]
    equal = volume_joint.write({"with": same, "without": same}, patients, 0, {"pool": 20})
    assert equal["r10_difference"] == equal["auc_difference_low"] == 0
    lost = volume_joint.write({"with": worse, "without": same}, patients, 0, {"pool": 20})
    assert lost["auc_difference_low"] < lost["auc_difference"] < 0
    assert lost["auc_difference"] == pytest.approx(100 * (lost["ours"]["auc"] - same_auc(equal)), abs=0.1)
    assert (tmp_path / "volume-joint.png").stat().st_size > 1000


def same_auc(result: dict[str, dict[str, dict[str, float]]]) -> float:
    return result["peers"]["without"]["auc"]


def test_methods_take_away_what_their_names_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[MedvlCLI] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setattr(MedvlCLI, "_run_subcommand", lambda cli, subcommand: begun.append(cli))  # nothing is trained
    call("data", "twin", "ct-rate", "twin", *films(10, 0, 32))
    for options in volume_localization.METHODS.values():
        call("fit", *volume_localization.RECIPE, "--data.source.root", "twin", *options)
    found = dict(zip(volume_localization.METHODS, begun, strict=True))
    blind = {name: cli.datamodule.blind for name, cli in found.items()}
    assert blind == {"ours": "none", "text-only": "image", "image-only": "text", "global-embedding": "none"}
    told = {name: (cli.model.weights["depth"] > 0, cli.model.model.depth_heads) for name, cli in found.items()}
    own = (True, "own")
    assert told == {"ours": own, "text-only": own, "image-only": own, "global-embedding": (False, "global")}


def test_both_benchmarks_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setattr(volume_localization, "TEMPERATURES", (0.1,))
    for name in ("text-only", "image-only"):
        monkeypatch.delitem(volume_localization.METHODS, name)
    monkeypatch.setattr(volume_localization, "RECIPE", (*volume_localization.RECIPE, "--data.spacing", "[10, 10, 10]"))
    budget = {"seeds": 1, "steps": 1, "studies": 14, "test_studies": 10, "size": 40, "keep": str(tmp_path / "keep")}
    result = volume_localization.run(**budget)  # type: ignore[arg-type]
    assert set(result["peers"]) == {"global-embedding", "anatomy", "middle", "random"}
    assert {"mae_mm", "median_mm", "within_12_mm", "within_24_mm", "absent_auroc", "ratio"} <= result.keys()
    assert result["ratio"] > 0
    joint = volume_joint.run(**budget, pool=5)  # type: ignore[arg-type]
    assert joint["n"] == 10
    assert (tmp_path / "results" / "volume-localization.png").stat().st_size > 1000
    assert len(list((tmp_path / "keep" / "runs").iterdir())) == 2  # the second benchmark trained nothing
