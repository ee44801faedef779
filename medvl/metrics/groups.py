"""The groups by which an evaluation is broken down: sex, age, view, scanner, wherever the data name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvl.outputs import PhrasePrediction

_VALUES = 12  # of one attribute, the most frequent


def groups_of(lines: Sequence[PhrasePrediction]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return the attributes that lines name and, by value, which lines have it; of many values the most frequent."""
    found = {}
    for key in sorted({key for one in lines for key in one.groups}):
        values = np.array([one.groups.get(key, "") for one in lines], dtype=np.str_)
        common = Counter(value for value in values.tolist() if value).most_common(_VALUES)
        found[key] = {value: values == value for value in sorted(value for value, _ in common)}
    return found
