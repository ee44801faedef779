"""What RadFinder leaves open, on the CT twin: finer depths, reports without references, hospitals, German queries.

All that is trained is the quickstart with the same steps and seeds; of each the checkpoint of the lowest depth error on
val is tested, and every model must name a depth (`always/mae`), which no silence makes better. Each part has a model
that is told what the others are not, as `reference`; arms that are asked the same sentences are compared with it by
pairs (`more_than_reference`, mm):

`resolution`: spacings of the slices that the network sees; a token covers four. Beside the errors, those of the finest
one's answers moved to coarser grids: what is lost by the grid alone, not by what the network sees.
`weak`: sentences are taught to lie where their organ does (`OrganExtents`), alone or with the references of a tenth of
the patients, and that tenth alone. Where the organ is, is what a perfect segmentation would say.
`sites`: trained without a hospital, tested on its scans; beside a model that has as many studies, of all hospitals.
`german`: German sentences about the same scans. English reports all along; snippets are English, German, or both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.training import Trainings, films, trainings
from benchmarks.volume_localization import tested, train
from benchmarks.volume_scores import Runs
from datamodules.sources.snippets import FILE
from datamodules.twins.mimic_cxr import FACTORS
from datamodules.twins.torso_scan import SITES
from medvl.errors import ConfigError, nearest
from medvl.io.atomic import write_text
from medvl.metrics.bootstrap import Interval, patient_bootstrap
from medvl.viz.chart import Line
from medvl.viz.figure import line_figure
from tasks.volume.judged import RESOLUTIONS, Judged

SPACINGS = (7.5, 3.0, 1.5)  # mm, beside the quickstart's 5: tokens of 30, 20, 12 and 6 mm
KNOWN = 0.1  # share of the patients whose reports cite images
TESTED_ON = 3000  # added to the seed: of the twins of one hospital that are tested on
Arms = dict[str, Runs]


class Questions:
    """Trains and tests the arms of each part.

    Args:
        done: Where trainings are kept.
        seeds: Of weights and order.
        steps: Of each training.
        studies: Of each twin.
        seed: Of the twins.
        size: Voxels across a slice; 0 is the twin's own.
    """

    def __init__(self, done: Trainings, seeds: range, steps: int, studies: int, seed: int, size: int) -> None:
        self.done, self.seeds, self.steps, self.studies, self.seed, self.size = done, seeds, steps, studies, seed, size
        self.twin = self.written()

    def written(self, *options: str, studies: int = 0, seed: int = 0) -> Path:
        """Return a twin with `options`."""
        return self.done.twin("ct-rate", *films(studies or self.studies, self.seed + seed, self.size), *options)

    def arm(self, *options: str, twin: Path | None = None, on: tuple[str, ...] = ()) -> Runs:
        """Train with `options` and test on the same twin, or as `on` says, once per seed."""
        runs = (train(self.done, twin or self.twin, seed, self.steps, *options) for seed in self.seeds)
        return [tested(self.done, run, *on) for run in runs]

    def resolution(self) -> Arms:
        """Return the arms by the length of a token."""
        coarse = {f"{4 * step:g} mm": ("--data.spacing", f"[{step},4.0,4.0]") for step in SPACINGS}
        return {"reference": self.arm()} | {name: self.arm(*options) for name, options in coarse.items()}

    def weak(self) -> Arms:
        """Return the arms by what is known of depths; val is as poor as train."""
        organs = ("--data.organs.path", str(self.twin / FACTORS))
        some = ("--data.organs.known", str(KNOWN))
        arms = {"organs": organs, f"organs, {KNOWN:.0%} cited": (*organs, *some), f"{KNOWN:.0%} cited": some}
        return {"reference": self.arm()} | {name: self.arm(*options) for name, options in arms.items()}

    def sites(self) -> Arms:
        """Return the arms `all sites` and `left out`, each on the same scans of one hospital after another."""
        arms: Arms = {"reference": [[] for _ in self.seeds], "left out": [[] for _ in self.seeds]}
        every = [str(at) for at in range(len(SITES))]
        for site in every:
            scans = self.written("--sites", site, studies=max(1, self.studies // 4), seed=TESTED_ON + int(site))
            on = ("--data.source.root", str(scans), "--data.source.split", "test")
            others = self.written("--sites", ",".join(name for name in every if name != site))
            for name, twin in (("reference", self.twin), ("left out", others)):
                for held, lines in zip(arms[name], self.arm(twin=twin, on=on), strict=True):
                    held += lines  # patients' names are salted anew in each, so none is taken for another
        return arms

    def german(self) -> Arms:
        """Return the arms by the language of the snippets that are trained on, and tested on."""
        tables = {"en": self.twin / FILE, "de": self.written("--language", "de") / FILE}
        both = self.done.place / "twins" / f"{self.twin.name}-both.jsonl"
        tables["both"] = write_text(both, [tables[name].read_text(encoding="utf-8") for name in ("en", "de")])
        read = {name: ("--data.source.snippets", str(path)) for name, path in tables.items()}
        taught = read | {"en": ()}  # the quickstart's own
        arms = {"reference": ("de", "de")} | {f"{a} → {b}": (a, b) for a in ("en", "both") for b in ("en", "de")}
        return {name: self.arm(*taught[first], on=read[asked]) for name, (first, asked) in arms.items()}


PARTS: dict[str, Callable[[Questions], Arms]] = {
    "resolution": Questions.resolution,
    "weak": Questions.weak,
    "sites": Questions.sites,
    "german": Questions.german,
}
ASKED = {"resolution": f"{4 * SPACINGS[-1]:g} mm", "weak": "organs", "sites": "left out", "german": "en → de"}


def run(
    parts: list[str] | None = None,
    seed: int = 0,
    seeds: int = 3,
    steps: int = 1700,
    studies: int = 2000,
    size: int = 0,
    keep: str = "",
) -> dict[str, Any]:
    """Train and test the arms of some parts; five hours of one core for the 11 trainings of each seed.

    Args:
        parts: Of `resolution`, `weak`, `sites` and `german`; all by default.
        seed: Of the twins, and the first of the seeds.
        seeds: How many times each arm is trained.
        steps: Training steps of each.
        studies: Of each twin.
        size: Voxels across a slice; 0 is the twin's own.
        keep: Folder where trainings are kept; the first of volume-localization's is found there.
    """
    for name in parts or ():
        if name not in PARTS:
            raise ConfigError(f"no part {name!r}", where="--parts", hint=nearest(name, PARTS))
    with trainings(keep) as done:
        asked = Questions(done, range(seed, seed + seeds), steps, studies, seed, size)
        arms = {name: PARTS[name](asked) for name in parts or PARTS}
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "commits": sorted(done.commits)}
    return write(arms, seed, budget)


def write(arms: dict[str, Arms], seed: int, budget: dict[str, Any]) -> dict[str, Any]:
    """Print a table, draw the curve and write the result; parts that were measured before are kept."""
    found = {part: {name: Judged.of(*runs).figures() for name, runs in own.items()} for part, own in arms.items()}
    print(markdown({part: {name: row["always/mae"] for name, row in own.items()} for part, own in found.items()}))
    if "resolution" in found:
        draw(found["resolution"])
    figures = ("mae", "always/mae", "always/median", "within_12", "within_24", "auroc_absent")
    rows = {
        part: {name: {key: list(row[key]) for key in figures} for name, row in own.items()}
        for part, own in found.items()
    }
    for part, own in arms.items():
        for name, gap in differences(own).items():
            rows[part][name]["more_than_reference"] = list(gap)
    if "resolution" in rows:
        finest = found["resolution"][ASKED["resolution"]]
        rows["resolution"]["grid alone"] = {f"mae@{step}mm": list(finest[f"mae@{step}mm"]) for step in RESOLUTIONS}
    before = harness.RESULTS / "volume-questions.json"
    kept = json.loads(before.read_text(encoding="utf-8"))["parts"] if before.exists() else {}
    parts = kept | {part: {"arms": row, "seed": seed, **budget} for part, row in rows.items()}

    def means(arm: Callable[[str], str]) -> dict[str, float]:
        return {part: one["arms"][arm(part)]["always/mae"][0] for part, one in parts.items()}

    return harness.write_result(
        "volume-questions",
        unit="mean error in mm, a depth must be named: what is asked, beside a model that is told; lower is better",
        ours=means(ASKED.__getitem__),
        peers={"reference": means(lambda part: "reference")},
        n=max(sum(bool(one.gold) for one in own["reference"][0]) for own in arms.values()),
        seed=seed,
        higher_is_better=False,
        parts=parts,
    )


def differences(arms: Arms) -> dict[str, Interval]:
    """Return how much further off each arm is than the reference, in mm, if both are asked the same sentences."""
    told, found = Judged.of(*arms["reference"]), {}
    for name, runs in arms.items():
        one = Judged.of(*runs)
        if name != "reference" and _keys(runs) == _keys(arms["reference"]):
            found[name] = patient_bootstrap(one.means["always/mae"] - told.means["always/mae"], told.patients, n=1000)
    return found


def _keys(runs: Runs) -> list[tuple[object, ...]]:
    return [(one.volume, one.snippet, one.gold) for one in runs[0]]


def draw(row: dict[str, dict[str, Interval]]) -> None:
    """Draw the error by the length of a token, and what the grid alone costs."""
    named = {name if name != "reference" else "20 mm": one["always/mae"] for name, one in row.items()}
    trained = {float(name.split()[0]): one for name, one in named.items()}
    asked = ASKED["resolution"]
    curves = {
        "seen at this length": dict(sorted(trained.items())),
        f"seen at {asked}, answered at it": {float(step): row[asked][f"mae@{step}mm"] for step in RESOLUTIONS},
    }
    lines = [Line(name, list(own), [one.mean for one in own.values()]) for name, own in curves.items()]
    bounds = [([one.low for one in own.values()], [one.high for one in own.values()]) for own in curves.values()]
    path, title = harness.RESULTS / "volume-questions.png", "Sentences in CT volumes"
    line_figure(path, title, lines, "length of a token, mm", "mean error, mm", bounds, x_log=True)


def markdown(parts: dict[str, dict[str, Interval]]) -> str:
    """Return a table with a row per arm."""
    rows = ["| | trained on | mean error, mm |", "|---|---|---|"]
    for part, own in parts.items():
        rows += [f"| {part} | {name} | {one.mean:.1f} ({one.low:.1f}–{one.high:.1f}) |" for name, one in own.items()]
    return "\n".join(rows)
