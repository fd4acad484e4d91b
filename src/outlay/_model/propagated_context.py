"""Carried context: those context variables that say on whose behalf code runs.

Whatever owns such a variable registers it here. Whoever takes work elsewhere, to
another thread or out of a generator's body, takes all of them, and need not know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")

PropagatedContext: TypeAlias = Mapping[ContextVar[Any], Any]
"""What the carried variables hold at some moment."""

_variables: Final[list[ContextVar[Any]]] = []


def register(variable: ContextVar[T]) -> ContextVar[T]:
    """Register ``variable`` to be carried, and return it.

    Args:
        variable: one that has a default, so that it can be taken from any context.
    """
    _variables.append(variable)
    return variable


def capture() -> PropagatedContext:
    """Return what the carried variables hold here and now."""
    return {variable: variable.get() for variable in _variables}


def swap(inside: PropagatedContext) -> PropagatedContext:
    """Put ``inside`` in place, and return what was there.

    Values are set, contexts are not entered: one context cannot be entered twice at
    once, and a pool's threads may all run the same work.
    """
    outside = {}
    for variable, value in inside.items():
        outside[variable] = variable.get()
        variable.set(value)
    return outside
