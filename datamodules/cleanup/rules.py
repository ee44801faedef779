"""The rules of the clean-up, one after another, and what each did to which pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from datamodules.cleanup.regions import denied, redundant
from datamodules.cleanup.statuses import Judge, Status, judge_by_words
from datamodules.records import PhraseRecord
from medvl.errors import ConfigError, nearest

RULES = ("negated", "non-diagnostic", "llm-negated", "llm-non-diagnostic", "denied", "redundant")
"""In the order in which they are tried; of those before `denied` a pair meets one at most."""
Fate = Literal["empty", "drop"]


@dataclass(frozen=True)
class Cleanup:
    """How to clean.

    Attributes:
        negated: What becomes of a sentence that affirms no finding: `empty` keeps it without boxes, `drop` does not.
        non_diagnostic: The same for one that says nothing of the image.
        off: Rules that are not applied, of `RULES`.

    Raises:
        ConfigError: An unknown rule.
    """

    negated: Fate = "empty"
    non_diagnostic: Fate = "drop"
    off: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in self.off:
            if name not in RULES:
                raise ConfigError(f"no rule {name!r} to leave out", hint=nearest(name, RULES))


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule did to a pair.

    Attributes:
        rule: Which of `RULES`.
        before: The pair as the rule met it.
        after: The pair as it left it; None where it is dropped.
    """

    rule: str
    before: PhraseRecord
    after: PhraseRecord | None

    @property
    def outcome(self) -> str:
        """`dropped`, `emptied` (no box left) or `trimmed` (fewer boxes)."""
        return "dropped" if self.after is None else "trimmed" if self.after.boxes else "emptied"

    @property
    def lost(self) -> list[str]:
        """The anatomies that the pair lost."""
        left = set(anatomies(self.after)) if self.after else set()
        return [name for name in anatomies(self.before) if name not in left]


@dataclass(frozen=True)
class Cleaned:
    """The pairs that are left, in the order in which they came, and every change."""

    records: list[PhraseRecord] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def clean(
    records: Iterable[PhraseRecord],
    cleanup: Cleanup | None = None,
    judge: Judge = judge_by_words,
    verdicts: Mapping[str, Status] | None = None,
) -> Cleaned:
    """Apply the rules to pairs of Chest ImaGenome.

    Args:
        records: Sentences with the boxes of anatomies (`attributes` has `locations` and `context`).
        cleanup: Which rules, and what they do.
        judge: Tells what a sentence does.
        verdicts: What a second judge, a language model, said of sentences that the first took for findings.
    """
    cleanup, done, known = cleanup or Cleanup(), Cleaned(), dict[str, Status]()
    for record in records:
        text = record.phrase
        status = known[text] if text in known else known.setdefault(text, judge(text))
        kept = _by_status(record, status, "", cleanup, done.changes)
        if kept is record and status is Status.FINDING and verdicts and text in verdicts:
            kept = _by_status(record, verdicts[text], "llm-", cleanup, done.changes)
        if kept is not None and len(kept.boxes) > 1:
            kept = _by_place(kept, cleanup, done.changes)
        if kept is not None:
            done.records.append(kept)
    return done


def open_questions(records: Iterable[PhraseRecord], judge: Judge = judge_by_words) -> list[str]:
    """Return the sentences with boxes that the rules take for findings, each once: what a second judge is asked."""
    sentences = dict.fromkeys(record.phrase for record in records if record.boxes)
    return [sentence for sentence in sentences if judge(sentence) is Status.FINDING]


def anatomies(record: PhraseRecord) -> list[str]:
    """Return the anatomies that a pair is attached to, those that share a box one by one."""
    return [name for part in _parts(record, "locations") for name in part.split(" + ") if name]


def _by_status(
    record: PhraseRecord, status: Status, judge: str, cleanup: Cleanup, changes: list[Change]
) -> PhraseRecord | None:
    if status is Status.FINDING:
        return record
    empty = status is Status.NON_DIAGNOSTIC
    rule = f"{judge}{'non-diagnostic' if empty else 'negated'}"
    if rule in cleanup.off:
        return record
    after = None
    if (cleanup.non_diagnostic if empty else cleanup.negated) == "empty":
        after = replace(_keep(record, set()), abnormal=None if empty else False)
    if after is None or record.boxes:
        changes.append(Change(rule, record, after))
    return after


def _by_place(record: PhraseRecord, cleanup: Cleanup, changes: list[Change]) -> PhraseRecord:
    for rule in ("denied", "redundant"):
        if rule in cleanup.off:
            continue
        names = [part.split(" + ")[0] for part in _parts(record, "locations")] or [""] * len(record.boxes)
        told = _parts(record, "context")
        gone = denied(told) if rule == "denied" else redundant(names, record.boxes, record.phrase)
        if gone:
            after = _keep(record, set(range(len(record.boxes))) - gone)
            changes.append(Change(rule, record, after))
            record = after
    return record


def _keep(record: PhraseRecord, chosen: set[int]) -> PhraseRecord:
    """Return a pair with some of its boxes, and what is known of them."""
    told = {name: _parts(record, name) for name in ("locations", "context")}
    left = {name: "; ".join(part for i, part in enumerate(parts) if i in chosen) for name, parts in told.items()}
    attributes = {name: text for name, text in record.attributes.items() if name not in left}
    attributes |= {name: left[name] for name in left if chosen and name in record.attributes}
    return replace(record, boxes=tuple(record.boxes[i] for i in sorted(chosen)), attributes=attributes)


def _parts(record: PhraseRecord, name: str) -> list[str]:
    text = record.attributes.get(name)
    return [] if text is None else text.split("; ")
