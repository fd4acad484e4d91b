"""What the package promises to the world."""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Final

import pytest

import outlay
from outlay import errors
from tests.support.processes import run

if TYPE_CHECKING:
    from pathlib import Path


def test_all_equals_the_public_namespace() -> None:
    """Nothing is public by accident, and nothing promised is missing."""
    public = {
        name
        for name in dir(outlay)
        if not name.startswith("_")
        and not isinstance(getattr(outlay, name), types.ModuleType)
    } - {"TYPE_CHECKING"}

    assert set(outlay.__all__) == public
    assert list(outlay.__all__) == sorted(outlay.__all__)


@pytest.mark.parametrize("name", outlay.__all__)
def test_everything_public_is_documented(name: str) -> None:
    """A promise that is not written down is none."""
    value = getattr(outlay, name)

    assert inspect.getdoc(value)
    if inspect.isclass(value) and value.__module__.startswith("outlay"):
        for method, function in inspect.getmembers(value, inspect.isfunction):
            ours = function.__module__.startswith("outlay")
            if ours and not method.startswith("_"):
                assert inspect.getdoc(function), method


def test_every_error_that_the_package_shows_is_an_outlay_error() -> None:
    """One except clause must be able to catch them all."""
    shown = {
        name for name in outlay.__all__ if isinstance(getattr(outlay, name), type)
    } & set(errors.__all__)

    assert shown
    assert all(issubclass(getattr(outlay, n), outlay.OutlayError) for n in shown)


def test_the_module_functions_take_what_the_client_takes() -> None:
    """Sugar must not lack, or add, an argument."""
    for name in ("track_cost", "flush", "close", "aflush", "aclose", "stats"):
        function = inspect.signature(getattr(outlay, name))
        method = inspect.signature(getattr(outlay.Client, name))
        assert list(function.parameters) == list(method.parameters)[1:], name
        for parameter in function.parameters.values():
            assert parameter.default == method.parameters[parameter.name].default


_HEAVY: Final = (
    "asyncio",
    "httpx",
    "httpx2",
    "opentelemetry",
    "outlay._shipping.planner",
    "outlay._shipping.wire",
    "outlay._shipping.transport",
    "outlay._cli",
    "outlay.server",
    "rich",
    "starlette",
    "tenacity",
)


@pytest.mark.parametrize(
    "program",
    ["", "track(outlay.default_client(), 0)", "outlay.stats(); outlay.close()"],
    ids=["import", "track", "close"],
)
def test_a_caller_imports_nothing_that_only_shipping_needs(
    program: str, tmp_path: Path
) -> None:
    """Neither a program that tracks nothing today, nor the first call, pays for it."""
    heavy = f"""
say(*sorted(name for name in {_HEAVY} if name in sys.modules))
os._exit(0)
"""
    variables = {"OUTLAY_JOURNAL_DIR": tmp_path, "OUTLAY_SHIPPING": "none"}

    assert run(program + heavy, variables) == "\n"


def test_an_import_of_outlay_brings_nothing_that_only_a_client_needs() -> None:
    """A program that tracks nothing today does not pay for settings."""
    program = """
needless = ("email", "importlib.metadata", "outlay._model.settings", "platformdirs")
needless += ("pydantic", "pydantic_core", "tempfile", "zoneinfo")
say(*sorted(name for name in needless if name in sys.modules))
"""

    assert run(program, {}) == "\n"


def test_names_that_come_late_are_there() -> None:
    """For completion in a shell, for star imports and for those who misspell."""
    program = """
before = "Transport" in dir(outlay)
from outlay import *
say(before, Transport is outlay.transport.Transport, hasattr(outlay, "Transprot"))
"""

    assert run(program, {}) == "True True False\n"
