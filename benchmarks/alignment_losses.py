"""Does mining help? MedTrim's triplets against other losses on a twin whose images carry disease, side and severity.

Every loss trains the quickstart's model for as many encoder forward passes, after the same sweep of learning rate and
temperature or margin on another twin's val. What counts as alike in the test is what the renderer painted: neither the
data set's labels nor any extractor's output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.alignment_methods import BATCH, METHODS, Bench, Method
from benchmarks.alignment_scores import HEADLINE, Compared, Truth, compare, markdown
from benchmarks.training import CONFIGS, Trainings, films, logged, trainings
from medvl.errors import ConfigError, nearest
from medvl.viz.chart import Line
from medvl.viz.figure import bar_figure, line_figure

PARTS = ("losses", "entities", "transfer", "settings")  # in the order in which they are done
SWEPT_ON = 1000  # added to the seed: of the twin that losses are tuned on
TOLD = ("medtrim-centred", "soft-infonce")  # what is told entities, with triplets and without
ZERO_SHOT = {  # without `--data.source.split test` a part of the images would be held back for training
    "chexpert": ("--data.source", "CheXpert", "--data.source.unpaired", "true", "--data.source.split", "test"),
    "rsna": (
        "--data.source",
        "ImageLabels",
        "--data.source.source",
        "RSNAPneumonia",
        "--data.source.source.split",
        "test",
    ),
}
ROOTS = {"chexpert": "--data.source.root", "rsna": "--data.source.source.root"}
UNTOLD = ("--data.entities", "null", "--data.remine_every", "null")  # entities are of the twin that was trained on
P_AT_10 = "P@10 by class, images to texts and back"


def run(
    seed: int = 0,
    seeds: int = 3,
    steps: int = 400,
    tune_steps: int = 120,
    setting_steps: int = 200,
    studies: int = 1200,
    size: int = 0,
    parts: list[str] = list(PARTS),  # noqa: B006  # read only; `medvl bench` shows it as the default
    keep: str = "",
) -> dict[str, Any]:
    """Compare losses, then what MedTrim is told, zero-shot elsewhere, and how MedTrim is set.

    The result file is written after each part.

    Args:
        seed: Of the twin, and the first of the seeds.
        seeds: How many times each model is trained; settings are tried with the first alone.
        steps: Of a loss without triplets; one with triplets encodes as many studies.
        tune_steps: The same of each trial of the sweep; 0 takes the first of each grid unswept.
        setting_steps: The same of each setting that is tried.
        studies: Of each twin.
        size: Longest side of the films; 0 draws it for each.
        parts: Of losses, entities, transfer and settings; losses is always part of it.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ConfigError(f"no part {unknown[0]!r}", where="--parts", hint=nearest(unknown[0], PARTS))
    with trainings(keep) as done:
        bench = Bench.write(done, steps, *films(studies, seed, size))
        chosen, swept = choose(done, seed, tune_steps, films(studies, seed + SWEPT_ON, size))
        study = Study(bench, chosen, tuple(range(seed, seed + seeds)))
        found = study.losses()
        told: dict[str, Any] = {"swept": swept, "chosen": {name: _told(one) for name, one in chosen.items()}}
        told |= {"encoded_studies": steps * BATCH, "studies": studies}
        result = write(study, found, told)
        for part in [name for name in PARTS[1:] if name in parts]:
            if part == "transfer":
                told[part] = study.transfer(films(studies, seed + 2 * SWEPT_ON, size))
            elif part == "settings":
                told[part] = replace(study, bench=replace(bench, steps=setting_steps)).settings()
            else:
                told[part] = study.entities()
            result = write(study, found, told)
    return result


