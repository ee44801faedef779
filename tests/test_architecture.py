"""The laws of the design that a machine can check: import directions, file lengths, configs, paths."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from medvl.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("medvl", "tasks", "datamodules", "ontology")
MAY_IMPORT = {
    "medvl": (),
    "medvl.cli": ("medvl", "tasks", "datamodules", "ontology"),
    "datamodules": ("medvl",),
    "tasks": ("medvl", "datamodules.batches", "datamodules.records"),
    # How reports are cut into sections and sentences is no knowledge of datasets, nor of findings: datamodules and
    # ontology both need it and may not import each other, so it lies below both, once.
    "ontology": ("medvl.errors", "medvl.text"),
}
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TEXTS = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
LONGEST_FILE, LONGEST_LIGHTNING_CLI = 600, 200


def imports_of(path: Path) -> Iterator[str]:
    """Yield the names of our packages' modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.partition(".")[0] in PACKAGES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    inside = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package = "medvl.cli" if inside.startswith("medvl.cli") else inside.partition(".")[0]
    allowed = (package.partition(".")[0], *MAY_IMPORT[package])
    if package == "medvl":
        assert not [n for n in imports_of(path) if n.startswith("medvl.cli")] or path.name == "__main__.py"
    for name in imports_of(path):
        assert any(name == part or name.startswith(f"{part}.") for part in allowed), f"{inside} imports {name}"


def test_tasks_do_not_know_each_other() -> None:
    for path in (ROOT / "tasks").glob("*/*.py"):
        others = {name.split(".")[1] for name in imports_of(path) if name.startswith("tasks.")}
        assert others <= {path.parent.name}


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in TEXTS}
    assert {path: count for path, count in lengths.items() if count > LONGEST_FILE} == {}
    assert lengths[ROOT / "medvl/cli/lightning.py"] <= LONGEST_LIGHTNING_CLI
    ours = sorted(lengths[path] for path in SOURCES)
    assert ours[len(ours) // 2] <= 160
    assert ours[len(ours) * 9 // 10] <= 400


def test_no_file_knows_a_machine() -> None:
    home = re.compile(r"/(?:home|root|Users|work)/\w")
    others = [path for path in (ROOT / "configs", ROOT / "docs") for path in path.rglob("*.*")]
    for path in [*TEXTS, *others, ROOT / "Makefile", ROOT / "pyproject.toml"]:
        if path != Path(__file__) and path.suffix not in (".png", ".jpg", ".pyc"):
            assert not home.search(path.read_text(encoding="utf-8")), path


def test_nothing_unpickles() -> None:
    unsafe = re.compile(
        r"weights_only\s*=\s*False|LOAD_TRUNCATED_IMAGES\s*=|^\s*import pickle|allow_pickle\s*=\s*True", re.M
    )
    for path in SOURCES:
        assert not unsafe.search(path.read_text(encoding="utf-8")), path


def words_for(config: Path) -> list[str]:
    """Return the command line that parses one config: overlays, encoders and sources go with another."""
    kind, recipe = config.relative_to(ROOT / "configs").parts[0], ROOT / "configs/volume/radfinder_ctrate.yaml"
    task = "volume" if config.name == "ct_rate.yaml" else "grounding"
    quickstart = ["fit", "--print_config", "--config", str(ROOT / f"configs/quickstart/{task}.yaml")]
    if kind == "volume" and config != recipe:
        return ["fit", "--print_config", "--config", str(recipe), "--config", str(config)]
    if kind in ("trainer", "zero_shot"):
        return [*quickstart, "--config", str(config)]
    if kind == "sources":
        return [*quickstart, "--data.source", str(config)]
    if kind == "encoders":
        text = config.read_text(encoding="utf-8")
        return [*quickstart, "--model.text_encoder" if "Text" in text else "--model.image_encoder", str(config)]
    return ["fit", "--print_config", "--config", str(config)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_every_config_parses(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["medvl"])
    assert main(words_for(config)) == 0, capsys.readouterr().err


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
