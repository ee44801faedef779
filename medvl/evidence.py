"""What a run folder holds that tells how the model fails: test metrics, paired embeddings, the permutation check."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from medvl.errors import DataError
from medvl.io.atomic import write_text
from medvl.text.untrusted import parse_json

Array = NDArray[np.float64]
Part = Literal["image", "text"]
PARTS: tuple[Part, ...] = get_args(Part)
PERMUTED = "permuted.json"
_MOST = 2000  # studies looked at: the similarities of all pairs take 32 MB
# Files of paired embeddings, the newer first: the columns of images and of texts, and that of findings.
_PAIRS = {
    "embeddings.parquet": ("image_embedding", "text_embedding", "findings"),
    "volumes.parquet": ("vector", "report", "labels"),
}


class Dealt(NamedTuple):
    """One question before and after.

    Attributes:
        same: Whether the answer stayed; None where there was none either time.
        right: Whether the answer was right; None where nobody asks, as of a sentence without a place.
        still: Whether the answer to the question dealt anew is right for the first one.
    """

    same: bool | None
    right: bool | None
    still: bool


class Shares(NamedTuple):
    """What became of many questions.

    Attributes:
        answers: How many were answered before or after.
        same: Share of these answers that stayed.
        asked: How many have a right answer.
        right: Share of these that were right.
        still: Share of these that are right still.
    """

    answers: int
    same: float
    asked: int
    right: float
    still: float

    @classmethod
    def of(cls, dealt: Sequence[Dealt]) -> Shares:
        """Count; a share of nothing is 0."""
        answered = [one for one in dealt if one.same is not None]
        asked = [one for one in dealt if one.right is not None]
        shares = [
            sum(map(bool, values)) / max(1, len(values))
            for values in (
                [one.same for one in answered],
                [one.right for one in asked],
                [one.still for one in asked],
            )
        ]
        return cls(len(answered), shares[0], len(asked), *shares[1:])


def write_shares(path: Path, shares: dict[Part, Shares]) -> Path:
    """Write what became of the answers, by what was dealt out."""
    return write_text(path, [json.dumps({part: one._asdict() for part, one in shares.items()}, indent=2), "\n"])


def read_shares(path: Path) -> dict[str, Shares]:
    """Read what `write_shares` wrote; nothing where nobody did."""
    known = parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {part: Shares(**values) for part, values in known.items()}


def _nothing() -> Array:
    return np.zeros((0, 0))


@dataclass(frozen=True)
class Evidence:
    """What is known of a run.

    Attributes:
        metrics: Of the last test, without `test/`; those that have no value are left out.
        image: `(n, C)` unit vectors of studies that have an image and a text.
        text: `(n, C)`, of the same studies.
        said: `(n,)`, a hash of each text: studies of one text have no one partner. Empty where unknown.
        shows: `n` sets of findings that are present. Empty where unknown.
        permuted: What became of answers when images or texts were dealt out anew.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    image: Array = field(default_factory=_nothing)
    text: Array = field(default_factory=_nothing)
    said: tuple[int, ...] = ()
    shows: tuple[frozenset[str], ...] = ()
    permuted: Mapping[str, Shares] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Path) -> Evidence:
        """Read a run folder; whatever is missing stays empty.

        Raises:
            DataError: A file is damaged; names it.
        """
        folder, metrics = run / "predictions", _last_test(run / "metrics.jsonl")
        pairs = next((path for name in _PAIRS if (path := folder / name).is_file()), None)
        if pairs and pairs.name == "volumes.parquet" and "contrastive" not in metrics:
            pairs = None  # volumes are embedded even where no loss has aligned them
        try:
            known = _read_pairs(pairs) if pairs else {}
            permuted = read_shares(folder / PERMUTED)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                "not readable as test left it", where=str(folder), command=f"medvl test --run {run}"
            ) from error
        return cls(metrics=metrics, permuted=permuted, **known)  # type: ignore[arg-type]


def _last_test(path: Path) -> dict[str, float]:
    """Return the metrics of the last test; a line cut short by a kill is passed over."""
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if '"stage": "test"' in line:
            try:
                values = parse_json(line)
            except ValueError:
                continue
            known = {name: value for name, value in values.items() if isinstance(value, int | float)}
            found = {name.removeprefix("test/"): float(v) for name, v in known.items() if math.isfinite(v)}
    return found


def _read_pairs(path: Path) -> dict[str, object]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    image, text, findings = _PAIRS[path.name]
    table = pq.read_table(path)
    table = table.filter(pc.and_(pc.is_valid(table[image]), pc.is_valid(table[text])))
    if len(table) > _MOST:
        table = table.take(np.linspace(0, len(table) - 1, _MOST).astype(np.int64))
    vectors = [np.array(table[name].combine_chunks().flatten(), np.float64) for name in (image, text)]
    vectors = [values.reshape(len(table), -1) if len(table) else _nothing() for values in vectors]
    kept = np.isfinite(np.concatenate(vectors, axis=1)).all(axis=1)  # a file of elsewhere may hold anything
    table, has = table.filter(pa.array(kept)), set(table.column_names)
    return {
        "image": vectors[0][kept],
        "text": vectors[1][kept],
        "said": tuple(table["text"].to_pylist()) if "text" in has else (),
        "shows": tuple(map(_present, table[findings].to_pylist())) if findings in has else (),
    }


def _present(findings: list[str] | list[tuple[str, float]]) -> frozenset[str]:
    """Return the names of what is present, of a list of names or of a map to 1, 0, ..."""
    return frozenset(one if isinstance(one, str) else one[0] for one in findings if isinstance(one, str) or one[1] == 1)
