from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from cli_toy import CONFIG, Run, medvl

from medvl.cli import runs
from medvl.cli.recording import WholeCheckpointIO, load_primitives
from medvl.errors import CheckpointError, ConfigError

__all__ = ["medvl"]
TOY = "--allow-import cli_toy --config toy.yaml"
PARENT = Path("runs/toy/toy")


def test_fit_test_predict_share_a_run_folder(medvl: Run) -> None:
    status, out, _ = medvl(f"fit {TOY}")
    run = PARENT / (PARENT / "latest").readlink()
    assert status == 0
    assert out.splitlines()[-1] == f"{run}  next: medvl test --run {run} --ckpt_path best"
    names = [f"{name}.ckpt" for name in ("best", "last", "previous")]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {*names, *(f"{name}.sha256" for name in names)}
    assert any((run / "tensorboard").glob("events*"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in lines if "val/score" in line] == [(1, 0), (3, 1)]

    status, out, _ = medvl(f"test {TOY} --ckpt_path best")
    assert status == 0
    assert out.splitlines()[-1] == f"{run}  next: medvl predict --run {run} --ckpt_path best"
    assert "test/score" in json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])

    assert medvl(f"predict --allow-import cli_toy --run {run}")[0] == 0
    assert medvl(f"validate --allow-import cli_toy --run {PARENT}/latest --ckpt_path last")[0] == 0
    assert {path.name for path in run.glob("*.yaml")} == {"fit.yaml", "test.yaml", "predict.yaml", "validate.yaml"}
    assert [path.name for path in PARENT.iterdir() if not path.is_symlink()] == [run.name]


def test_the_config_is_kept_resolved_and_in_the_checkpoint(medvl: Run) -> None:
    medvl(f"fit {TOY} --name mine --seed_everything 3 --model.optimizer AdamW --model.optimizer.lr 0.5")
    run = Path("runs/toy/mine/latest").resolve()
    kept = yaml.safe_load((run / "fit.yaml").read_text())
    assert (kept["name"], kept["seed_everything"]) == ("mine", 3)
    assert kept["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.5
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert yaml.safe_load(checkpoint["medvl_config"]) == kept

    lone = Path("lone.ckpt")
    lone.write_bytes((run / "checkpoints/last.ckpt").read_bytes())
    status, out, _ = medvl("test --allow-import cli_toy --ckpt_path lone.ckpt")  # it alone suffices
    assert status == 0
    assert out.splitlines()[-1].startswith("runs/toy/mine/")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_random_weights_are_refused(medvl: Run, command: str) -> None:
    status, _, error = medvl(f"{command} {TOY}")
    assert status == 2
    assert error == (
        f"error: {command} needs a checkpoint\n"
        "  hint:  no run in runs/toy/toy has one yet: medvl fit makes it\n"
        "  next:  --untrained true permits random weights\n"
    )
    assert not Path("runs").exists()


def test_an_untrained_model_is_tested_when_asked_for(medvl: Run) -> None:
    medvl(f"fit {TOY}")
    latest = (PARENT / "latest").readlink()
    assert medvl(f"test {TOY}")[2].splitlines()[1] == f"  hint:  the newest run is {PARENT / latest}: --ckpt_path best"
    assert medvl(f"test {TOY} --untrained true")[0] == 0
    assert (PARENT / "latest").readlink() == latest
    assert runs.newest_trained(PARENT) == PARENT / latest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (f"test {TOY} --ckpt_path best", "error: no run has a checkpoint 'best'\n  where: runs/toy/toy\n"),
        (f"test {TOY} --ckpt_path no.ckpt", "error: no such checkpoint\n  where: no.ckpt\n"),
        (f"test {TOY} --ckpt_path toy.yaml", "error: not a whole checkpoint"),
        (f"test {TOY} --run .", "error: this run has no checkpoint 'best'\n"),
        (f"fit {TOY} --run .", "error: this folder is not empty\n"),
    ],
)
def test_what_is_not_there_is_told(medvl: Run, words: str, expected: str) -> None:
    status, _, error = medvl(words)
    assert status == 2
    assert error.startswith(expected)
    assert len(error.splitlines()) <= 4


def test_fit_goes_on_in_the_same_folder(medvl: Run) -> None:
    medvl(f"fit {TOY}")
    run = PARENT / (PARENT / "latest").readlink()
    status, out, _ = medvl(f"fit {TOY} --ckpt_path last --trainer.max_epochs 4")
    assert status == 0
    assert out.splitlines()[-1].startswith(f"{run}  ")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "val/score" in line] == [0, 1, 2, 3]
    assert yaml.safe_load((run / "fit.yaml").read_text())["trainer"]["max_epochs"] == 4
    assert yaml.safe_load((run / "fit-1.yaml").read_text())["trainer"]["max_epochs"] == 2


def test_a_checkpoint_never_overrides_flags(medvl: Run) -> None:
    medvl(f"fit {TOY}")
    status, _, error = medvl(f"test {TOY} --ckpt_path best --model.width 5 --data.width 5")
    assert status == 2
    assert error.startswith("error: the checkpoint is of another model\n")
    assert "net.weight" in error