def write(study: Study, found: Compared, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write what is known so far."""
    first, *others = found.metrics
    return harness.write_result(
        "alignment-losses",
        unit=f"{P_AT_10}; relevance is what was painted",
        ours=found.headline(first),
        peers={name: found.headline(name) for name in others},
        n=len(study.truth.studies),
        seed=study.seeds[0],
        chance=found.chance,
        seeds=len(study.seeds),
        minority=study.truth.rare,
        commits=sorted(study.bench.done.commits),
        metrics=_plain(found.metrics),
        ahead=_plain(found.ahead),
        **told,
    )


def choose(done: Trainings, seed: int, steps: int, twin: Sequence[str]) -> tuple[dict[str, Method], dict[str, Any]]:
    """Return the best variant of each loss, and P@10 on val of every variant."""
    if not steps:
        return {name: method.variants()[0] for name, method in METHODS.items()}, {}
    bench = Bench.write(done, steps, *twin)
    swept = {name: bench.sweep(method, seed + SWEPT_ON) for name, method in METHODS.items()}
    return {name: best for name, (best, _) in swept.items()}, {name: trials for name, (_, trials) in swept.items()}


@dataclass
class Study:
    """What is trained on the first twin.

    Attributes:
        bench: The twin.
        chosen: The variant of each loss.
        seeds: Of the trainings.
        truth: What was painted in the test studies.
    """

    bench: Bench
    chosen: Mapping[str, Method]
    seeds: tuple[int, ...]
    truth: Truth = field(init=False)

    def __post_init__(self) -> None:
        """Read what was painted."""
        self.truth = Truth.read(self.bench.twin)

    def compare(self, methods: Mapping[str, Method], seeds: Sequence[int] = ()) -> Compared:
        """Train methods with every seed, unless others are named, and compare them."""
        runs = {
            name: [self.bench.embeddings(method, seed) for seed in seeds or self.seeds]
            for name, method in methods.items()
        }
        return compare(self.truth, runs)

    def losses(self) -> Compared:
        """Compare all losses."""
        found = self.compare(self.chosen)
        print(markdown(found))
        draw_bars(harness.RESULTS / "alignment-losses.png", "Losses, equal encoder passes", found)
        return found

    def entities(self) -> dict[str, Any]:
        """Compare entities as painted, as extracted, and as extracted with every status ignored."""
        methods = {
            f"{name}, {whose}": replace(self.chosen[name], entities=whose)
            for name in TOLD
            for whose in ("oracle", "ours", "negation-off")
        }
        found = self.compare(methods)
        print(markdown(found))
        draw_bars(harness.RESULTS / "alignment-entities.png", "Whose entities", found)
        return {"metrics": _plain(found.metrics), "ahead": _plain(found.ahead)}

    def settings(self) -> dict[str, Any]:
        """Try MedTrim's settings one at a time, one seed each, and draw each."""
        found = {}
        for name, lines in grids(self.chosen[TOLD[0]]).items():
            methods = {f"{line} @ {x}": method for line, points in lines.items() for x, method in points.items()}
            compared = self.compare(methods, self.seeds[:1])
            draw_setting(harness.RESULTS / f"alignment-{name}.png", name, lines, compared)
            found[name] = {key: list(row[HEADLINE]) for key, row in compared.metrics.items()}
            print(*(f"| {name} | {key} | {value[0]:.3f} |" for key, value in found[name].items()), sep="\n")
        return found

    def transfer(self, twin: Sequence[str]) -> dict[str, Any]:
        """Test models with and without an ontology zero-shot on twins of other data sets, in other words."""
        found: dict[str, Any] = {}
        for kind, options in ZERO_SHOT.items():
            more = ("--no-split",) if kind == "chexpert" else ()
            root = self.bench.done.twin(kind, *twin, *more)
            words = ("--config", str(CONFIGS / "zero_shot" / f"{kind}.yaml"), *options, ROOTS[kind], str(root), *UNTOLD)
            for name in (*TOLD, "infonce-centred", "infonce"):
                logs = [self._zero_shot(name, seed, words) for seed in self.seeds]
                auc = [logged(log, "test/zero_shot/auc")[-1] for log in logs]
                found.setdefault(kind, {})[name] = {"auc": float(np.mean(auc)), "by_seed": auc}
                print(f"| {kind} | {name} | {np.mean(auc):.3f} ({min(auc):.3f}–{max(auc):.3f}) |")
        return found

    def _zero_shot(self, name: str, seed: int, words: Sequence[str]) -> Path:
        run = self.bench.train(self.chosen[name], seed)
        return self.bench.done.tested(run, "metrics.jsonl", "--ckpt_path", "last", *words)


Grid = dict[str, dict[Any, Method]]  # of each line its points


def grids(base: Method) -> dict[str, Grid]:
    """Return what is tried: of each setting lines of methods by the setting's value."""
    return {
        "gamma": {
            "rest to adjectives and directions, 2 to 1": {
                first: base.with_mining(gamma=[first, round((1 - first) * 2 / 3, 4), round((1 - first) / 3, 4)])
                for first in (0.4, 0.7, 0.85, 1.0)
            }
        },
        "tau": {
            f"tau_min {low}": {high: base.with_mining(tau_min=low, tau_max=high) for high in (0.4, 0.6, 0.85)}
            for low in (0.0, 0.25)
        },
        "eta": {"eta": {eta: base.with_loss(eta=eta) for eta in (0.0, 0.25, 0.5, 0.75, 1.0)}},
        "margin": {"margin": {margin: base.with_loss(margin=margin) for margin in (0.1, 0.3, 0.6, 1.0)}},
        "paired": {"paired": {weight: base.with_loss(paired=weight) for weight in (0.0, 0.5, 1.0)}},
        "terms": {"": {"all": base, **dict(_left_out(base))}},
    }


def _left_out(base: Method) -> Iterator[tuple[str, Method]]:
    terms = ("ii", "tt", "it", "ti")
    for term in terms:
        yield f"without {term}", base.with_loss(terms=[one for one in terms if one != term])


def draw_setting(path: Path, name: str, lines: Grid, found: Compared) -> Path:
    """Draw P@10 over a setting: bars where its values are no numbers."""
    if name == "terms":
        return draw_bars(path, "Each term of the loss left out", found)
    drawn, bounds = [], []
    for line, points in lines.items():
        rows = [found.metrics[f"{line} @ {x}"][HEADLINE] for x in points]
        drawn.append(Line(line, list(points), [row.mean for row in rows]))
        bounds.append(([row.low for row in rows], [row.high for row in rows]))
    label = {"gamma": "gamma_0", "tau": "tau_max", "paired": "weight of the paired term"}.get(name, name)
    return line_figure(path, f"MedTrim, centred: {name}, one seed", drawn, label, P_AT_10, bounds)


def draw_bars(path: Path, title: str, found: Compared) -> Path:
    """Draw P@10 of each method beside chance."""
    bars = {name.removeprefix(" @ "): row[HEADLINE] for name, row in found.metrics.items()}
    return bar_figure(path, title, bars, P_AT_10, found.chance[HEADLINE])


def _told(method: Method) -> dict[str, Any]:
    mining = {"mining": dict(method.mining)} if method.mining else {}
    return {"rate": method.rate, "centred": method.centred, **method.arguments, **mining}


def _plain(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    return {name: {key: list(interval) for key, interval in row.items()} for name, row in rows.items()}
