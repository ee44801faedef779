"""The audit of a clean-up: what each rule did to how many pairs, with samples. It holds report text."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.cleanup.rules import RULES, Change, Cleaned, Cleanup, anatomies
from datamodules.records import PhraseRecord, Problem
from medvl.io.atomic import write_text

_OUTCOMES = ("dropped", "emptied", "trimmed")
Audit = dict[str, Any]


def audit(
    given: Sequence[PhraseRecord],
    cleaned: Cleaned,
    cleanup: Cleanup,
    problems: Iterable[Problem] = (),
    asked: Mapping[str, Any] | None = None,
    samples: int = 5,
) -> Audit:
    """Return what was done.

    Args:
        given: The pairs before.
        cleaned: The pairs after, and every change.
        cleanup: The rules' settings.
        problems: What the source could not read, or remarked.
        asked: Which language model was asked, and its counts.
        samples: Changes to show of each rule: those with the lowest hash, so that they are spread evenly, are the same
            each time, and stay when pairs are added.
    """
    return {
        "settings": {"negated": cleanup.negated, "non_diagnostic": cleanup.non_diagnostic, "off": sorted(cleanup.off)},
        "before": _counts(given),
        "after": _counts(cleaned.records),
        "rules": {rule: _rule([c for c in cleaned.changes if c.rule == rule], samples) for rule in RULES},
        "llm": dict(asked) if asked else None,
        "source_problems": dict(sorted(Counter(problem.code for problem in problems).items())),
    }


def _counts(records: Sequence[PhraseRecord]) -> dict[str, int]:
    return {
        "pairs": len(records),
        "with_boxes": sum(bool(record.boxes) for record in records),
        "boxes": sum(len(record.boxes) for record in records),
        "images": len({record.path for record in records}),
    }


def _rule(changes: list[Change], samples: int) -> Audit:
    outcomes = Counter(change.outcome for change in changes)
    boxes = sum(len(c.before.boxes) - (len(c.after.boxes) if c.after else 0) for c in changes)
    chosen = sorted(changes, key=_lot)[:samples]
    return {name: outcomes[name] for name in _OUTCOMES} | {
        "boxes_removed": boxes,
        "samples": list(map(_sample, chosen)),
    }


def _lot(change: Change) -> str:
    return hashlib.sha256(f"{change.before.path}\n{change.before.phrase}".encode()).hexdigest()


def _sample(change: Change) -> Audit:
    return {
        "row": change.before.row,
        "sentence": change.before.phrase,
        "before": anatomies(change.before),
        "after": anatomies(change.after) if change.after else None,
    }


def write_audit(folder: Path, found: Audit) -> tuple[Path, Path]:
    """Write `audit.json` and `audit.md`; return their paths."""
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    return write_text(folder / "audit.json", [text]), write_text(folder / "audit.md", markdown(found))


def markdown(found: Audit) -> list[str]:
    """Return an audit as lines of Markdown."""
    before, after = found["before"], found["after"]
    lines = ["# Clean-up of weak labels", "", "Holds sentences of reports: treat it as you treat the data set.", ""]
    lines += ["| | before | after |", "|---|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {before[name]:,} | {after[name]:,} |" for name in before]
    lines += ["", "| rule | pairs dropped | emptied | trimmed | boxes removed |", "|---|---|---|---|---|"]
    for rule, one in found["rules"].items():
        cells = [f"{one[name]:,}" for name in (*_OUTCOMES, "boxes_removed")]
        lines.append(f"| {rule}{' (off)' if rule in found['settings']['off'] else ''} | {' | '.join(cells)} |")
    for title, counts in (("Language model", found["llm"]), ("What the source remarked", found["source_problems"])):
        if counts:
            lines += ["", f"## {title}", "", *(f"- {name}: {_figure(value)}" for name, value in counts.items())]
    for rule, one in found["rules"].items():
        if one["samples"]:
            lines += ["", f"## Samples: {rule}", "", *map(_line, one["samples"])]
    return [f"{line}\n" for line in lines]


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _line(sample: Audit) -> str:
    after = "dropped" if sample["after"] is None else ", ".join(sample["after"]) or "no box"
    sentence = sample["sentence"].replace("|", "\\|").replace("<", "&lt;")
    return f"- “{sentence}” — {', '.join(sample['before']) or 'no box'} → {after} ({sample['row']})"