def test_others_stand_in_for_a_damaged_last(medvl: Run) -> None:
    medvl(f"fit {TOY}")
    last = PARENT / "latest" / "checkpoints" / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    for name in ("previous.ckpt", "best.ckpt"):
        status, _, error = medvl(f"test {TOY} --ckpt_path last")
        assert status == 0
        assert f"last.ckpt is damaged (its checksum differs): {name} stands in for it" in error
        os.truncate(last.with_name(name), 100)
    status, _, error = medvl(f"test {TOY} --ckpt_path last")
    assert status == 2
    assert error.startswith("error: the checkpoint is damaged (its checksum differs)\n")


def test_an_interruption_keeps_the_run(medvl: Run) -> None:
    Path("toy.yaml").write_text(CONFIG.replace("ToyTask", "InterruptedTask"))
    status, _, error = medvl(f"fit {TOY}")
    run = PARENT / (PARENT / "latest").readlink()
    assert status == 130
    assert error.splitlines()[-2:] == [f"{run}  next: medvl fit --run {run} --ckpt_path last", "interrupted"]
    assert load_primitives(run / "checkpoints/last.ckpt")["global_step"] == 4


@pytest.mark.parametrize("hook", ["prepare_data", "setup", "train_dataloader"])
def test_a_start_that_fails_leaves_nothing(medvl: Run, hook: str) -> None:
    assert medvl(f"fit {TOY} --data.broken {hook}") == (2, "", f"error: no such data\n  where: {hook}\n")
    assert not Path("runs").exists()
    assert medvl(f"fit {TOY}")[0] == 0
    run = PARENT / (PARENT / "latest").readlink()
    before = sorted(Path().rglob("*"))
    assert medvl(f"fit {TOY} --data.broken {hook}")[0] == 2
    assert medvl(f"test {TOY} --untrained true --data.broken setup")[0] == 2
    assert sorted(Path().rglob("*")) == before
    for word in ("latest", f"{PARENT}/latest"):
        for words in (f"test {TOY}", "test --allow-import cli_toy"):
            status, out, error = medvl(f"{words} --run {word}")
            assert status == 0, error
            assert out.splitlines()[-1].startswith(f"{run}  ")


def test_what_was_there_before_a_failed_start_stays(medvl: Run) -> None:
    assert medvl(f"fit {TOY}")[0] == 0
    run = PARENT / (PARENT / "latest").readlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert medvl(f"fit {TOY} --ckpt_path last --data.broken setup")[0] == 2
    assert medvl(f"predict {TOY} --run {run} --data.broken setup")[0] == 2
    left = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {path: left[path] for path in before} == before
    Path("above").mkdir()
    assert medvl(f"fit {TOY} --run above/run --data.broken setup")[0] == 2
    assert list(Path("above").iterdir()) == []


def test_a_run_that_died_early_names_one_that_did_not(medvl: Run) -> None:
    assert medvl(f"test {TOY} --run latest")[2].startswith(
        "error: no run has a checkpoint yet\n  where: runs/toy/toy\n"
    )
    assert medvl(f"fit {TOY}")[0] == 0
    run = PARENT / (PARENT / "latest").readlink()
    dead = runs.new_run(PARENT)
    error = medvl(f"test {TOY} --run {dead}")[2]
    assert f"hint:  it ended before its first checkpoint; the newest with one: --run {run}\n" in error
    assert medvl(f"test {TOY} --run latest")[1].splitlines()[-1].startswith(f"{run}  ")
    assert medvl(f"fit {TOY} --run latest")[2].startswith("error: this folder is not empty\n")


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path) -> None:
    folders = [runs.make_free(tmp_path, "2026-01-01_00-00-00") for _ in range(11)]
    assert len(set(folders)) == 11
    assert runs.runs_of(tmp_path) == folders[::-1]


def test_a_folder_with_something_in_it_is_never_taken(tmp_path: Path) -> None:
    assert runs.empty_folder(tmp_path / "new").is_dir()
    (tmp_path / "new/file").touch()
    with pytest.raises(ConfigError):
        runs.empty_folder(tmp_path / "new")


def test_checkpoints_are_whole_or_absent(tmp_path: Path) -> None:
    disk, path = WholeCheckpointIO(), tmp_path / "a.ckpt"
    disk.save_checkpoint({"x": torch.ones(3)}, path)
    assert torch.equal(disk.load_checkpoint(path)["x"], torch.ones(3))
    with pytest.raises(Exception, match="pickle"):
        disk.save_checkpoint({"x": lambda: None}, path)  # dies half-way
    assert torch.equal(disk.load_checkpoint(path)["x"], torch.ones(3))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.ckpt", "a.ckpt.sha256"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="damaged"):
        disk.load_checkpoint(path)
    disk.remove_checkpoint(path)
    assert not list(tmp_path.iterdir())
