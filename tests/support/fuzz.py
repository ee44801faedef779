"""What the fuzz tests share: files damaged at random places, and values of any form."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from medvl.errors import MedvlError

MANY = int(os.environ.get("MEDVL_FUZZ", "0"))

few = settings(
    max_examples=MANY or 60,
    derandomize=not MANY,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Enough to break a parser that trusts its input; the same examples every time, or `MEDVL_FUZZ` others."""

_ODD = st.sampled_from(
    [
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "null",
        "\0",
        "\ufeff",
        "\u0661",
        "[" * 50,
        "[[1,2",
        '{"a":',
        "-0",
        "💥",
        "١",
        "\u2028",
    ]
)
scalars: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.just(10**400),
    st.floats(),
    st.text(max_size=12),
    _ODD,
)
values: SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
"""Anything that JSON can hold."""


def refusal(job: Callable[[], object]) -> MedvlError | None:
    """Run a job that may refuse its input, in our words only; return its refusal."""
    try:
        job()
    except MedvlError as error:
        return error
    return None


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Return bytes with a few of them replaced, taken out or put in, and perhaps cut."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(found) - 1)))
        found[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(found[: draw(st.integers(0, len(found)))] if draw(st.booleans()) else found)


@st.composite
def mutated(draw: st.DrawFn, tree: Any) -> Any:
    """Return a value of JSON in which some parts are something else, or gone."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    if isinstance(tree, dict):
        return {key: draw(mutated(item)) for key, item in tree.items() if draw(st.integers(0, 14))}
    if isinstance(tree, list):
        return [draw(mutated(item)) for item in tree]
    return tree
