"""`medvl compare`: lines paired, patients resampled together, figures those of the metrics, refusals with counts."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medvl.cli.main import main
from medvl.errors import DataError
from medvl.metrics import FROC, BoxCalibrationError, GroundingMetrics, PhraseMeanAP, RoDeO, SetF1, paired_bootstrap
from medvl.metrics.bootstrap import bootstrap_statistics
from medvl.metrics.comparison import Row, compare
from medvl.metrics.pairing import pair
from medvl.outputs import PhrasePrediction, read_predictions, write_predictions

KINDS = ("negated", "absent")


def make_lines(noise: float, seed: int, salt: str = "a", count: int = 160) -> list[PhrasePrediction]:
    """Lines of 40 patients, the same sentences and gold for every seed; answers are worse with more noise."""
    truth, rng = np.random.default_rng(0), np.random.default_rng(seed)
    lines = []
    for i in range(count):
        low = truth.uniform(0, 500, (i % 4 if i % 4 < 3 else 0, 2))
        gold = np.concatenate([low, low + truth.uniform(80, 300, low.shape)], axis=1)
        near = np.sort((gold + rng.normal(0, noise, gold.shape)).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        far = np.sort(rng.uniform(0, 900, (3, 2, 2)), axis=1).reshape(-1, 4)
        boxes = np.concatenate([near, far])
        scores = np.concatenate([rng.uniform(0.4, 1, len(near)), rng.uniform(0, 0.55, 3)])
        keep = scores > 0.5
        lines.append(
            PhrasePrediction(
                image=f"{i // 2}.png",
                phrase=f"sentence {i % 2}",
                boxes_xyxy_px=tuple(map(tuple, boxes[keep].tolist())),
                scores=tuple(scores[keep].tolist()),
                threshold=0.5,
                kind="boxed" if len(gold) else KINDS[i // 4 % 2],
                patient=f"{salt}{i // 4}",
                gold_xyxy_px=tuple(map(tuple, gold.tolist())),
                all_boxes_xyxy_px=tuple(map(tuple, boxes.tolist())),
                all_scores=tuple(scores.tolist()),
                groups={"sex": "FM"[i // 4 % 2], "scanner": f"s{i // 4 // 39}"},
            )
        )
    return lines


def rows_of(first: list[PhrasePrediction], second: list[PhrasePrediction], n: int = 300) -> dict[tuple[str, str], Row]:
    return {(row.metric, row.group): row for row in compare(pair(first, second), n=n)}


def test_values_are_those_of_the_metrics() -> None:
    lines = make_lines(25, 1)
    rows = rows_of(lines, make_lines(60, 2, "b"), n=20)
    kept = [{"boxes": torch.tensor(o.boxes_xyxy_px).reshape(-1, 4), "scores": torch.tensor(o.scores)} for o in lines]
    every = [{"boxes": torch.tensor(o.all_boxes_xyxy_px), "scores": torch.tensor(o.all_scores)} for o in lines]
    gold = [{"boxes": torch.tensor(o.gold_xyxy_px).reshape(-1, 4)} for o in lines]
    expected = {}
    for metric, preds in (
        (GroundingMetrics(), kept), (SetF1(), kept), (RoDeO(), kept), (FROC(), every), (PhraseMeanAP(), every),
        (BoxCalibrationError(), every),
    ):  # fmt: skip
        metric.update(preds, gold)
        expected |= {name: value.item() for name, value in metric.compute().items()}
    expected["ap_50"] = expected["map_50"]
    compared = {metric: row.first.mean for (metric, group), row in rows.items() if not group}
    assert set(compared) - set(expected) == {"n_acc/absent", "n_acc/negated"}
    assert len(compared) > 18
    for name in set(compared) & set(expected):
        # torchmetrics reads recall off at float32 hundredths
        assert compared[name] == pytest.approx(expected[name], abs=1e-3 if name == "ap_50" else 1e-5), name


def test_intervals_are_those_of_the_paired_bootstrap() -> None:
    first, second = make_lines(25, 1), make_lines(60, 2, "b")
    pairs = pair(first, second)
    row = rows_of(first, second)["p_at_f1", ""]
    right = []
    for lines in (pairs.first, pairs.second):
        metric = [one_right(line) for line in lines]
        right.append(metric)
    expected = paired_bootstrap(right[1], right[0], [line.patient for line in first], n=300)
    assert row.difference == pytest.approx(expected)
    assert row.difference.mean == pytest.approx(row.second.mean - row.first.mean)
    assert row.verdict == "worse"


def one_right(line: PhrasePrediction) -> float:
    metric = GroundingMetrics()
    kept = {"boxes": torch.tensor(line.boxes_xyxy_px).reshape(-1, 4), "scores": torch.tensor(line.scores)}
    metric.update([kept], [{"boxes": torch.tensor(line.gold_xyxy_px).reshape(-1, 4)}])
    return metric.compute()["p_at_f1"].item()


def test_better_worse_and_no_difference() -> None:
    good, bad = make_lines(5, 1), make_lines(80, 2, "b")
    assert rows_of(bad, good)["miou", ""].verdict == "better"
    assert rows_of(good, bad)["froc/mean", ""].verdict == "worse"
    same = rows_of(good, make_lines(5, 1, "other salt"))
    assert {row.verdict for row in same.values() if row.patients > 1} == {"no difference"}
    assert same["miou", ""].difference == (0, 0, 0)
    loud = [dataclasses.replace(o, all_scores=tuple(min(s + 0.4, 1.0) for s in o.all_scores)) for o in good]
    lower = rows_of(loud, good)["ece", ""]
    assert lower.difference.high < 0
    assert lower.verdict == "better"  # the lower, the better


def test_salt_and_order_of_the_lines_do_not_matter() -> None:
    first, second = make_lines(25, 1), make_lines(60, 2, "b")
    whole = rows_of(first, second)
    order = np.random.default_rng(0).permutation(len(second))
    shuffled = rows_of(first, [second[i] for i in order])
    assert all(whole[key] == row or math.isnan(row.difference.low) for key, row in shuffled.items())


def test_groups_are_rows() -> None:
    rows = rows_of(make_lines(25, 1), make_lines(60, 2, "b"))
    women = [line for line in make_lines(25, 1) if line.groups["sex"] == "F"]
    expected = np.mean([one_right(line) for line in women if line.gold_xyxy_px])
    row = rows["p_at_f1/boxed", "sex=F"]
    assert row.first.mean == pytest.approx(expected)
    assert row.patients == 20
    alone = rows["miou", "scanner=s1"]  # one patient: a value, and no claim about others
    assert alone.patients == 1
    assert not math.isnan(alone.first.mean)
    assert math.isnan(alone.difference.low)
    assert alone.verdict == "-"


def test_files_without_every_box_are_compared_without_ranking() -> None:
    first = [dataclasses.replace(o, all_boxes_xyxy_px=(), all_scores=()) for o in make_lines(25, 1)]
    names = {metric for metric, _ in rows_of(first, make_lines(60, 2, "b"), n=20)}
    assert "miou" in names
    assert not names & {"froc/mean", "ap_50", "ece"}


def test_gold_kind_patient_and_groups_may_be_in_one_file_only() -> None:
    first, second = make_lines(25, 1), make_lines(60, 2, "b")
    bare = [dataclasses.replace(o, gold_xyxy_px=None, kind="", patient="", groups={}) for o in second]
    whole, partly = rows_of(first, second, n=50), rows_of(first, bare, n=50)
    assert whole.keys() == partly.keys()
    assert partly["p_at_f1", ""] == whole["p_at_f1", ""]
    nobody = pair([dataclasses.replace(o, patient="") for o in first], bare)
    assert nobody.by_image == 160
    assert len(set(nobody.patients)) == 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-3], r"157 in both, 3 only in the first, 0 only in the second; --shared"),
        (lambda lines: [dataclasses.replace(o, image="x" + o.image) for o in lines], r"0 in both.*must agree"),
        (lambda lines: [dataclasses.replace(o, gold_xyxy_px=((1.0, 1, 5, 5),)) for o in lines], r"160 of 160 .*other"),
        (lambda lines: [dataclasses.replace(o, patient=f"p{i % 7}") for i, o in enumerate(lines)], r"part the sent"),
    ],
)
def test_files_that_do_not_fit_are_refused_with_counts(change, message: str) -> None:
    lines = make_lines(25, 1)
    with pytest.raises(DataError, match=message) as refusal:
        pair(lines, change(lines), where="a | b")
    assert len(str(refusal.value).splitlines()) <= 4


def test_no_gold_anywhere_is_refused() -> None:
    lines = [dataclasses.replace(line, gold_xyxy_px=None) for line in make_lines(25, 1)]
    with pytest.raises(DataError, match="160 of 160 sentences have no gold"):
        pair(lines, lines)


def test_a_sentence_that_is_there_twice_is_paired_in_order() -> None:
    lines = make_lines(25, 1)
    twice = [*lines, dataclasses.replace(lines[1], gold_xyxy_px=((0.0, 0.0, 9.0, 9.0),))]
    pairs = pair(twice, twice)
    assert len(pairs.first) == 161
    assert pairs.second[-1].gold_xyxy_px == ((0, 0, 9, 9),)


def test_statistics_on_draws_equal_a_plain_loop() -> None:
    values, patients = np.arange(30.0) ** 1.5, np.repeat(np.arange(10), 3)

    def statistics(draws: np.ndarray) -> np.ndarray:
        return np.stack([draws @ values, np.where(draws[:, 0] > 5, 1.0, np.nan)], axis=1)

    found, never = bootstrap_statistics(statistics, patients, n=400, seed=3)
    rng = np.random.default_rng(3)
    counts = rng.multinomial(10, np.full(10, 0.1), size=400)
    drawn = [sum(count[p] * v for p, v in zip(patients, values, strict=True)) for count in counts]
    assert found == pytest.approx((values.sum(), *np.quantile(drawn, [0.025, 0.975])))
    assert np.isnan(never).all()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs/grounding/a/2026-01-01_00-00-00"
    write_predictions(run / "predictions/test.jsonl", make_lines(5, 1))
    other = write_predictions(tmp_path / "other.jsonl", make_lines(80, 2, "b"))
    out = tmp_path / "out.json"
    assert main(["compare", str(run), str(other), "--json", str(out), "--draws", "200"]) == 0
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.strip().startswith("p_at_f1/boxed "))
    assert row.split()[-1] == "worse"
    assert "p_at_f1/boxed [sex=F]" in said
    found = json.loads(out.read_text())
    assert (found["sentences"], found["patients"], found["draws"]) == (160, 40, 200)
    boxed = next(r for r in found["rows"] if r["metric"] == "p_at_f1/boxed" and not r["group"])
    assert boxed["difference"]["high"] < 0
    assert f"{boxed['a']['mean']:.3f}" in row
    assert any(r["difference"]["low"] is None for r in found["rows"])


@pytest.mark.parametrize(("made", "message"), [(True, "no predictions yet"), (False, "no such run folder")])
def test_a_run_without_predictions(
    made: bool, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if made:
        (tmp_path / "run").mkdir()
    assert main(["compare", str(tmp_path / "run"), str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_latest_is_the_newest_trained_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "latest", "latest"]) == 2
    assert "no run has a checkpoint yet" in capsys.readouterr().err
    for noise, name in ((90, "a/2026-01-01_00-00-00"), (25, "b/2026-01-02_00-00-00"), (9, "a/2026-01-03_00-00-00")):
        write_predictions(Path("runs/grounding", name, "predictions", "test.jsonl"), make_lines(noise, 1, count=24))
    for trained in ("a/2026-01-01_00-00-00", "b/2026-01-02_00-00-00"):
        (checkpoints := Path("runs/grounding", trained, "checkpoints")).mkdir()
        (checkpoints / "last.ckpt").touch()
    first = "runs/grounding/a/2026-01-01_00-00-00"
    assert main(["compare", "latest", first, "--draws", "20"]) == 0
    assert "A: runs/grounding/b/2026-01-02_00-00-00/predictions/test.jsonl\n" in capsys.readouterr().out
    Path("runs").rename("elsewhere")
    assert main(["compare", "latest", first.replace("runs", "elsewhere"), "--runs", "elsewhere", "--draws", "20"]) == 0


def test_groups_survive_a_file(tmp_path: Path) -> None:
    lines = make_lines(25, 1, count=4)
    assert [o.groups for o in read_predictions(write_predictions(tmp_path / "a.jsonl", lines))] == [
        o.groups for o in lines
    ]
    (tmp_path / "b.jsonl").write_text(lines[0].to_json().replace('{"sex": "F", "scanner": "s0"}', '"F"'))
    with pytest.raises(DataError, match="not a prediction"):
        read_predictions(tmp_path / "b.jsonl")
