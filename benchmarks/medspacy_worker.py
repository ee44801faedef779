"""Runs medspaCy in an interpreter of its own: it pins a spaCy older than ours, so nothing of ours is imported here.

Standard input is one JSON object, `{"terms": {surface: class}, "texts": [...]}`; standard output is another,
`{"version", "seconds", "found": [[class, ...] per text]}`, of the mentions that ConText leaves affirmed: not negated,
uncertain, historical, hypothetical or another person's.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import medspacy  # type: ignore[import-not-found, unused-ignore]  # of the other interpreter
from loguru import logger  # type: ignore[import-not-found, unused-ignore]
from medspacy.ner import TargetRule  # type: ignore[import-not-found, unused-ignore]

DENIED = ("is_negated", "is_uncertain", "is_historical", "is_hypothetical", "is_family")


def affirmed(doc: Any) -> list[str]:
    """Return the classes that a text affirms."""
    return sorted({ent.label_ for ent in doc.ents if not any(getattr(ent._, name) for name in DENIED)})


def main() -> None:
    """Read, extract, write."""
    logger.remove()  # its sentence splitter writes every sentence to the log
    task = json.load(sys.stdin)
    nlp = medspacy.load()  # sentences, targets, context with its own rules
    nlp.get_pipe("medspacy_target_matcher").add(
        [TargetRule(surface, category) for surface, category in task["terms"].items()]
    )
    affirmed(nlp("No effusion."))
    start = time.perf_counter()
    found = [affirmed(nlp(text)) for text in task["texts"]]
    seconds = time.perf_counter() - start
    json.dump({"version": version("medspacy"), "seconds": seconds, "found": found}, sys.stdout)


if __name__ == "__main__":
    main()
