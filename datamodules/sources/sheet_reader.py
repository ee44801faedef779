"""Prints the rows of a workbook's first sheet as JSON lines; `datamodules.sources.workbooks` runs it as a program."""

from __future__ import annotations

import json
import sys

MEMORY = 3 << 30  # bytes of address space; a sheet of a million reports takes one of them


def main(path: str) -> int:
    """Print the rows; 1 and the reason on standard error where there is no reading them."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        pass
    else:
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    from python_calamine import CalamineError, load_workbook

    try:
        rows = load_workbook(path).get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (CalamineError, MemoryError, OSError) as error:
        print(str(error)[:120] or "it does not fit into memory", file=sys.stderr)
        return 1
    for row in rows:
        print(json.dumps(row, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
