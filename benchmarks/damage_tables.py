"""Damages to tables and to documents: their bytes, their form, and what single cells say."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.damage import ANY, Deed, Patient, Spot, cut, rewrite

Rows = list[list[str]]
Change = Callable[["Grid"], None]


@dataclass
class Grid:
    """A table in hand.

    Attributes:
        patient: Whose.
        spot: Which.
        columns: Its header.
        rows: The others.
    """

    patient: Patient
    spot: Spot
    columns: list[str]
    rows: Rows

    def place(self, role: str) -> int:
        """Return where a role's column is; one of several."""
        names = self.spot.roles[role].split(" ") if role == "sides" else [self.spot.roles[role]]
        return self.columns.index(names[int(self.patient.rng.integers(len(names)))])

    def some(self, role: str) -> tuple[list[str], int]:
        """Return some row whose cell of a role is not empty, and the cell's place."""
        place = self.place(role)
        full = [row for row in self.rows if row[place].strip() not in ("", "[]")] or self.rows
        return full[int(self.patient.rng.integers(len(full)))], place


def _text(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8-sig")


def _put(path: Path, content: bytes) -> None:
    rewrite(path, gzip.compress(content, 1) if path.name.endswith(".gz") else content)


def _delimiter(text: str) -> str:
    return max(",;", key=text.partition("\n")[0].count)


def _grid(change: Change, spot: Spot) -> Callable[[Patient], None]:
    """Change the cells of a table and write it as it was."""

    def deed(patient: Patient) -> None:
        path = patient.some(spot.pattern)
        text = _text(path)
        columns, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        grid = Grid(patient, spot, columns, rows)
        change(grid)
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=_delimiter(text), lineterminator="\n")
        writer.writerows([grid.columns, *grid.rows] if grid.columns else grid.rows)
        _put(path, out.getvalue().encode())

    return deed


def _bytes(change: Callable[[Patient, bytes], bytes], pattern: str) -> Callable[[Patient], None]:
    """Change the bytes of a table or of a document, unpacked."""

    def deed(patient: Patient) -> None:
        path = patient.some(pattern)
        _put(path, change(patient, _text(path).encode()))

    return deed


def _cell(role: str, value: str) -> Change:
    def change(grid: Grid) -> None:
        row, place = grid.some(role)
        row[place] = value

    return change


def _shifted(grid: Grid) -> None:
    row = grid.rows[int(grid.patient.rng.integers(len(grid.rows)))]
    del row[int(grid.patient.rng.integers(1, len(row)))]


def _surplus(grid: Grid) -> None:
    row = grid.rows[int(grid.patient.rng.integers(len(grid.rows)))]
    row.insert(int(grid.patient.rng.integers(1, len(row))), "surplus")


def _without(role: str) -> Change:
    def change(grid: Grid) -> None:
        place = grid.place(role)
        for row in (grid.columns, *grid.rows):
            del row[place]

    return change


def _renamed(role: str) -> Change:
    def change(grid: Grid) -> None:
        grid.columns[grid.place(role)] += "_v2"

    return change


def _other_split(grid: Grid) -> None:
    row, place = grid.some("split")
    other = "train" if row[place] == "test" else "test"
    grid.rows.append([*row[:place], other, *row[place + 1 :]])


def _two_splits(grid: Grid) -> None:
    place, patient = grid.place("split"), grid.place("patient")
    for row in grid.rows:
        others = [other for other in grid.rows if other[patient] != row[patient] and other[place] != row[place]]
        if others:
            others[0][patient] = row[patient]
            return


def _headless(grid: Grid) -> None:
    grid.columns = []


