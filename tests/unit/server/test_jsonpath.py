"""JSONPath, compiled once."""

from __future__ import annotations

from typing import Any

import pytest

from outlay.server._metering.jsonpath import PathError, compile_path

DATA: dict[str, Any] = {
    "amount": 1,
    "usage": {"amount": 2, "per token": 3, "0": 4, "it's [*]": 6, "\\": 7},
    "items": [{"amount": 5}],
    "text": "word",
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("$.amount", 1, id="name"),
        pytest.param("$.usage.amount", 2, id="dotted"),
        pytest.param("$.usage.0", 4, id="name-that-is-a-digit"),
        pytest.param("$['usage']['per token']", 3, id="quoted"),
        pytest.param('$.usage["it\'s [*]"]', 6, id="quotes-and-brackets"),
        pytest.param("$.usage['\\\\']", 7, id="backslash"),
        pytest.param("$.items[0].amount", 5, id="index"),
        pytest.param("$.items[-1]['amount']", 5, id="index-from-the-end"),
        pytest.param("$.missing", None, id="missing"),
        pytest.param("$.text.amount", None, id="through-a-text"),
        pytest.param("$.items.amount", None, id="name-in-an-array"),
        pytest.param("$.items[7].amount", None, id="beyond-the-end"),
    ],
)
def test_a_path_reads_the_value_it_names(path: str, expected: object) -> None:
    """Dotted names take a short cut that must agree with the library."""
    assert compile_path(path)(DATA) == expected


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("", id="empty"),
        pytest.param("amount", id="no-root"),
        pytest.param("$.a b", id="space"),
        pytest.param("$.a[", id="open-bracket"),
        pytest.param("$..amount", id="descendants"),
        pytest.param("$.items[*].amount", id="wildcard"),
        pytest.param("$.items[0:1].amount", id="slice"),
        pytest.param("$['items','usage']", id="two-names"),
        pytest.param("$.items[?@.amount > 1]", id="filter"),
        pytest.param("$.a,$.b", id="several"),
        pytest.param("$" + ".a" * 1000, id="too-long"),
        pytest.param("$" + "[0" * 400, id="deeply-broken"),
    ],
)
def test_a_path_that_is_none_or_may_find_several_is_refused(path: str) -> None:
    """A value or a dimension is one value, so its path must be singular."""
    with pytest.raises(PathError):
        compile_path(path)


def test_a_path_is_compiled_once() -> None:
    """Costs are many and events are more; compiling belongs to neither."""
    assert compile_path("$.items[0].amount") is compile_path("$.items[0].amount")
