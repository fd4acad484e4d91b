"""Compute values from the arguments, or from the result, of a call."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.errors import ConfigError, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESULT: Final = "result"
"""A callback whose parameter has this name gets the result of the call."""


class Arguments:
    """The arguments of a function, found by their names.

    It reads them in place. Binding a signature would take longer than all other work.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        try:
            parameters = [*inspect.signature(function).parameters.values()]
        except (TypeError, ValueError):  # some functions in C have no signature
            parameters = []
        self._arguments = {
            parameter.name: _Argument.from_parameter(index, parameter)
            for index, parameter in enumerate(parameters)
            if parameter.kind not in _COLLECTING
        }

    def callback_for(
        self, field: str, source: str | Callable[..., object]
    ) -> ArgumentCallback:
        """Return a callback that computes a field of each call.

        Args:
            field: The name of the field, for the error.
            source: The name of an argument. Or a function of arguments, by their
                names, and of the call's result, by the name ``result``.

        Raises:
            ConfigError: There is no such argument.
        """
        if isinstance(source, str):
            arguments = {"value": self._argument(field, source)}
            return ArgumentCallback(lambda value: value, arguments, needs_result=False)
        names = _parameter_names(field, source, self)
        needs_result = RESULT in names and RESULT not in self
        if needs_result:
            names.remove(RESULT)
        arguments = {name: self._argument(field, name) for name in names}
        return ArgumentCallback(source, arguments, needs_result=needs_result)

    def id_callback(
        self, field: str, source: object, *, may_need_result: bool = False
    ) -> ArgumentCallback | None:
        """Return a callback that computes the id of each call, or None without one.

        Args:
            field: The name of ``source``, for the error.
            source: The source, as of `callback_for`, or None.
            may_need_result: Whether the callback may ask for the result.

        Raises:
            ConfigError: ``source`` is one operation's id instead of each call's, or
                asks for an argument that does not exist.
        """
        if source is None:
            return None
        if not isinstance(source, str) and not callable(source):
            raise ConfigError(
                f"{field}={shorten(source)}: every call would be the same operation; "
                "give the name of the argument that holds its id, or a function of "
                "arguments"
            )
        callback = self.callback_for(field, source)
        if callback.needs_result and not may_need_result:
            raise ConfigError(
                f"{field}: it is needed before the call returns; use only arguments"
            )
        return callback

    def customer_callback(
        self, source: str | Callable[..., object] | None
    ) -> ArgumentCallback | None:
        """Return a callback that computes each call's customer, or None without one.

        Raises:
            ConfigError: ``source`` asks for an argument that does not exist.
        """
        if isinstance(source, str) and source not in self:
            customer = source
            return ArgumentCallback(lambda: customer, {}, needs_result=False)
        return self.id_callback("customer_id", source)

    def __contains__(self, name: str) -> bool:
        return name in self._arguments

    def _argument(self, field: str, name: str) -> _Argument:
        try:
            return self._arguments[name]
        except KeyError:
            known = ", ".join(self._arguments) or "no named arguments"
            raise ConfigError(
                f"{field}: {qualified_name(self.function)} has no argument {name!r}; "
                f"it has {known}"
            ) from None


class ArgumentCallback(NamedTuple):
    """Computes a field of each call.

    Attributes:
        function: The user's function.
        arguments: The arguments that it gets, by their names.
        needs_result: Whether it gets the result, too.
    """

    function: Callable[..., object]
    arguments: Mapping[str, _Argument]
    needs_result: bool

    def value(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object = None
    ) -> object:
        """Return the value. Errors of the function pass through."""
        given = {name: each.find(args, kwargs) for name, each in self.arguments.items()}
        if self.needs_result:
            given[RESULT] = result
        return self.function(**given)


class _Argument(NamedTuple):
    name: str
    position: int | None  # None, if it is passed by name only
    default: object

    @classmethod
    def from_parameter(cls, index: int, parameter: inspect.Parameter) -> _Argument:
        default = parameter.default
        return cls(
            parameter.name,
            None if parameter.kind is parameter.KEYWORD_ONLY else index,
            None if default is parameter.empty else default,
        )

    def find(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
        if self.position is not None and self.position < len(args):
            return args[self.position]
        return kwargs.get(self.name, self.default)


def _parameter_names(
    field: str, source: Callable[..., object], arguments: Arguments
) -> list[str]:
    """Return the names of the parameters that a callback needs."""
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError):
        raise ConfigError(
            f"{field}={shorten(source)}: it has no signature; pass a lambda with named "
            "arguments"
        ) from None
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind not in _COLLECTING
        and (parameter.default is parameter.empty or parameter.name in arguments)
    ]


def unwrap_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a static or class method, or the function itself."""
    if isinstance(function, staticmethod | classmethod):
        return function.__func__
    return function


def qualified_name(function: object) -> str:
    """Return the name of a function with its module."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{name}"


_COLLECTING: Final = {
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
}