def _repeated(grid: Grid) -> None:
    grid.rows.insert(len(grid.rows) // 2, list(grid.columns))


def _beheaded(grid: Grid) -> None:
    grid.rows.clear()


def _moved(box: Callable[[list[float]], object]) -> Change:
    """Change a box in a cell of JSON."""

    def change(grid: Grid) -> None:
        row, place = grid.some("boxes")
        boxes = json.loads(row[place])
        which = int(grid.patient.rng.integers(len(boxes)))
        boxes[which] = box(boxes[which])
        row[place] = json.dumps(boxes)

    return change


def _cut_row(patient: Patient, content: bytes) -> bytes:
    """Cut within the first cell of a row."""
    ends = [place for place, byte in enumerate(content) if byte == 10]
    where = ends[int(patient.rng.integers(len(ends) // 2, len(ends) - 1))]
    return content[: where + 4]


def _nul(patient: Patient, content: bytes) -> bytes:
    place = int(patient.rng.integers(content.index(b"\n") + 1, len(content)))
    return content[:place] + b"\0" + content[place:]


def _foreign(patient: Patient, content: bytes) -> bytes:
    start = content.index(b"\n") + 1
    return content[:start] + b"\xc3\xa9\xe9" + content[start:]


_BYTES: dict[str, Callable[[Patient, bytes], bytes]] = {
    "cut within a row": _cut_row,
    "a byte-order mark": lambda patient, content: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda patient, content: content.decode().encode("utf-16"),
    "line ends of Windows": lambda patient, content: content.replace(b"\n", b"\r\n"),
    "a NUL": _nul,
    "mixed encodings": _foreign,
    "an open quote": lambda patient, content: content.replace(b"\n", b'\n"', 1),
    "blank lines": lambda patient, content: content.replace(b"\n", b"\n\n", 3),
}
_ROWS: dict[str, Change] = {
    "a cell missing": _shifted,
    "a cell too many": _surplus,
    "no header": _headless,
    "the header again": _repeated,
    "a header alone": _beheaded,
}
_CELLS: dict[str, dict[str, Change]] = {
    "image": {
        "no image": _cell("image", ""),
        "an unknown image": _cell("image", "no-such-image.png"),
        "a path that climbs": _cell("image", "../../../etc/hostname"),
        "an absolute path": _cell("image", "/etc/hostname"),
    },
    "patient": {"no patient": _cell("patient", "")},
    "study": {"no study": _cell("study", "")},
    "split": {
        "an unknown split": _cell("split", "tarin"),
        "no split": _cell("split", ""),
        "a number for a split": _cell("split", "7"),
    },
    "text": {"no text": _cell("text", "")},
    "labels": {
        "an unknown label": _cell("labels", '{"Edema": 7}'),
        "a word for a label": _cell("labels", '{"Edema": "yes"}'),
        "labels cut off": _cell("labels", '{"Edema": 1'),
        "labels nested without end": _cell("labels", "[" * 100_000),
    },
    "label": {"an unknown label": _cell("label", "7"), "a word for a label": _cell("label", "perhaps")},
    "sides": {
        "a side that is not a number": _cell("sides", "nan"),
        "an infinite side": _cell("sides", "inf"),
        "a huge side": _cell("sides", "1e300"),
        "a negative side": _cell("sides", "-4000"),
        "a side beyond the image": _cell("sides", "90000"),
        "a word for a side": _cell("sides", "left"),
        "no side": _cell("sides", ""),
    },
    "boxes": {
        "a box of three numbers": _moved(lambda box: box[:3]),
        "a box of words": _moved(lambda box: ["a", "b", "c", "d"]),
        "a box that is not a number": _moved(lambda box: [float("nan"), *box[1:]]),
        "an infinite box": _moved(lambda box: [*box[:3], float("inf")]),
        "an inverted box": _moved(lambda box: box[2:] + box[:2]),
        "a negative box": _moved(lambda box: [-value for value in box]),
        "a box beyond the image": _moved(lambda box: [value * 1000 for value in box]),
        "a box without area": _moved(lambda box: box[:2] + box[:2]),
        "null for a box": _moved(lambda box: None),
        "a huge box": _moved(lambda box: [0, 0, 10**400, 1]),
        "boxes cut off": _cell("boxes", "[[1, 2, 3"),
        "boxes nested without end": _cell("boxes", "[" * 100_000),
    },
}


def table_damages(spot: Spot) -> dict[str, Callable[[Patient], None]]:
    """Return what can befall a table, by name."""
    about = spot.pattern.rpartition("/")[2].replace("*", "")
    found: dict[str, Callable[[Patient], None]] = {
        name: _at(spot.pattern, deed) for name, deed in ANY.items() if name != "its first bytes inverted"
    }
    found |= {name: _bytes(change, spot.pattern) for name, change in _BYTES.items()}
    found |= {name: _grid(change, spot) for name, change in _ROWS.items()}
    for role in spot.roles:
        found |= {name: _grid(change, spot) for name, change in _CELLS[role].items()}
        if role not in spot.optional:
            found[f"no column {role}"] = _grid(_without(role), spot)
            found[f"column {role} renamed"] = _grid(_renamed(role), spot)
    if {"split", "patient"} <= set(spot.roles):
        found["a patient in two splits"] = _grid(_two_splits, spot)
        found["a row again in another split"] = _grid(_other_split, spot)
    if "image" in spot.roles:
        found["a row again"] = _grid(_again, spot)
    return {f"{about}: {name}": deed for name, deed in found.items()}


def _again(grid: Grid) -> None:
    grid.rows.append(list(grid.some("image")[0]))


def _at(pattern: str, deed: Deed) -> Callable[[Patient], None]:
    return lambda patient: deed(patient, patient.some(pattern))


def _tree(change: Callable[[Patient, Any], Any], pattern: str) -> Callable[[Patient], None]:
    """Change what a JSON file holds; of JSON lines, a line."""

    def deed(patient: Patient) -> None:
        path = patient.some(pattern)
        if path.suffix != ".jsonl":
            rewrite(path, json.dumps(change(patient, json.loads(path.read_bytes()))).encode())
            return
        lines = path.read_text().splitlines()
        which = int(patient.rng.integers(len(lines)))
        lines[which] = json.dumps(change(patient, json.loads(lines[which])))
        rewrite(path, "\n".join([*lines, ""]).encode())

    return deed


def _nodes(value: Any, fits: Callable[[Any], bool]) -> list[tuple[Any, Any]]:
    """Return container and key of everything in a tree that fits."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in entries:
        found += [(value, key)] if fits(item) else []
        found += _nodes(item, fits)
    return found


def _leaf(fits: Callable[[Any], bool], put: Callable[[Any], Any]) -> Callable[[Patient, Any], Any]:
    """Change something in a tree that fits, if anything does."""

    def change(patient: Patient, tree: Any) -> Any:
        nodes = _nodes(tree, fits)
        if nodes:
            holder, key = nodes[int(patient.rng.integers(len(nodes)))]
            holder[key] = put(holder[key])
        return tree

    return change


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (2, 4) and all(isinstance(v, float | int) for v in value)


def _turned(box: list[Any]) -> list[Any]:
    """Make a box end before it begins, whichever convention it is in; of two numbers, the other way round."""
    return box[::-1] if len(box) == 2 else [*box[:2], -abs(box[2]) - 1, -abs(box[3]) - 1]


_TREES: dict[str, Callable[[Patient, Any], Any]] = {
    "null": lambda patient, tree: None,
    "a string": lambda patient, tree: "nothing",
    "a number": lambda patient, tree: 7,
    "an empty list": lambda patient, tree: [],
    "wrapped in a list": lambda patient, tree: [tree],
    "null for an object": _leaf(lambda v: isinstance(v, dict), lambda v: None),
    "a number for an object": _leaf(lambda v: isinstance(v, dict), lambda v: 3),
    "a number for a list": _leaf(lambda v: isinstance(v, list), lambda v: 3),
    "an inverted box": _leaf(_is_box, _turned),
    "a box of three numbers": _leaf(_is_box, lambda v: [1, 2, 3, 4, 5]),
    "a box that is not a number": _leaf(_is_box, lambda v: [float("nan"), *v[1:]]),
    "an infinite box": _leaf(_is_box, lambda v: [*v[:-1], float("inf")]),
    "a huge box": _leaf(_is_box, lambda v: [*v[:-1], 10**400]),
    "words for a box": _leaf(_is_box, lambda v: ["a"] * len(v)),
    "null for a box": _leaf(_is_box, lambda v: None),
}
_TEXTS: dict[str, Deed] = {f"cut to {share:.0%}": cut(share) for share in (0.05, 0.3, 0.6, 0.95)}


def document_damages(pattern: str, missing: bool = True) -> dict[str, Callable[[Patient], None]]:
    """Return what can befall JSON, JSON lines, XML or text, by name; `missing` says whether its absence is a fault."""
    about, json_like = pattern.rpartition("/")[2].replace("*", ""), ".json" in pattern
    readable = json_like or pattern.endswith(".xml")  # who reads plain text cannot know that a page is no report
    found = {name: _at(pattern, deed) for name, deed in ANY.items() if readable or name != "an error page"}
    if not missing:
        del found["gone"], found["renamed"]
    found |= {
        "a byte-order mark": _bytes(_BYTES["a byte-order mark"], pattern),
        "a NUL": _bytes(_nul_anywhere, pattern),
    }
    if readable:
        found |= {name: _at(pattern, deed) for name, deed in _TEXTS.items()}
        found["mixed encodings"] = _bytes(lambda patient, content: content[:20] + b"\xff\xfe" + content[20:], pattern)
    if json_like:
        found |= {name: _tree(change, pattern) for name, change in _TREES.items()}
        found["nested without end"] = _bytes(lambda patient, content: b"[" * 200_000, pattern)
        found["a number of 5,000 digits"] = _bytes(lambda patient, content: b"[" + b"9" * 5000 + b"]", pattern)
    return {f"{about}: {name}": deed for name, deed in found.items()}


def _nul_anywhere(patient: Patient, content: bytes) -> bytes:
    place = int(patient.rng.integers(len(content)))
    return content[:place] + b"\0" + content[place:]
