"""What the README tells a reader to type must parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from medvl.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FITS = sorted({line.strip() for line in re.findall(r"^medvl fit .+$", README, re.M)})


@pytest.mark.parametrize("line", FITS)
def test_every_fit_parses(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```yaml\n# mine.yaml\n(.*?)```", README, re.S)
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["medvl"])
    words = [str(tmp_path / word) if word == "mine.yaml" else word for word in shlex.split(line)[1:]]
    assert main([*words, "--print_config"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert ("PhraseTable" in printed) == ("mine.yaml" in line)
    assert (
        re.search(r"lr_scale:\n +text_encoder: 0.05\n", printed) if "lr_scale" in line else "lr_scale: null" in printed
    )
