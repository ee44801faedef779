from __future__ import annotations

from pathlib import Path

import pytest
from cli_toy import CONFIG, Run, medvl

__all__ = ["medvl"]
FIT = "fit --allow-import cli_toy --config toy.yaml"


def edited(old: str, new: str) -> str:
    assert old in CONFIG
    Path("edited.yaml").write_text(CONFIG.replace(old, new))
    return "fit --allow-import cli_toy --config edited.yaml"


def told(result: tuple[int, str, str]) -> str:
    status, _, error = result
    assert status == 2
    assert "Traceback" not in error
    assert len(error.splitlines()) <= 4
    return error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            f"{FIT} --trainer.max_epoch 3",
            "error: no option 'trainer.max_epoch'\n"
            "  where: --trainer.max_epoch\n  hint:  did you mean 'trainer.max_epochs'?\n",
        ),
        (
            f"{FIT} --model.widht 3",
            "error: ToyTask takes no 'widht'\n  where: --model.widht\n  hint:  did you mean 'width'?\n"
            "  next:  medvl fit --model.help ToyTask\n",
        ),
        (
            f"{FIT} --model.width abc",
            "error: wrong value 'abc'\n  where: --model.width\n  hint:  expected int\n",
        ),
        (
            f"{FIT} --trainer.max_epochs abc",
            "error: wrong value 'abc'\n  where: --trainer.max_epochs\n  hint:  expected int\n",
        ),
        (
            f"{FIT} --trainer.precision bf16-true",
            "error: no training in precision bf16-true\n  where: trainer.precision\n"
            "  hint:  a batch holds coordinates in 32 bits; use 32-true, bf16-mixed or 16-mixed\n",
        ),
        (
            f"{FIT} --model.encoder ToyEncodr",
            "error: no class 'ToyEncodr'\n  where: --model.encoder\n  hint:  did you mean 'ToyEncoder'?\n",
        ),
        (
            f"{FIT} --model.encoder ToyEncoder --model.encoder.dept 2",
            "error: ToyEncoder takes no 'dept'\n  where: --model.encoder.dept\n  hint:  did you mean 'depth'?\n",
        ),
        (
            f"{FIT} --model.encoder ToyEncoder --model.encoder.kind men",
            "error: wrong value 'men'\n  where: --model.encoder.kind\n  hint:  did you mean 'mean'?\n",
        ),
        (
            f"{FIT} --model.optimizer AdanW",
            "error: no class 'AdanW'\n  where: --model.optimizer\n  hint:  did you mean 'AdamW'?\n",
        ),
        (
            f"{FIT} --model.encoder toi.yaml",
            "error: no such file: toi.yaml\n  where: --model.encoder\n  hint:  did you mean 'toy.yaml'?\n",
        ),
        (
            f"{FIT} extra",
            "error: a word too many: 'extra'\n  where: command line\n  next:  medvl fit --help\n",
        ),
        (
            "fit",
            "error: fit needs a config that names: data, model\n"
            "  next:  medvl fit --config configs/quickstart/grounding.yaml\n",
        ),
        ("fti", "error: no command 'fti'\n  hint:  did you mean 'fit'?\n  next:  medvl --help\n"),
        (
            "data chek padchest-gr x",
            "error: no command 'chek'\n  hint:  did you mean 'check'?\n  next:  medvl data --help\n",
        ),
        (
            "data check padchest-g x",
            "error: no format 'padchest-g'\n  hint:  did you mean 'padchest-gr'?\n  next:  medvl data check --help\n",
        ),
        (
            "data check padchest-gr x --langage es",
            "error: unknown option '--langage'\n  hint:  did you mean '--language'?\n"
            "  next:  medvl data check --help\n",
        ),
        (
            "data check padchest-gr nowhere",
            "error: no such data set\n  where: nowhere\n"
            "  next:  medvl data twin padchest-gr FOLDER writes a synthetic one\n",
        ),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(medvl: Run, words: str, expected: str) -> None:
    assert told(medvl(words)) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "max_epochs: 2",
            "max_epoch: 2",
            "error: no option 'trainer.max_epoch'\n"
            "  where: edited.yaml:2 (trainer.max_epoch)\n  hint:  did you mean 'trainer.max_epochs'?\n",
        ),
        (
            "width: 4",
            "widht: 4",
            "error: ToyTask takes no 'widht'\n  where: edited.yaml:9 (model.widht)\n"
            "  hint:  did you mean 'width'?\n  next:  medvl fit --model.help ToyTask\n",
        ),
        (
            "width: 4",
            "width: wide",
            "error: wrong value 'wide'\n  where: edited.yaml:9 (model.width)\n  hint:  expected int\n",
        ),
        (
            "cli_toy.ToyTask",
            "cli_toy.ToyTsk",
            "error: cli_toy has no class 'ToyTsk'\n  where: edited.yaml:6 (model)\n  hint:  did you mean 'ToyTask'?\n",
        ),
        (
            "cli_toy.ToyData",
            "ToyDatta",
            "error: no class 'ToyDatta'\n  where: edited.yaml:10 (data)\n  hint:  did you mean 'ToyData'?\n",
        ),
        (
            "data:\n",
            "dataa:\n",
            "error: no option 'dataa'\n  where: edited.yaml:10 (dataa)\n  hint:  did you mean 'data'?\n",
        ),
    ],
)
def test_mistakes_in_a_config(medvl: Run, old: str, new: str, expected: str) -> None:
    assert told(medvl(edited(old, new))) == expected


def test_a_missing_config_names_its_neighbour(medvl: Run) -> None:
    error = told(medvl("fit --config toi.yaml"))
    assert error.startswith("error: no such config\n")
    assert "toi.yaml\n" in error
    assert "did you mean 'toy.yaml'?" in error


def test_broken_yaml_names_the_line(medvl: Run) -> None:
    Path("broken.yaml").write_text("trainer:\n  callbacks: [1, 2\nmodel: 3\n")
    error = told(medvl("fit --config broken.yaml"))
    assert error.startswith("error: the config is not valid YAML\n  where: broken.yaml, line 3\n")


def test_options_are_never_abbreviated(medvl: Run) -> None:
    for words in (f"{FIT} --trainer.max_epo 3", f"{FIT} --see 3", "data twin table x --stud 3"):
        told(medvl(words))
    assert not Path("runs").exists()


def test_debug_raises(medvl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from medvl.errors import ConfigError

    monkeypatch.setenv("MEDVL_DEBUG", "1")
    with pytest.raises(ConfigError, match="max_epoch"):
        medvl(f"{FIT} --trainer.max_epoch 3")
