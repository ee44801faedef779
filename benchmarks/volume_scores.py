"""Several models on the same CT snippets: every figure with its patient-bootstrap interval, averaged over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datamodules.twins.mimic_cxr import FACTORS
from medvl.metrics.bootstrap import Interval, bootstrap_statistics
from medvl.metrics.boxes import Array
from tasks.volume.judged import Judged
from tasks.volume.predictions import SnippetResult

Runs = list[list[SnippetResult]]
FIGURES = {"mae_mm": "mae", "median_mm": "median", "within_12_mm": "within_12", "within_24_mm": "within_24"}


@dataclass(frozen=True)
class Compared:
    """All methods on the same draws of patients.

    Attributes:
        metrics: By method and figure.
        peers: All but ours, the strictest first: the one of the lowest error where each must name a depth.
        ratio: Our mean error, silence counted, over that of the strictest peer, which is not silent.
        always_ratio: The same where we too must name a depth.
        shown: Snippets that their scan shows.
    """

    metrics: dict[str, dict[str, Interval]]
    peers: list[str]
    ratio: Interval
    always_ratio: Interval
    shown: int

    @classmethod
    def of(cls, runs: Mapping[str, Runs], draws: int = 1000) -> Compared:
        """Compare methods, `ours` with all others.

        Args:
            runs: What each method and seed says of the same snippets.
            draws: Draws of patients.

        Raises:
            ValueError: Two runs speak of others.
        """
        Judged.of(*(seeds[0] for seeds in runs.values()))  # that they are the same
        judged = {name: Judged.of(*seeds) for name, seeds in runs.items()}
        names = judged["ours"].names
        errors = {name: float(np.nanmean(one.means["always/mae"])) for name, one in judged.items() if name != "ours"}
        peers = sorted(errors, key=lambda name: errors[name])
        strictest = list(judged).index(peers[0])

        def statistics(weights: Array) -> Array:
            found = np.stack([one.statistics(weights) for one in judged.values()], axis=1)
            ours, bar = list(judged).index("ours"), found[:, strictest, names.index("always/mae")]
            ratios = [found[:, ours, names.index(name)] / bar for name in ("mae", "always/mae")]
            return np.concatenate([found.reshape(len(weights), -1), np.stack(ratios, axis=1)], axis=1)

        items = 4 * len(judged["ours"].shown)
        found = bootstrap_statistics(statistics, judged["ours"].patients, n=draws, items=items)
        rows = [dict(zip(names, found[i : i + len(names)], strict=True)) for i in range(0, len(found) - 2, len(names))]
        shown = int(judged["ours"].shown.sum())
        return cls(dict(zip(judged, rows, strict=True)), peers, found[-2], found[-1], shown)

    def row(self, name: str) -> dict[str, float]:
        """Return the headline of a method: peers must name a depth, ours may be silent at its cost."""
        kind = "" if name == "ours" else "always/"
        row = {key: self.metrics[name][f"{kind}{figure}"].mean for key, figure in FIGURES.items()}
        return row | {"absent_auroc": self.metrics[name]["auroc_absent"].mean}

    def breakdown(self, kind: str) -> dict[str, dict[str, list[float]]]:
        """Return mean errors by `organ` or `size`, of every method with its interval."""
        keys = [key for key in self.metrics["ours"] if key.startswith(f"{kind}/") and key.endswith("/mae")]
        return {key.split("/")[1]: {name: list(row[key]) for name, row in self.metrics.items()} for key in sorted(keys)}

    def bars(self) -> dict[str, Interval]:
        """Return the mean errors to be drawn."""
        ours = self.metrics["ours"]
        found = {"ours, silence counted": ours["mae"], "ours, must answer": ours["always/mae"]}
        return found | {name: self.metrics[name]["always/mae"] for name in self.peers}

    def markdown(self) -> str:
        """Return a table with a row per method."""
        columns = ("mae", "median", "within_12", "within_24")
        rows = ["| | mean, mm | median, mm | ≤ 12 mm | ≤ 24 mm | AUROC, absent |", "|---|---|---|---|---|---|"]
        kinds = [("ours, silence counted", "ours", ""), ("ours, must answer", "ours", "always/")]
        for title, name, kind in [*kinds, *((peer, peer, "always/") for peer in self.peers)]:
            row = self.metrics[name]
            cells = [_cell(row[f"{kind}{key}"], 1 if at < 2 else 3) for at, key in enumerate(columns)]
            rows.append(f"| {title} | {' | '.join([*cells, _cell(row['auroc_absent'], 3)])} |")
        return "\n".join(rows)


def in_the_organ(results: Sequence[SnippetResult], twin: Path) -> list[SnippetResult]:
    """Answer the middle of the organ that a sentence is about, on the side it names; else of the scan.

    Args:
        results: Of a twin's first reconstructions.
        twin: Its folder, which says where every organ of a scan lies.
    """
    factors = [json.loads(line) for line in (twin / FACTORS).read_text(encoding="utf-8").splitlines()]
    scans = {one["volumes"][0]: one for one in factors}

    def middle(one: SnippetResult) -> float:
        scan = scans[Path(one.volume).name.removesuffix(".nii.gz")]
        sides = {snippet["text"]: snippet["claim"]["side"] for snippet in scan["snippets"]}
        names = (f"{sides.get(one.snippet, '')}_{one.organ}", one.organ)
        ends: tuple[float, float] = next((scan["organs"][name] for name in names if name in scan["organs"]), one.scan)
        return sum(ends) / 2

    return [replace(one, mm=middle(one), present=1.0) for one in results]


def _cell(interval: Interval, digits: int) -> str:
    mean, low, high = (f"{value:.{digits}f}" for value in interval)
    return f"{mean} ({low}–{high})"
