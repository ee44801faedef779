"""Excel workbooks, read by another process with little memory.

Two cells, A1 and XFD1048576, make a sheet of 17 billion, which the reader (native code) lays out, and the process that
asked for it is gone. So the one that is gone is not ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from medvl.errors import DataError

READER = Path(__file__).with_name("sheet_reader.py")
_PATIENCE = 600.0  # seconds


def first_sheet(path: Path) -> list[list[Any]]:
    """Return the rows of a workbook's first sheet; dates as text, empty cells as ''.

    Raises:
        DataError: The workbook is damaged, too large, or takes for ever.
    """
    command = [sys.executable, "-P", str(READER), str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired:
        raise _refusal(path, "it takes too long") from None
    if done.returncode < 0:  # the reader does not survive running out of memory
        raise _refusal(path, "the sheet is too large")
    if done.returncode:
        raise _refusal(path, done.stderr.decode(errors="replace").strip()[:120])
    return [json.loads(line) for line in done.stdout.splitlines()]


def _refusal(path: Path, why: str) -> DataError:
    return DataError("the workbook cannot be read", where=str(path), hint=why)
