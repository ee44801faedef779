"""Named protocols of CT models, beside plain counts; and depth errors over seeds, beside the metric of one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.sources import rad_chestct
from datamodules.sources.ct_rate_tables import CLASSES as CT_RATE_CLASSES
from medvl.errors import ConfigError
from medvl.metrics.localisation import LocalisationMetrics
from medvl.relevance import same_set, share_any
from tasks.volume.judged import Judged, anywhere, in_the_middle
from tasks.volume.predictions import SnippetResult
from tasks.volume.protocols import CLASSES, CTRATE_18, NAMES, Protocols, diseases, retrieval, similar
from tasks.volume.scans import ScanResult, StepResults, read_scans, write_scans

WIDTH = 8


def scans(studies: int = 40, seed: int = 0) -> list[ScanResult]:
    """Studies of 30 patients, every fourth with two reconstructions, every fifth with the report of the one before."""
    rng = torch.Generator().manual_seed(seed)
    found: list[ScanResult] = []
    texts = [i - (i % 5 == 4) for i in range(studies)]
    reports = normalize(torch.randn(studies, WIDTH, generator=rng), dim=1)
    for i in range(studies):
        labels = {name: float(torch.rand((), generator=rng) < 0.15) for name in CTRATE_18}
        for number in range(1 + (i % 4 == 0)):
            vector = normalize(reports[i] + 0.6 * torch.randn(WIDTH, generator=rng), dim=0)
            place = f"s{i:02d}_{number}"
            report = reports[texts[i]]
            found.append(ScanResult(place, f"s{i}", f"p{i % 30}", number == 0, texts[i], vector, report, labels, {}))
    return found


def recall(similarity: np.ndarray, right: np.ndarray, k: int) -> float:
    """Share of rows of which one of the K best is right; no ties."""
    order = np.argsort(-similarity, axis=1)[:, :k]
    return float(np.take_along_axis(right, order, axis=1).any(axis=1).mean())


def test_retrieval_of_first_reconstructions() -> None:
    every = scans()
    rows = [one for one in every if one.first]
    # Without equal reports every text is met once, so that no tie has to be broken.
    alone = [replace(one, report=normalize(one.report + 0.01 * i, dim=0)) for i, one in enumerate(rows)]  # type: ignore[operator, arg-type]
    found = retrieval([*alone, *(one for one in every if not one.first)], "first", draws=50)
    cosines = (torch.stack([one.vector for one in alone]) @ torch.stack([one.report for one in alone]).T).numpy()  # type: ignore[misc]
    own = np.eye(len(alone), dtype=bool)
    assert found["volumes"].mean == 40
    for k in (5, 10):
        assert found[f"i2t/r@{k}"].mean == pytest.approx(recall(cosines, own, k))
        assert found[f"t2i/r@{k}"].mean == pytest.approx(recall(cosines.T, own, k))
        assert found[f"t2i/chance@{k}"].mean == pytest.approx(k / 40)
        assert found[f"i2t/r@{k}"].low <= found[f"i2t/r@{k}"].mean <= found[f"i2t/r@{k}"].high


def test_equal_reports_are_one_in_dedup_and_a_tie_in_first() -> None:
    every = scans()
    first, dedup = (retrieval(every, kind, draws=50) for kind in ("first", "dedup"))
    assert (first["texts"].mean, dedup["texts"].mean) == (40, 32)
    rows = [one for one in every if one.first]
    texts = sorted({one.text for one in rows}, key=str)
    image = torch.stack([one.vector for one in rows])
    text = torch.stack([next(one.report for one in rows if one.text == t and one.report is not None) for t in texts])
    right = np.array([[one.text == t for t in texts] for one in rows])
    assert dedup["i2t/r@5"].mean == pytest.approx(recall((image @ text.T).numpy(), right, 5))
    assert dedup["t2i/r@5"].mean == pytest.approx(recall((text @ image.T).numpy(), right.T, 5))
    assert first["i2t/r@5"].mean < dedup["i2t/r@5"].mean


def test_all_reconstructions_ask_for_their_own_row() -> None:
    every = scans()
    found = retrieval(every, "all", draws=50)
    assert found["volumes"].mean == found["texts"].mean == len(every) == 50
    image, text = torch.stack([one.vector for one in every]), torch.stack([one.report for one in every])  # type: ignore[misc]
    draws = []
    for seed in range(200):  # ties in a random order
        order = torch.randperm(50, generator=torch.Generator().manual_seed(seed)).numpy()
        cosines = (image @ text.T).numpy()[:, order]
        ranked = order[np.argsort(-cosines, axis=1, kind="stable")[:, :5]]
        draws.append((ranked == np.arange(50)[:, None]).any(axis=1).mean())
    assert found["i2t/r@5"].mean == pytest.approx(np.mean(draws), abs=0.02)


@pytest.mark.parametrize(("name", "rule"), [("any", share_any), ("exact", same_set)])
def test_volumes_find_volumes(name: str, rule: object) -> None:
    few = CTRATE_18[:3]
    every = [
        replace(one, labels={name: float(i >> at & 1) for at, name in enumerate(few)})
        for i, one in enumerate(scans(60))
    ]
    found = similar(every, rule, draws=50)  # type: ignore[arg-type]
    rows = [one for one in every if one.first and any(one.labels.values())]
    vectors, sets = [one.vector for one in rows], [{k for k, v in one.labels.items() if v} for one in rows]
    values = []
    for query in range(len(rows)):
        others = [other for other in range(len(rows)) if other != query]
        others.sort(key=lambda other: -float(vectors[query] @ vectors[other]))
        hits = total = 0.0
        for place, other in enumerate(others[:10], start=1):
            if sets[query] & sets[other] if name == "any" else sets[query] == sets[other]:
                hits += 1
                total += hits / place
        values.append(total / 10)
    assert found["map@10"].mean == pytest.approx(np.mean(values), abs=1e-6)
    assert 0 < found["map@10"].mean < 1


def prompts(names: object) -> tuple[Tensor, Tensor]:
    vectors = torch.randn(2, 18, WIDTH, generator=torch.Generator().manual_seed(5))
    assert tuple(names) == CTRATE_18  # type: ignore[arg-type]
    return vectors[0], vectors[1]


def test_calcifications_are_one_class_of_sixteen_and_two_of_fifteen() -> None:
    every = [
        replace(one, labels={name: float(i % 3 == at % 3) for at, name in enumerate(rad_chestct.CLASSES)})
        for i, one in enumerate(scans())
    ]
    rows = [one for one in every if one.first]
    positive, negative = prompts(CTRATE_18)
    margins = torch.stack([one.vector for one in rows]) @ (positive - negative).T
    gold = np.array([one.labels["Calcification"] for one in rows]) == 1
    one, other = (
        margins[:, CTRATE_18.index(f"{name} wall calcification")].numpy() for name in ("Arterial", "Coronary artery")
    )

    def area(scores: np.ndarray) -> float:
        return float((scores[gold][:, None] > scores[~gold]).mean())

    sixteen, fifteen = (diseases(every, CLASSES[f"radchestct/{n}"], prompts, draws=20) for n in (16, 15))
    assert sixteen["auc/Calcification"].mean == pytest.approx(area(np.maximum(one, other)))
    assert fifteen["auc/Arterial wall calcification"].mean == pytest.approx(area(one))
    assert fifteen["auc/Coronary artery wall calcification"].mean == pytest.approx(area(other))
    assert (sixteen["classes"].mean, fifteen["classes"].mean) == (16, 15)
    for found, count in ((sixteen, 16), (fifteen, 15)):
        areas = [interval.mean for key, interval in found.items() if key.startswith("auc/")]
        assert found["auc"].mean == pytest.approx(np.mean(areas))
        assert len(areas) == count


def test_uncertain_labels_and_classes_without_both_answers_do_not_count() -> None:
    every = [
        replace(one, labels=dict.fromkeys(CTRATE_18, 0.0) | {"Emphysema": float(i % 2), "Lung nodule": -1.0})
        for i, one in enumerate(scans())
    ]
    every[0] = replace(every[0], labels=every[0].labels | {"Lung nodule": 1.0, "Emphysema": float("nan")})
    found = diseases(every, CLASSES["ctrate/auc18"], prompts, draws=20)
    assert [key for key in found if key.startswith("auc/")] == ["auc/Emphysema"]
    assert found["classes"].mean == 1


def test_classes_are_those_of_the_sources() -> None:
    assert set(CTRATE_18) == set(CT_RATE_CLASSES)
    for name, count in (("ctrate/auc18", 18), ("radchestct/16", 16), ("radchestct/15", 15)):
        labels = {label for label, _ in CLASSES[name].values()}
        assert len(CLASSES[name]) == count
        assert labels <= set(CT_RATE_CLASSES if name == "ctrate/auc18" else rad_chestct.CLASSES)


def snippets(seed: int, count: int = 60) -> list[SnippetResult]:
    """Answers that differ by seed about snippets that do not."""
    rng, own = np.random.default_rng(0), np.random.default_rng(seed + 1)
    found = []
    for i in range(count):
        scan = (float(rng.uniform(-400, -300)), float(rng.uniform(-50, 50)))
        low = float(rng.uniform(*scan))
        gold = ((low, min(low + float(rng.uniform(2, 70)), scan[1]), 1.0),) if i % 4 else ()
        mm, present = float(own.uniform(*scan)), float(own.random())
        organ = ("lung", "liver")[i % 2]
        found.append(
            SnippetResult(f"v{i // 3}", "text", mm, mm, mm, present, (), gold, scan, organ, "nodule", f"p{i // 6}")
        )
    return found


def reference(results: list[SnippetResult], threshold: float) -> dict[str, float]:
    metric = LocalisationMetrics(threshold)
    metric.update(
        torch.tensor([one.mm for one in results]),
        torch.tensor([one.present for one in results]),
        [torch.tensor(one.gold).reshape(-1, 3) for one in results],
        torch.tensor([one.scan for one in results]),
        torch.tensor([int(one.volume[1:]) for one in results]),
    )
    return {name: float(value) for name, value in metric.compute().items()}


def test_depth_errors_are_those_of_the_metric_averaged_over_seeds() -> None:
    runs = [snippets(seed) for seed in range(3)]
    found = Judged.of(*runs).figures(draws=100)
    silent, always = ([reference(run, threshold) for run in runs] for threshold in (0.5, 0.0))
    for name in ("mae", "median", "within_12", "within_24", "mae_scans", "abstained", "denied_absent", "auroc_absent"):
        expected = np.mean([one[name] for one in silent])
        assert found[name].mean == pytest.approx(expected, rel=1e-4), name
        assert found[name].low <= found[name].mean <= found[name].high
    for name in ("mae", "median", "within_12", "within_24"):
        assert found[f"always/{name}"].mean == pytest.approx(np.mean([one[name] for one in always]), rel=1e-4), name
    absent = [one.present < 0.5 for run in runs for one in run if not one.gold]
    assert found["denied_absent"].mean == pytest.approx(sum(absent) / len(absent))
    with pytest.raises(ValueError, match="other snippets"):
        Judged.of(runs[0], runs[1][::-1])


def test_scans_of_several_data_sets_may_share_a_name() -> None:
    alone = replace(snippets(0)[1], gold=((-200.0, -200.0, 1.0),), scan=(-400.0, 0.0), present=1.0)
    answers = {"p0": [-200.0, -170.0, -140.0], "p1": [-100.0]}  # 0, 30 and 60 mm off; 100 mm off
    rows = [replace(alone, patient=patient, mm=mm) for patient, found in answers.items() for mm in found]
    found = Judged.of(rows).figures(draws=10)
    assert found["mae_scans"].mean == pytest.approx((30 + 100) / 2)
    assert found["mae"].mean == pytest.approx((0 + 30 + 60 + 100) / 4)


def figures(name: str, tested: list[StepResults]) -> dict[str, float]:
    measured = Protocols([name], draws=400)
    measured.tested = tested
    return {key.removeprefix(f"{name}/"): value for key, value in measured.measure(prompts).items()}


def width(found: dict[str, float], key: str) -> float:
    return found[f"{key}/high"] - found[f"{key}/low"]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("ctrate/retrieval/first", ("i2t/r@10", "t2i/r@10")),
        ("ctrate/retrieval/all", ("i2t/r@10", "t2i/r@10")),
        ("ctrate/retrieval/dedup", ("i2t/r@10",)),  # what is asked of a report is asked once
        ("ctrate/auc18", ("auc",)),
        ("ctrate/map/any", ("map@10",)),
        ("ctrate/map/exact", ("map@10",)),
        ("radchestct/16", ("auc",)),
        ("radchestct/15", ("auc",)),
        ("localisation", ("mae", "median", "always/mae", "mae_scans", "abstained", "denied_absent", "auroc_absent")),
    ],
)
def test_intervals_resample_patients(name: str, keys: tuple[str, ...]) -> None:
    labels = [{label: float(i % 3 == at % 3) for at, label in enumerate(rad_chestct.CLASSES)} for i in range(3)]
    rows = [replace(one, patient=one.study, labels=one.labels | labels[int(one.study[1:]) % 3]) for one in scans()]
    again = [replace(one, volume=f"{one.volume}+", study=f"{one.study}+") for one in rows]
    said = [replace(one, patient=f"p{i}", volume=f"v{i}") for i, one in enumerate(snippets(0, 120))]
    more = [replace(one, volume=f"{one.volume}+") for one in said]
    once = figures(name, [StepResults(said, rows)])
    twice = figures(name, [StepResults([*said, *more], [*rows, *again])])
    # The same rows as if each were of a patient of its own: what comes of drawing snippets or volumes.
    loose = [replace(one, patient=f"{one.patient}+") for one in more]
    wrong = figures(name, [StepResults([*said, *loose], [*rows, *(replace(one, patient=one.study) for one in again)])])
    for key in keys:
        assert twice[key] == pytest.approx(wrong[key]), key
        assert 1.2 < width(twice, key) / width(wrong, key) < 2, key  # about the square root of two
        if name in ("ctrate/auc18", "radchestct/16", "radchestct/15", "localisation"):  # others find what was added
            assert twice[key] == pytest.approx(once[key]), key
            assert width(twice, key) == pytest.approx(width(once, key)), key


def test_breakdowns_cover_every_shown_snippet_once() -> None:
    results = snippets(0)
    found = Judged.of(results).figures(draws=20)
    shown = [one for one in results if one.gold]
    for kind, key in (("organ", lambda one: one.organ), ("size", lambda one: one.gold[0][1] - one.gold[0][0])):
        total = 0.0
        for name in {name for name in found if name.startswith(f"{kind}/") and name.endswith("/mae")}:
            group = name.split("/")[1]
            edges = {"under_12": (0, 12), "12_to_24": (12, 24), "24_to_48": (24, 48), "over_48": (48, 1e9)}
            low, high = edges.get(group, (0, 0))
            own = [one for one in shown if (key(one) == group if kind == "organ" else low <= key(one) < high)]
            assert found[name].mean == pytest.approx(reference(own, 0.5)["mae"], rel=1e-4)
            total += found[name].mean * len(own)
        assert total / len(shown) == pytest.approx(found["mae"].mean)


def test_a_coarse_grid_moves_answers_to_its_middles() -> None:
    one = replace(snippets(0)[1], mm=-95.0, scan=(-100.0, 20.0), gold=((-95.0, -95.0, 1.0),), present=1.0)
    found = Judged.of([one]).means
    assert found["mae"] == 0
    assert [float(found[f"mae@{step}mm"][0]) for step in (3, 6, 12, 24)] == pytest.approx([0.5, 2.0, 1.0, 7.0])


def test_priors_do_not_look() -> None:
    results = snippets(0)
    assert all(one.mm == pytest.approx(sum(one.scan) / 2) for one in in_the_middle(results))
    drawn = anywhere(results, 0)
    assert all(one.scan[0] <= one.mm <= one.scan[1] for one in drawn)
    assert Judged.of(drawn).figures(draws=10)["auroc_absent"].mean == 0.5
    assert [one.mm for one in drawn] != [one.mm for one in anywhere(results, 1)]


def test_every_protocol_has_figures_and_starts_anew() -> None:
    every = [replace(one, labels=one.labels | {"Calcification": float(i % 2)}) for i, one in enumerate(scans())]
    measured = Protocols(NAMES, draws=20)
    measured.check(SimpleNamespace(label_names=(*CTRATE_18, "Calcification"), several="each"))
    measured.add(StepResults(snippets(0), every[:20]))
    measured.add(StepResults(snippets(1), every[20:]))
    found = measured.measure(prompts)
    for name in NAMES:
        assert any(key.startswith(f"{name}/") and key.endswith("/low") for key in found), name
    assert found["localisation/middle/mae"] > 0
    assert measured.tested == []
    assert Protocols(()).measure(prompts) == {}


def test_a_name_stands_for_all_that_begin_with_it() -> None:
    assert Protocols(["radchestct", "localisation", "radchestct/16"]).names == (
        "radchestct/16",
        "radchestct/15",
        "localisation",
    )
    assert len(Protocols(["ctrate"]).names) == 6


@pytest.mark.parametrize(
    ("names", "data", "message"),
    [
        (["ctrate/auc"], {}, "no protocol 'ctrate/auc'"),
        (["radchestct/16"], {"label_names": ()}, "needs labels"),
        (["ctrate/map/any"], {"label_names": ("x",)}, "needs labels"),
        (["ctrate/retrieval/all"], {"several": "first"}, "every reconstruction"),
    ],
)
def test_what_cannot_be_measured_is_said_first(names: list[str], data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Protocols(names).check(SimpleNamespace(**data))


def test_scans_are_read_as_they_were_written(tmp_path: Path) -> None:
    given = [replace(one, scores={"Emphysema": 0.5}) for one in scans(6)]
    given[1] = replace(given[1], report=None, text=None, scores={})
    write_scans(tmp_path / "volumes.parquet", given)
    read = read_scans(tmp_path / "volumes.parquet")
    assert [one.volume for one in read] == [one.volume for one in given]
    assert (read[1].report, read[1].text, read[1].scores) == (None, None, {})
    for one, other in zip(read, given, strict=True):
        torch.testing.assert_close(one.vector, other.vector)
        assert one.labels == pytest.approx(other.labels)
        assert (one.first, one.study, one.text) == (other.first, other.study, other.text)
    assert len({one.patient for one in read}) == len({one.patient for one in given})
    assert not {one.patient for one in read} & {one.patient for one in given}
