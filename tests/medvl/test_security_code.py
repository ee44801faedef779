"""Configs and checkpoints made to run code, to write elsewhere or to exhaust memory: refused in at most four lines.

What the allow-list says of classes, callables and pickles in general is in `test_cli_imports.py`.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentError
from json import JSONDecodeError
from pathlib import Path

import pytest
import torch
import yaml
from cli_toy import CONFIG, Run, medvl
from lightning.pytorch.cli import LightningArgumentParser, OptimizerCallable

from medvl.cli.imports import guard_imports, import_families
from medvl.cli.restore import restore
from medvl.encoders import hub
from medvl.errors import MedvlError
from medvl.text.untrusted import MOST_VALUES, parse_json, parse_yaml

__all__ = ["medvl"]
TOY = "--allow-import cli_toy --config toy.yaml"
ARGS = "{class_path: %s, dict_kwargs: {args: [touch, pwned], command: touch pwned, cmd: touch pwned}}"
PLACES = {
    "optimizer": CONFIG.replace("width: 4", f"optimizer: {ARGS}"),
    "model": CONFIG.replace("class_path: cli_toy.ToyTask\n  init_args:\n    width: 4", "class_path: %s"),
    "data": CONFIG.replace("class_path: cli_toy.ToyData", "class_path: %s"),
    "encoder": CONFIG.replace("width: 4", f"encoder: {ARGS}"),
    "callbacks": CONFIG.replace("trainer:\n", f"trainer:\n  callbacks: [{ARGS}]\n"),
    "logger": CONFIG.replace("trainer:\n", f"trainer:\n  logger: {ARGS}\n"),
    "plugins": CONFIG.replace("trainer:\n", f"trainer:\n  plugins: [{ARGS}]\n"),
}
HOSTILE = ("os.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "runpy.run_path", "torch.hub.load")
THROUGH = (  # what an allowed package happens to have imported counts where it was defined
    "datamodules.check.write_text",
    "datamodules.sources.files.os.system",
    "torch.utils.data.dataset.random.SystemRandom",
    "torch.nn.modules.module.functools.partial",
    "torch.nn.modules.module.torch.load",
    "lightning.pytorch.loggers.csv_logs.os.system",
    "lightning.pytorch.callbacks.lambda_function.LambdaCallback",
    "tasks.grounding.task.torch.hub.load",
    "ontology.lexicon.yaml.unsafe_load",
    "medvl.cli.main.os.system",
    "medvl.losses.base.torch.os.system",
)


def refused(result: tuple[int, str, str]) -> str:
    """Check that a run ended with a mistake told in at most four lines, and that nothing was done; return the text."""
    status, _, error = result
    assert status == 2, error
    assert error.startswith("error: ")
    assert len(error.splitlines()) <= 4
    assert not Path("pwned").exists()
    return error


@pytest.mark.parametrize("name", [*HOSTILE, *THROUGH])
def test_no_name_reaches_code(name: str) -> None:
    guard_imports([])
    import_families()
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--call", type=OptimizerCallable)
    with pytest.raises(ArgumentError, match=r"not allowed|No module|no attribute"):
        parser.parse_object({"call": {"class_path": name, "dict_kwargs": {"command": "touch pwned"}}})


@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_a_config_runs_code(medvl: Run, place: str) -> None:
    Path("toy.yaml").write_text(PLACES[place] % "os.system")
    assert "os.system is not allowed" in refused(medvl(f"fit {TOY}")), place
    assert not Path("runs").exists()


def checkpoint(config: object, path: str = "evil.ckpt") -> None:
    """Write a checkpoint with a config, as a mapping or as text."""
    text = config if isinstance(config, str) else yaml.safe_dump(config)
    torch.save({"medvl_config": text, "state_dict": {}, "pytorch-lightning_version": "2.6.6"}, path)


@pytest.mark.parametrize("place", ["model", "optimizer", "data"])
def test_no_place_of_a_checkpoints_config_runs_code(medvl: Run, place: str) -> None:
    checkpoint(PLACES[place] % "os.system")
    refused(medvl("test --allow-import cli_toy --ckpt_path evil.ckpt"))


def test_restoring_a_checkpoint_runs_no_code(medvl: Run) -> None:
    for place in ("model", "optimizer", "encoder"):
        checkpoint(PLACES[place] % "os.system")
        with pytest.raises(MedvlError, match="not allowed"):
            restore(None, "evil.ckpt", allow=["cli_toy"])
    for text in ("[1, 2]", "{a: [", BOMB, "!!python/object/apply:os.system ['touch pwned']"):
        checkpoint(text)
        with pytest.raises(MedvlError, match="config in this checkpoint is damaged"):
            restore(None, "evil.ckpt")
    refused(medvl("test --ckpt_path evil.ckpt"))


def test_a_checkpoint_has_no_say_in_what_is_written_where(medvl: Run, tmp_path: Path) -> None:
    """Its config is taken for model and data; folders, loggers, callbacks and profilers of its maker are not."""
    out = str(tmp_path / "elsewhere")
    Path("here").mkdir()
    os.chdir("here")
    Path("toy.yaml").write_text(CONFIG)
    assert medvl(f"fit {TOY}")[0] == 0
    held = torch.load(next(Path("runs").glob("toy/toy/2*/checkpoints/best.ckpt")), weights_only=True)
    config = yaml.safe_load(held["medvl_config"])
    config["runs"], config["name"] = out, f"../../{out}"
    loggers = "lightning.pytorch.loggers.CSVLogger"
    config["trainer"] |= {
        "logger": {"class_path": loggers, "init_args": {"save_dir": out}},
        "callbacks": {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": out}},
        "profiler": {
            "class_path": "lightning.pytorch.profilers.SimpleProfiler",
            "init_args": {"dirpath": out, "filename": "x"},
        },
        "default_root_dir": out,
    }
    torch.save(held | {"medvl_config": yaml.safe_dump(config)}, "evil.ckpt")
    for command in ("test", "fit"):
        status, printed, error = medvl(f"{command} --allow-import cli_toy --ckpt_path evil.ckpt --name mine")
        assert status == 0, error
        assert "runs/toy/mine/" in printed
    assert not Path(out).exists()
    assert {path.name for path in tmp_path.iterdir()} == {"here", "toy.yaml"}


def test_code_that_comes_with_a_model_is_never_run() -> None:
    asked: list[dict[str, object]] = []

    def loader(path: str, **options: object) -> str:
        asked.append(options)
        if options.get("local_files_only"):
            raise OSError("not here")
        return path

    assert hub.load(loader, "somebody/model") == "somebody/model"
    assert [options["trust_remote_code"] for options in asked] == [False, False]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, f"more than {MOST_VALUES:,} values"),
        ("a: &a [*a]", "stands for what holds it"),
        ("a: " + "[" * 500, "nested too deeply"),
        ("a: !!python/object/apply:os.system ['touch pwned']", "python/object/apply:os.system"),
        ("a: !!python/name:os.system", "python/name:os.system"),
        ("a: !!python/object/new:subprocess.Popen [[touch, pwned]]", "python/object/new:subprocess.Popen"),
    ],
    ids=["aliases", "circle", "depth", "apply", "name", "new"],
)
def test_yaml_that_harms_is_not_built(text: str, why: str) -> None:
    with pytest.raises(yaml.YAMLError, match=re.escape(why)):
        parse_yaml(text)


def test_yaml_that_harms_is_no_config(medvl: Run) -> None:
    for text in (BOMB, "a: !!python/object/apply:os.system ['touch pwned']"):
        Path("toy.yaml").write_text(text)
        assert "not valid YAML" in refused(medvl(f"fit {TOY}"))


def test_aliases_that_stand_for_little_are_fine() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000], ids=["list", "object", "number"])
def test_json_that_harms_is_told_as_json(text: str) -> None:
    with pytest.raises(JSONDecodeError, match=r"deeply|too long") as caught:
        parse_json(text)
    assert text[:50] not in str(caught.value)
