"""The errors: one tree, as drawn, whose members survive a trip between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import outlay
from outlay import errors
from outlay.errors import (
    AuthenticationError,
    ClosedError,
    ConfigError,
    ConflictError,
    DeliveryError,
    InvalidEventError,
    InvalidRequestError,
    JournalError,
    JournalFullError,
    MissingExtraError,
    NoCurrentOperationError,
    NotFoundError,
    OutlayError,
    PermissionDeniedError,
    RejectedError,
    UnavailableError,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parents[3] / "docs" / "errors.md").read_text(encoding="utf-8")

EXAMPLES = [
    OutlayError("something"),
    ConfigError("OUTLAY_TIMEOUT='soon': must be a number"),
    InvalidEventError("amount", "five", "pass a number"),
    ClosedError("this client is closed; create another"),
    NoCurrentOperationError("no operation is under way"),
    MissingExtraError("The reference server", "server"),
    JournalError("the folder belongs to another user"),
    JournalFullError("the journal is full"),
    DeliveryError("the request failed"),
    RejectedError("no such cost metric", status=422, code="invalid_event_type"),
    InvalidRequestError(
        "name: is required", status=400, fields={"name": "is required"}
    ),
    AuthenticationError("unknown key", status=401),
    PermissionDeniedError("lacks costs:write", status=403),
    NotFoundError("no such cost", status=404, rule="COST_NOT_FOUND"),
    ConflictError("the metric exists with other fields", status=409),
    UnavailableError("connection refused", sent=False),
]

ORDER = [type(error) for error in EXAMPLES]

each_example = pytest.mark.parametrize(
    "error", EXAMPLES, ids=[type(error).__name__ for error in EXAMPLES]
)


def all_errors() -> set[type[OutlayError]]:
    """Return the classes of the module."""
    return {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, OutlayError) and kind.__module__ == errors.__name__
    }


def test_every_error_is_an_example_here() -> None:
    """A class that is added is held to the rules below."""
    assert {type(error) for error in EXAMPLES} == all_errors()


def test_every_error_is_exported() -> None:
    """What can be raised can be caught by name."""
    assert set(errors.__all__) == {kind.__name__ for kind in all_errors()}
    assert list(errors.__all__) == sorted(errors.__all__)


@pytest.mark.parametrize("name", sorted(set(outlay.__all__) & set(errors.__all__)))
def test_the_package_exports_the_same_class(name: str) -> None:
    """``outlay.ClosedError`` and ``outlay.errors.ClosedError`` catch the same."""
    assert getattr(outlay, name) is getattr(errors, name)


def outline(kind: type, prefix: str = "") -> list[str]:
    """Draw the tree below ``kind``, one name a line."""
    children = [child for child in ORDER if child.__bases__[0] is kind]
    lines = []
    for child in children:
        last = child is children[-1]
        lines.append(f"{prefix}{'└── ' if last else '├── '}{child.__name__}")
        lines += outline(child, prefix + ("    " if last else "│   "))
    return lines


def drawn(text: str) -> list[str]:
    """Return the tree drawn in ``text``, without what is said about each name."""
    _, root, below = text.partition("OutlayError\n├")
    assert root
    lines = f"├{below}".partition("\n\n")[0].splitlines()
    return [match[0] for line in lines if (match := re.match(r"[│├└─ ]+\w+", line))]


def test_the_outline_in_the_module_is_the_real_tree() -> None:
    """The outline is the documentation; a wrong one is worse than none."""
    assert errors.__doc__ is not None
    outline_text = errors.__doc__.partition("::\n\n")[2]  # all is indented alike
    outline_text = outline_text.partition("\n\n")[0] + "\n\n"
    assert drawn(textwrap.dedent(outline_text)) == outline(OutlayError)


def test_the_outline_in_the_documentation_is_the_real_tree() -> None:
    """People catch errors by this page."""
    assert drawn(PAGE) == outline(OutlayError)


@each_example
def test_the_documentation_has_a_section_for_every_error(error: OutlayError) -> None:
    """When it is raised, what it carries, and what to do."""
    name = type(error).__name__
    if name == "OutlayError":
        return
    section = re.search(
        rf"^##+ {name}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL
    )

    assert section is not None
    for attribute in vars(error):
        assert f"`{attribute}`" in section[1]


@pytest.mark.parametrize("kind", ORDER)
def test_the_documentation_names_the_builtin_bases(kind: type[OutlayError]) -> None:
    """Old handlers of ValueError or OSError go on catching what they should."""
    builtin = [base for base in kind.__bases__ if base.__module__ == "builtins"]
    tree = PAGE.partition("```")[2].partition("```")[0]
    line = next(line for line in tree.splitlines() if f" {kind.__name__}" in f" {line}")

    if kind is OutlayError:
        assert builtin == [Exception]
    else:
        assert re.findall(r"also an? (\w+)", line) == [b.__name__ for b in builtin]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@each_example
def test_errors_survive_pickling_with_their_fields(
    error: OutlayError, protocol: int
) -> None:
    """Process pools and task queues hand errors over. Half of one is of no use."""
    error = copy.copy(error)
    error.add_note("while tracking job-42")

    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
@each_example
def test_errors_can_be_copied(
    error: OutlayError, duplicate: Callable[[OutlayError], OutlayError]
) -> None:
    """Test runners and trackers copy what they keep."""
    again = duplicate(error)

    assert (type(again), str(again), vars(again)) == (
        type(error),
        str(error),
        vars(error),
    )


def test_a_missing_extra_says_what_to_type() -> None:
    """The next step is a command, so the message is that command."""
    error = MissingExtraError("The reference server", "server")

    assert str(error) == (
        "The reference server needs the extra 'server'; in a checkout of outlay: "
        "pip install '.[server]'"
    )


def test_a_value_that_cannot_be_shown_hides_no_error() -> None:
    """A caller's broken ``__repr__`` must not replace what we have to say."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert str(InvalidEventError("amount", Broken(), "pass a number")) == (
        "amount=<Broken>: pass a number"
    )


@pytest.mark.parametrize("length", [58, 59, 1000])
def test_a_shown_value_fits_a_log_line(length: int) -> None:
    """Up to 60 characters in full, quotes included; of more, the first 60."""
    shown = shorten("x" * length)

    if length == 58:
        assert shown == repr("x" * 58)
    else:
        assert shown == f"'{'x' * 59}… ({length + 2} characters)"
