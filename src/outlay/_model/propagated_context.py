"""The context variables that follow work to other threads and out of generators.

A module that owns such a variable registers it here. Code that moves work then takes
all registered variables along, and need not know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")

PropagatedContext: TypeAlias = Mapping[ContextVar[Any], Any]
"""The values of the registered variables at one moment."""

_variables: Final[list[ContextVar[Any]]] = []


def register(variable: ContextVar[T]) -> ContextVar[T]:
    """Register a variable, and return it.

    Args:
        variable: The variable. It must have a default, so that every context has a
            value for it.
    """
    _variables.append(variable)
    return variable


def capture() -> PropagatedContext:
    """Return the values of the registered variables in the running code."""
    return {variable: variable.get() for variable in _variables}


def swap(new: PropagatedContext) -> PropagatedContext:
    """Set the variables to ``new``, and return the values that they had.

    It sets values rather than entering a `contextvars.Context`. Two threads of a pool
    may run the same work, and cannot be inside one context at the same time.
    """
    earlier = {}
    for variable, value in new.items():
        earlier[variable] = variable.get()
        variable.set(value)
    return earlier
