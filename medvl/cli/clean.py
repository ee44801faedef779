"""`medvl data clean`: weak labels in, a table of cleaned pairs and an audit out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvl.cli.plain import Parser, names
from medvl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datamodules.cleanup.audit import Audit
    from datamodules.cleanup.verdicts import Asking, Model
    from datamodules.records import PhraseRecord
    from datamodules.sources.base import PhraseSource

FORMATS = ("imagenome",)  # whose labels are weak
OPTIONS = {
    "output", "negated", "non_diagnostic", "off", "samples", "dry_run", "llm", "llm_endpoint", "llm_model", "llm_key",
    "llm_batch", "llm_tokens", "llm_timeout", "llm_retries", "llm_pause", "llm_workers", "llm_cache",
    "allow_remote_report_text",
}  # fmt: skip
"""What `add_arguments` adds; the source's own options stand beside them."""


def add_arguments(parser: Parser) -> None:
    """Add the options of `medvl data clean`."""
    parser.add_argument("format", choices=FORMATS, help="whose weak labels to clean")
    parser.add_argument("root", help="its folder")
    parser.add_argument("--output", type=Path, help="folder for pairs.parquet, audit.json and audit.md (report text!)")
    parser.add_argument("--negated", choices=("empty", "drop"), default="empty", help="keep without boxes, or drop")
    parser.add_argument("--non-diagnostic", choices=("drop", "empty"), default="drop", help="the same for these")
    parser.add_argument("--off", type=names, default=[], metavar="RULE,...", help="rules not to apply")
    parser.add_argument("--samples", type=int, default=5, help="changes to show of each rule in the audit (5)")
    parser.add_argument("--dry-run", action="store_true", help="count and show the prompt; ask nobody, write nothing")
    model = parser.add_argument_group("language model", "asked after the rules, about what they take for findings")
    model.add_argument("--llm", metavar="MODEL", help="causal LM of transformers: a folder or a hub id")
    model.add_argument("--llm-endpoint", metavar="URL", help="OpenAI-compatible endpoint, http://localhost:8000/v1")
    model.add_argument("--llm-model", metavar="NAME", help="the model's name at the endpoint")
    model.add_argument("--llm-key", metavar="VARIABLE", help="environment variable that holds the endpoint's key")
    model.add_argument("--llm-batch", type=int, default=20, help="sentences in one question (20)")
    model.add_argument("--llm-tokens", type=int, default=2048, help="longest answer (2048)")
    model.add_argument("--llm-timeout", type=float, default=120, help="seconds to wait for an answer (120)")
    model.add_argument("--llm-retries", type=int, default=3, help="how often to ask again (3)")
    model.add_argument("--llm-pause", type=float, default=1, help="seconds before that, doubled each time (1)")
    model.add_argument("--llm-workers", type=int, default=1, help="questions to an endpoint under way at once (1)")
    model.add_argument("--llm-cache", type=Path, help="file to keep verdicts in (in the cache folder)")
    model.add_argument(
        "--allow-remote-report-text",
        action="store_true",
        help="let report text leave this machine (docs/cleanup.md)",
    )


def clean(source: PhraseSource, given: dict[str, Any]) -> int:
    """Clean a data set.

    Args:
        source: The data set.
        given: The options of `add_arguments`, and `root`.
    """
    from datamodules.cleanup import rules
    from datamodules.cleanup.audit import audit, write_audit
    from datamodules.sources.clean_table import write_pairs
    from medvl.cli.judge import ontology_judge

    folder: Path | None = given["output"]
    if folder is None and not given["dry_run"]:
        raise ConfigError("no folder to write to", hint="add --output FOLDER, or --dry-run")
    cleanup = rules.Cleanup(given["negated"], given["non_diagnostic"], frozenset(given["off"]))
    model, asking = _model(given), _asking(given)
    loaded, judge = source.load(), ontology_judge()
    sentences = rules.open_questions(loaded.records, judge) if model else []
    if model and given["dry_run"]:
        _show_question(model, sentences, asking, given)
    verdicts, asked = ({}, None) if model is None or given["dry_run"] else _ask(model, sentences, asking, given)
    cleaned = rules.clean(loaded.records, cleanup, judge, verdicts)
    found = audit(loaded.records, cleaned, cleanup, loaded.problems, asked, given["samples"])
    _print_audit(found)
    if folder is None or given["dry_run"]:
        print("dry run: nothing is written")
        return 0
    _refuse_nothing(cleaned.records, found, given["root"])
    texts = write_audit(folder, found)
    pairs = write_pairs(folder / "pairs.parquet", cleaned.records)
    print(f"{texts[1]}: the audit, with sentences of reports")
    options = f"--data.source.root {shlex.quote(given['root'])} --data.source.clean {shlex.quote(str(pairs))}"
    print(f"{pairs}: {len(cleaned.records):,} pairs  next: medvl fit ... --data.source ChestImaGenome {options}")
    return 0


