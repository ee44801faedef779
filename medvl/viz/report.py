"""`report.html`: what a run learnt, how well, on what, and how it looks. One file that needs nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections import defaultdict
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from medvl.evidence import Evidence
from medvl.io.atomic import write_text
from medvl.outputs import PhrasePrediction, facts_of, read_predictions
from medvl.signatures import diagnose
from medvl.summary import SUMMARY, Summary, read_summary
from medvl.viz.calibration import calibration_chart
from medvl.viz.cases import cases, samples
from medvl.viz.chart import Line, line_chart
from medvl.viz.page import escape, facts, folded, page, section, table
from medvl.viz.scores import Scores
from medvl.viz.summary import signs, tables, terms, tiles, worst

Series = dict[str, tuple[list[float], list[float]]]

_NOTICE = (
    "For research use only. Not a medical device: not for diagnosis or treatment. "
    "This page shows images and report sentences; guard it as you guard the data."
)
_TERMS = {
    "P@(F1=1)": "share of phrases answered exactly: every box matched one to one at IoU ≥ 0.5, and none left over on "
    "either side; without gold boxes: none shown",
    "N-acc": "share of phrases without gold boxes for which no box is shown",
    "T-acc": "share of phrases with gold boxes for which a box is shown, wherever it is",
    "mIoU": "IoU of the area that the shown boxes cover with the area that the gold boxes cover, mean over phrases",
    "Coverage": "best IoU with a shown box, mean over gold boxes",
    "Centre hit": "share of gold boxes that contain the centre of a shown box",
    "Second reader": "another human's boxes, scored against the gold ones as if they were the model's; above that, a "
    "model agrees with the annotators more than their colleague does",
    "Intervals": "patients, not phrases, are drawn again and again; an interval of a single point says that all "
    "phrases came out alike, not that the value is certain",
}
_TOLD = {"test.jsonl": "Data tested on", "predictions.jsonl": "Data predicted on"}
_FIRST = (
    *("p_at_f1/boxed", "p_at_f1", "n_acc/negated", "n_acc/absent", "n_acc", "miou"),
    *("always/within_24", "auc", "mean_recall", "i2t/r@5", "t2i/r@5", "i2t/p@10", "t2i/p@10"),
)


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run folder, from what lies there.

    Reads `metrics.jsonl` (one JSON object per log call: `step`, `epoch`, `stage` and metrics), `fit.yaml`, `data.json`
    (facts about the data of the fit, name to value), `calibration.json`, `predictions/test.jsonl` (see
    `medvl.outputs`) or else `predictions/predictions.jsonl`, the facts about their data, what a task that predicts no
    phrases tells in `predictions/summary.json`, and what `medvl.evidence` reads; each may be missing.

    Args:
        run_dir: The run folder, `<task>/<name>/<time>`.

    Returns:
        The path of the report.

    Raises:
        DataError: A predictions file is damaged; names the line.
    """
    run_dir = run_dir.resolve()
    series = _series(run_dir / "metrics.jsonl")
    told = next((path for name in _TOLD if (path := run_dir / "predictions" / name).is_file()), None)
    predictions = read_predictions(told) if told and _of_phrases(told) else []
    tested = predictions if told and told.name == "test.jsonl" else []
    scores = Scores.of(tested)
    task, name = run_dir.parent.parent.name, run_dir.parent.name
    summary = read_summary(run_dir / "predictions" / SUMMARY) or Summary(
        dict(scores.tiles() if scores.predictions else [])
    )
    body = [_header(task, name, run_dir), tiles(summary.tiles.items()), signs(diagnose(Evidence.of(run_dir)))]
    if scores.predictions:
        body.append(section("Test metrics", scores.table(), terms(_TERMS)))
        body.append(section("By group", scores.by_group()))
    body.append(tables(summary))
    body.append(
        section("Training", _curves(series, scores, calibration_chart(run_dir / "calibration.json")), _logged(series))
    )
    if scores.predictions:
        body.append(cases(scores))
    else:
        body += [worst(summary), samples(predictions)]
    body.append(section("What made this", *_origin(run_dir, told, tested)))
    return write_text(run_dir / "report.html", [page(f"{task} · {name}", "\n".join(filter(None, body)))])


