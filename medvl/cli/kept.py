"""The config that a run or a checkpoint kept, as the base on which the command line builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from medvl.cli.recording import CONFIG_KEY, load_primitives
from medvl.cli.runs import LATEST, newest_trained, run_of
from medvl.cli.words import options_of
from medvl.errors import CheckpointError
from medvl.text.untrusted import parse_yaml


def config_of_run(words: list[str]) -> list[str]:
    """Return `--config` and the config of the run or checkpoint that `words` name, unless they give a whole one."""
    files = [Path(path) for path in options_of(words, "--ckpt_path") if Path(path).is_file()]
    folders = [*runs_named(words), *filter(None, map(run_of, files))]
    found = [folder / "fit.yaml" for folder in folders if (folder / "fit.yaml").is_file()]
    overlays = [read(Path(name)) for name in options_of(words, "--config", "-c")]
    if any("model" in overlay for overlay in overlays) or not (found or files):
        return []
    kept = read(found[-1]) if found else trusted_part(config_in(load_primitives(files[-1]), files[-1]))
    flags = [flag for flag in words if flag.startswith("--")]
    changed = [forget(kept, flag[2:].partition("=")[0].split("."), options_of(words, flag)) for flag in flags]
    changed += [forget_overlaid(kept, overlay) for overlay in overlays]
    return ["--config", yaml.safe_dump(kept, sort_keys=False) if any(changed) or not found else str(found[-1])]


def config_in(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the config that a checkpoint holds; empty if it holds none.

    Raises:
        CheckpointError: What it holds is no config.
    """
    try:
        found = parse_yaml(str(checkpoint.get(CONFIG_KEY, "{}"))) or {}
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise CheckpointError("the config in this checkpoint is damaged", where=str(path))
    return found


def trusted_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return name, model, data and the trainer's plain settings.

    Whoever made the checkpoint has no say in where a run writes or what it connects to: no folder, no name that is a
    path, no logger, callback or plugin of it is taken.
    """
    trainer = config.get("trainer")
    plain = dict(trainer) if isinstance(trainer, dict) else {}
    plain.pop("default_root_dir", None)
    plain = {key: value for key, value in plain.items() if value is None or isinstance(value, str | int | float)}
    kept = {key: config[key] for key in ("seed_everything", "model", "data") if key in config}
    named = {"name": config["name"]} if re.fullmatch(r"\w[\w.-]*", str(config.get("name") or "")) else {}
    return named | kept | ({"trainer": plain} if plain else {})


def runs_named(words: list[str]) -> list[Path]:
    """Return the run folders that `--run` names; of `latest`, the newest trained run of any task and name."""
    every = Path((options_of(words, "--runs") or ["runs"])[-1])
    found = [newest_trained(every, "*/*/*") if name == LATEST else Path(name) for name in options_of(words, "--run")]
    return [folder for folder in found if folder]


def read(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping; empty when it is none, which the parser tells better."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def forget(config: dict[str, Any], keys: list[str], named: list[str]) -> bool:
    """Drop the arguments of a class that another takes the place of.

    The parser would hand those of the same name on, and a kept config holds every default.

    Returns:
        Whether there were any.
    """
    node: Any = config
    for key in keys:
        node = node.get("init_args", node).get(key) if isinstance(node, dict) else None
    same = isinstance(node, dict) and str(node.get("class_path", "")).rpartition(".")[2] in {
        name.rpartition(".")[2] for name in named
    }
    return isinstance(node, dict) and not same and bool(named) and bool(node.pop("init_args", None))


def forget_overlaid(config: Any, overlay: Any) -> bool:
    """Do the same for each class that an overlay names, at any depth."""
    if not (isinstance(config, dict) and isinstance(overlay, dict)):
        return False
    path = overlay.get("class_path")
    changed = path is not None and forget({"node": config}, ["node"], [str(path)])
    return any([changed, *(forget_overlaid(config.get(key), value) for key, value in overlay.items())])