def _model(given: dict[str, Any]) -> Model | None:
    """Return the model that the options name, before anything slow begins."""
    from datamodules.cleanup.endpoint import Endpoint
    from datamodules.cleanup.local import LocalModel

    if given["llm"] and given["llm_endpoint"]:
        raise ConfigError("two language models are named", hint="give --llm or --llm-endpoint")
    if given["llm"]:
        return LocalModel(given["llm"], given["llm_tokens"])
    if not given["llm_endpoint"]:
        return None
    if not given["llm_model"]:
        raise ConfigError("the endpoint's model is not named", hint="add --llm-model NAME")
    key = os.environ.get(given["llm_key"], "") if given["llm_key"] else ""
    if given["llm_key"] and not key:
        raise ConfigError("the key's environment variable is not set", where=f"--llm-key {given['llm_key']}")
    remote = given["allow_remote_report_text"]
    return Endpoint(
        given["llm_endpoint"], given["llm_model"], remote, given["llm_timeout"], given["llm_tokens"], key=key
    )


def _asking(given: dict[str, Any]) -> Asking:
    from datamodules.cleanup.verdicts import Asking

    for name, least in (("llm_batch", 1), ("llm_retries", 0), ("llm_workers", 1), ("llm_tokens", 1), ("samples", 0)):
        if given[name] < least:
            raise ConfigError(f"--{name.replace('_', '-')} is {given[name]}", hint=f"expected {least} or more")
    workers = 1 if given["llm"] else given["llm_workers"]
    return Asking(given["llm_batch"], given["llm_retries"], given["llm_pause"], workers)


def _ask(
    model: Model, sentences: Sequence[str], asking: Asking, given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    from datamodules.cleanup.prompt import VERSION
    from datamodules.cleanup.verdicts import Store, ask_all

    store = Store(_cache(given), model.name)
    try:
        answers = ask_all(sentences, model, store, asking)
    finally:
        store.close()
    told = {name: answers.counts[name] for name in ("asked", "kept", "answered")} | dict(sorted(answers.counts.items()))
    print(f"{model.name}: " + ", ".join(f"{count:,} {name}" for name, count in told.items()))
    if left := told["asked"] - told["kept"] - told["answered"]:
        print(f"{left:,} sentences without a verdict are decided by the rules; the same command asks about them again")
    return dict(answers.verdicts), {"model": model.name, "prompt_version": VERSION, **told}


def _show_question(model: Model, sentences: Sequence[str], asking: Asking, given: dict[str, Any]) -> None:
    """Print how much would be asked, and the prompt, with placeholders where the sentences would stand."""
    from datamodules.cleanup.prompt import TASK, question, same
    from datamodules.cleanup.verdicts import Store, batches

    different = [same(sentence) for part in batches(sentences, asking.batch) for sentence in part]
    known = 0
    if _cache(given).is_file():
        store = Store(_cache(given), model.name)
        known = len(store.known(different))
        store.close()
    count = f"{len(different) - known:,} of {len(different):,} different sentences"
    print(f"{model.name} would be asked about {count}, {asking.batch} at a time; on the others it was asked before")
    print(f"\n{TASK}\n\n{question(['<sentence 1>', '<sentence 2>', '...'])}\n")


def _cache(given: dict[str, Any]) -> Path:
    from medvl.io.cache import cache_root

    chosen: Path | None = given["llm_cache"]
    return chosen or cache_root() / "cleanup" / "verdicts.sqlite"


def _print_audit(found: Audit) -> None:
    """Print the counts, and no text."""
    from rich.console import Console
    from rich.table import Table

    before, after = found["before"], found["after"]
    share = 1 - after["pairs"] / before["pairs"]
    print(f"in:   {before['pairs']:,} pairs, {before['with_boxes']:,} with boxes ({before['boxes']:,} boxes)")
    print(f"left: {after['pairs']:,} pairs, {after['with_boxes']:,} with boxes ({after['boxes']:,} boxes)", end=", ")
    print(f"{share:.1%} of the pairs dropped")
    table = Table("rule", "dropped", "emptied", "trimmed", "boxes removed")
    for rule, one in found["rules"].items():
        table.add_row(rule, *(f"{one[name]:,}" for name in ("dropped", "emptied", "trimmed", "boxes_removed")))
    Console().print(table)
    if found["source_problems"]:
        print("remarked by the source: " + ", ".join(f"{n:,} {code}" for code, n in found["source_problems"].items()))


def _refuse_nothing(records: list[PhraseRecord], found: Audit, root: str) -> None:
    """Raise where nothing is left to train on.

    Raises:
        DataError: No pair has a box.
    """
    if any(record.boxes for record in records):
        return
    rule, one = max(found["rules"].items(), key=lambda item: item[1]["boxes_removed"])
    raise DataError(
        f"no pair with boxes is left of {found['before']['pairs']:,}",
        where=root,
        hint=f"the rule {rule!r} removed {one['boxes_removed']:,} boxes" if one["boxes_removed"] else "none came in",
        command=f"medvl data clean imagenome {shlex.quote(root)} --off {rule} --dry-run",
    )
