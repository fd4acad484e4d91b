"""What the package promises to the world."""

from __future__ import annotations

import inspect
import types

import pytest

import outlay
from outlay import errors


def test_all_equals_the_public_namespace() -> None:
    """Nothing is public by accident, and nothing promised is missing."""
    public = {
        name
        for name, value in vars(outlay).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

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


def test_importing_outlay_imports_neither_httpx_nor_the_server() -> None:
    """A program that tracks nothing today must not pay for it."""
    from tests.support.processes import run  # noqa: PLC0415 - needed here only

    said = run(
        "say(*sorted(set(sys.modules) & {'httpx', 'starlette', 'tenacity'}))", {}
    )

    assert said == "\n"
