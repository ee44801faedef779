from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_toy import Run, medvl

from medvl.cli import bench

__all__ = ["medvl"]
BENCHMARK = '''
import json
from pathlib import Path

def run(factor: float = 2.0):
    """Measure nothing."""
    result = {"name": "one-two", "unit": "images/s", "ours": 10 * factor, "peers": {"pillow": 10.0}, "ratio": factor}
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "one-two.json").write_text(json.dumps(result))
'''


def test_bench_measures_and_prints(medvl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "one_two.py").write_text(BENCHMARK)
    (folder / "helper.py").write_text("X = 1\n")
    monkeypatch.setattr(bench, "FOLDER", folder)
    assert list(bench.benchmarks()) == ["one-two"]
    status, out, _ = medvl("bench one-two")
    assert status == 0
    assert "pillow 10" in out
    assert json.loads((folder / "results/one-two.json").read_text())["ratio"] == 2.0
    assert medvl("bench one-two --factor 3")[0] == 0
    assert json.loads((folder / "results/one-two.json").read_text())["ours"] == 30.0
    assert "did you mean '--factor'" in medvl("bench one-two --facto 3")[2]
    assert medvl("bench --factor 3")[0] == 2
    assert medvl("bench one-too")[2] == (
        "error: no benchmark 'one-too'\n  hint:  did you mean 'one-two'?\n  next:  medvl bench\n"
    )
    monkeypatch.setattr(bench, "FOLDER", folder / "nowhere")
    assert medvl("bench")[2].startswith("error: benchmarks come with a checkout only\n")


def test_bench_names_are_whole_in_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["quickstart-grounding", "retrieval-metrics"]
    (tmp_path / "results").mkdir()
    long = {"unit": "images/s " * 9, "ours": {"a": 1.5, "b": 2.5}, "peers": {"a peer of some name": 1.0}, "ratio": 9.0}
    for name in names:
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps({**long, "machine": "x" * 40, "commit": "c" * 9}))
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    bench.print_results(names)
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_doctor_examines_the_machine(medvl: Run) -> None:
    status, out, _ = medvl("doctor")
    assert status == 0, out
    for label in ("python", "torch", "torchvision", "threads", "cache", "gpu"):
        assert any(line.startswith(label) for line in out.splitlines())


def test_doctor_tells_torch_and_torchvision_apart(medvl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medvl.cli.doctor.requires", lambda name: ["numpy", "torch==1.0.0"])
    status, out, _ = medvl("doctor")
    assert status == 1
    assert "wants torch==1.0.0, not torch" in out


def test_doctor_examines_a_run(medvl: Run) -> None:
    medvl("fit --allow-import cli_toy --config toy.yaml")
    status, out, _ = medvl("doctor runs/toy/toy/latest")
    assert status == 0
    assert "the last at step 3, epoch 1" in out
    last = Path("runs/toy/toy/latest/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:50])
    status, out, _ = medvl("doctor runs/toy/toy/latest")
    assert status == 1
    assert "last.ckpt is damaged" in out
    assert medvl("doctor .")[2].startswith("error: not a run folder: it has no fit.yaml\n")