def _header(task: str, name: str, run_dir: Path) -> str:
    found = re.match(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)", run_dir.name)
    when = f"{found[1]} {found[2]}:{found[3]}" if found else run_dir.name
    return (
        f'<header><p class="quiet">medvl · {escape(task)}</p><h1>{escape(name)}</h1>'
        f'<p class="quiet">Run of {escape(when)} · report of {datetime.now():%Y-%m-%d %H:%M}</p>'
        f'<p class="notice">{_NOTICE}</p></header>'
    )


def _of_phrases(path: Path) -> bool:
    """Tell whether a predictions file is of phrases, and not of the snippets of volumes."""
    with path.open(encoding="utf-8") as file:
        first = next(file, "")
    try:
        return "snippet" not in json.loads(first)
    except (ValueError, TypeError):
        return True  # it is damaged, and its reader says where


def _series(path: Path) -> Series:
    """Read every metric of `metrics.jsonl` as steps and values; a line cut short by a kill is passed over.

    What `medvl validate` logged is no point of the training curve, and of tests only the last is of `test.jsonl`.
    """
    series: Series = defaultdict(lambda: ([], []))
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            values = json.loads(line)
            step = float(values.get("step") or 0)
        except (ValueError, TypeError, AttributeError):
            continue
        stage = values.get("stage", "fit")
        for name, value in values.items() if stage != "validate" else ():
            if stage == "test":
                series.pop(name, None)
            if name not in ("step", "epoch") and isinstance(value, int | float) and math.isfinite(value):
                steps, points = series[name]
                steps.append(step)
                points.append(float(value))
    return dict(series)


def _curves(series: Series, scores: Scores, calibration: str) -> str:
    losses = [Line(name, *series[name]) for name in ("train/loss", "val/loss") if name in series]
    metrics = [f"val/{name}" for name in _FIRST if f"val/{name}" in series]
    metrics = metrics or sorted(name for name in series if name.startswith("val/") and "loss" not in name)[:6]
    lines = [Line(name, *series[name]) for name in metrics]
    unit = (0.0, 1.0) if all(0 <= y <= 1 for line in lines for y in line.y) else None
    charts = [
        line_chart("Loss", losses, "step"),
        line_chart("Validation metrics", lines, "step", unit),
        scores.sweep(),
        calibration,
    ]
    return f'<div class="pair">{"".join(charts)}</div>' if any(charts) else ""


def _logged(series: Series) -> str:
    """Tabulate the last and the best value of every logged metric; of a loss, the lowest is best."""
    rows = []
    for name in sorted(name for name in series if name.startswith(("val/", "test/"))):
        steps, values = series[name]
        best = (min if "loss" in name else max)(range(len(values)), key=values.__getitem__)
        rows.append((name, [f"{values[-1]:.3f}", f"{values[best]:.3f}", f"{steps[best]:,.0f}"], False))
    return folded("Every logged metric", table("", ["", "Last", "Best", "at step"], rows)) if rows else ""


def _origin(run_dir: Path, told: Path | None, tested: list[PhrasePrediction]) -> list[str]:
    config, data = run_dir / "fit.yaml", run_dir / "data.json"
    known: dict[str, Any] = json.loads(data.read_text(encoding="utf-8")) if data.is_file() else {}
    trained = {str(name): str(value) for name, value in known.items()}
    about = facts_of(told) if told else {}
    if tested:
        about["test phrases"] = f"{len(tested):,} about {len({one.image for one in tested}):,} images"
        about["test set fingerprint"] = _fingerprint(tested)
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    return [
        folded("Data trained on", facts(trained) if trained else ""),
        folded(_TOLD[told.name], facts(about)) if told and about else "",
        folded("Configuration (fit.yaml)", f"<pre>{escape(text)}</pre>" if text else ""),
        folded("Environment", facts(_environment())),
    ]


def _fingerprint(tested: list[PhrasePrediction]) -> str:
    """Hash what was asked and what is right: two reports with the same one were measured on the same phrases."""
    asked = sorted(json.dumps([one.image, one.phrase, one.gold_xyxy_px]) for one in tested)
    return hashlib.sha256("\n".join(asked).encode()).hexdigest()[:16]


def _environment() -> dict[str, str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    found = {"Python": platform.python_version(), "system": platform.platform(terse=True), "accelerator": device}
    for package in ("medvl", "torch", "lightning", "timm", "transformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
