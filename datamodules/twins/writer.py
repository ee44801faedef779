"""What every twin writer shares: its arguments, and how it writes a table."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, cast

from datamodules.twins.folder import twin_folder
from medvl.errors import ConfigError

P = ParamSpec("P")
_EARLIER = {"appearance": "plain", "unseen_test": False, "sites": None}
_DIALECTS = {"unix": ("utf-8", "\n"), "excel": ("utf-8-sig", "\r\n")}


def twin_writer(format: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a twin writer of a function that fills an empty folder.

    Its arguments are these and the options of its format; all but `folder` and `workers` say what the twin is:
        folder: Where to; it must be empty, absent, or hold the same twin already.
        studies: How many studies (one image each).
        seed: Which ones.
        difficulty: 0 (plain) to 1 (faint findings, much noise).
        workers: Processes that draw; one per core by default.
        size: Longest side of the images in pixels; drawn per study by default.
        appearance: `shifted` gives the films another scanner's look.

    Args:
        format: What `twin.json` calls it.

    Returns:
        A decorator. The writer leaves a whole twin or nothing. It raises `DataError` when the folder holds something
        else, and `ConfigError` when no study is asked for.
    """

    def decorate(fill: Callable[P, None]) -> Callable[P, None]:
        signature = inspect.signature(fill)

        @wraps(fill)
        def write(*args: P.args, **kwargs: P.kwargs) -> None:
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            made = {name: value for name, value in call.arguments.items() if name not in ("folder", "workers")}
            if made["studies"] < 1:
                raise ConfigError(f"a twin needs at least one study, got {made['studies']}")
            for name, before in _EARLIER.items():  # what twins were before there was a choice
                if name in made and made[name] == before:
                    del made[name]
            with twin_folder(Path(call.arguments["folder"]), {"format": format, **made}) as partial:
                if partial is not None:
                    call.arguments["folder"] = partial
                    cast(Callable[..., None], fill)(*call.args, **call.kwargs)

        return write

    return decorate


def write_csv(
    path: Path,
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str] = (),
    *,
    delimiter: str = ",",
    dialect: Literal["unix", "excel"] = "unix",
) -> None:
    """Write rows as CSV; what a row lacks, or has as None, becomes an empty cell, which is how a NaN looks there."""
    encoding, line_end = _DIALECTS[dialect]
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), delimiter=delimiter, lineterminator=line_end)
        writer.writeheader()
        writer.writerows(rows)
