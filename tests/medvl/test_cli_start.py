from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

WATCH = "import sys; from medvl.cli.main import main; main(%r); print('torch' in sys.modules, file=sys.stderr)"


def spent() -> float:
    """Return the processor seconds of finished children: a clock on the wall would judge the machine's other work."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize(
    "words",
    [
        [], ["--help"], ["--version"], ["data", "list"], ["data", "--help"], ["data", "twin", "--help"],
        ["data", "check", "--help"], ["compare", "--help"], ["calibrate", "--help"], ["retrieve", "--help"],
        ["bench", "--help"], ["doctor", "--help"], ["nonsense"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_quick_answers_import_no_torch(words: list[str]) -> None:
    def once() -> float:
        start = spent()
        done = subprocess.run([sys.executable, "-c", WATCH % words], capture_output=True, text=True, check=True)
        assert done.stderr.splitlines()[-1] == "False"
        assert done.stdout or words == ["nonsense"]
        return spent() - start

    assert min(once() for _ in range(2)) < 0.5


def test_medvl_lightning_and_the_module_are_one_command() -> None:
    scripts = {script.name: script.value for script in entry_points(group="console_scripts")}
    assert scripts["medvl"] == scripts["lightning"] == "medvl.cli.main:main"
    done = subprocess.run([sys.executable, "-m", "medvl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("medvl ")


def test_a_mistake_is_status_two() -> None:
    done = subprocess.run([sys.executable, "-m", "medvl", "predcit"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: no command 'predcit'\n  hint:  did you mean 'predict'?\n  next:  medvl --help\n"
