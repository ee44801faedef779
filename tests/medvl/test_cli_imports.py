"""A config or a checkpoint never runs code that the allow-list does not name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_toy import CONFIG, Run, medvl

from medvl.cli.imports import guard_imports

__all__ = ["medvl"]
TOY = "--allow-import cli_toy --config toy.yaml"
CALLABLE = "optimizer: {class_path: %s, dict_kwargs: {args: [touch, pwned]}}"


def refused(result: tuple[int, str, str], name: str) -> None:
    assert result[0] == 2
    assert result[2].startswith(f"error: {name} is not allowed in a config or checkpoint\n")
    assert not Path("pwned").exists()


@pytest.mark.parametrize("extra", ["", " --print_config"])
def test_a_class_path_runs_nothing(medvl: Run, extra: str) -> None:
    Path("evil.py").write_text("open('pwned', 'w')")
    Path("toy.yaml").write_text(CONFIG.replace("cli_toy.ToyTask", "evil.Task"))
    refused(medvl(f"fit {TOY}{extra}"), "evil.Task")
    Path("toy.yaml").write_text(
        CONFIG.replace("cli_toy.ToyTask", "os.system").replace("width: 4", "command: touch pwned")
    )
    refused(medvl(f"fit {TOY}{extra}"), "os.system")


@pytest.mark.parametrize(
    "name", ["subprocess.check_output", "torch.load", "torch.utils.cpp_extension.load", "numpy.load"]
)
def test_a_callable_runs_nothing(medvl: Run, name: str) -> None:
    Path("toy.yaml").write_text(CONFIG.replace("width: 4", CALLABLE % name))
    refused(medvl(f"fit {TOY}"), name)


def test_a_way_round_through_an_allowed_module_is_closed(medvl: Run) -> None:
    Path("toy.yaml").write_text(CONFIG.replace("width: 4", CALLABLE % "datamodules.check.os.system"))
    status, _, error = medvl(f"fit {TOY}")
    assert status == 2
    assert "not allowed" in error or "no module" in error or "has no class" in error
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ["datamodules.twins.table.write", "medvl.cli.main.main", "lightning.pytorch.Trainer"])
def test_our_own_writers_are_not_for_configs(medvl: Run, name: str) -> None:
    Path("toy.yaml").write_text(CONFIG.replace("width: 4", CALLABLE % name))
    refused(medvl(f"fit {TOY}"), name)


def test_hyperparameters_of_a_checkpoint_are_not_looked_at(medvl: Run) -> None:
    assert medvl(f"fit {TOY}")[0] == 0
    path = Path("runs/toy/toy/latest/checkpoints/best.ckpt").resolve()
    checkpoint = torch.load(path, weights_only=True)
    spec = {"class_path": "subprocess.check_output", "dict_kwargs": {"args": ["touch", "pwned"]}}
    checkpoint["hyper_parameters"] = {"_class_path": "cli_toy.ToyTask", "optimizer": spec}
    torch.save(checkpoint, "evil.ckpt")
    assert medvl(f"test {TOY} --ckpt_path evil.ckpt")[0] == 0
    assert not Path("pwned").exists()


def test_the_config_in_a_checkpoint_is_guarded(medvl: Run) -> None:
    text = CONFIG.replace("width: 4", CALLABLE % "subprocess.check_output")
    torch.save({"medvl_config": text, "state_dict": {}}, "evil.ckpt")
    refused(medvl("test --allow-import cli_toy --ckpt_path evil.ckpt"), "subprocess.check_output")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("pwned"),)  # type: ignore[return-value]


def test_a_pickled_object_is_not_loaded(medvl: Run) -> None:
    torch.save({"state_dict": {}, "bomb": Bomb()}, "evil.ckpt")
    for words in (f"test {TOY} --ckpt_path evil.ckpt", "test --ckpt_path evil.ckpt"):
        status, _, error = medvl(words)
        assert status == 2
        assert error.startswith("error: the checkpoint is damaged, or holds more than tensors and plain values\n")
        assert not Path("pwned").exists()


def test_a_package_of_ones_own_is_opened_for_one_call(medvl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "fit --config toy.yaml --print_config"
    assert "next:  --allow-import cli_toy, if you trust that code" in medvl(words)[2]
    assert medvl(f"{words} --allow-import=cli_toy")[0] == 0
    refused(medvl(words), "cli_toy.ToyTask")
    monkeypatch.setenv("MEDVL_ALLOW_IMPORTS", "other, cli_toy")
    assert medvl(words)[0] == 0


def test_a_config_cannot_open_the_list(medvl: Run) -> None:
    Path("toy.yaml").write_text("allow_import: os\n" + CONFIG)
    assert medvl(f"fit {TOY}")[0] == 2
    with pytest.raises(ValueError, match="jsonargparse"):
        guard_imports(["jsonargparse"])
