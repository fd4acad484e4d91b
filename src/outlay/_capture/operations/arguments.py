"""Arguments: what a call's arguments, or its result, tell about its cost."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.errors import ConfigError, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESULT: Final = "result"
"""What a function asks for by this name is what the call returned."""


class Arguments:
    """The arguments of a function's calls, found by their names.

    Reads them where they are, for binding a signature takes longer than all the rest.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        try:
            parameters = [*inspect.signature(function).parameters.values()]
        except (TypeError, ValueError):  # some that are written in C do not tell
            parameters = []
        self._arguments = {
            parameter.name: _Argument.of(index, parameter)
            for index, parameter in enumerate(parameters)
            if parameter.kind not in _COLLECTING
        }

    def callback_for(
        self, field: str, source: str | Callable[..., object]
    ) -> ArgumentCallback:
        """Return what tells a fact of each call.

        Args:
            field: the fact's name, for the error.
            source: an argument's name; or a function of arguments, by their names, and
                of the call's result, by the name ``result``.

        Raises:
            ConfigError: there is no such argument.
        """
        if isinstance(source, str):
            asked = {"value": self._argument(field, source)}
            return ArgumentCallback(lambda value: value, asked, needs_result=False)
        wanted = _wanted(field, source, self)
        late = RESULT in wanted and RESULT not in self
        if late:
            wanted.remove(RESULT)
        asked = {name: self._argument(field, name) for name in wanted}
        return ArgumentCallback(source, asked, needs_result=late)

    def id_callback(
        self, field: str, source: object, *, late: bool = False
    ) -> ArgumentCallback | None:
        """Return what tells the id of each call's operation; None: nobody does.

        Args:
            field: the name of ``source``, for the error.
            source: see `teller`.
            late: whether the result may tell it.

        Raises:
            ConfigError: ``source`` is one operation's id, and not each call's, or asks
                for what there is not.
        """
        if source is None:
            return None
        if not isinstance(source, str) and not callable(source):
            raise ConfigError(
                f"{field}={shorten(source)}: every call would be the same operation; "
                "name the argument that holds its id, or pass a function of arguments"
            )
        teller = self.callback_for(field, source)
        if teller.needs_result and not late:
            raise ConfigError(f"{field}: the result of a call comes too late for it")
        return teller

    def customer_callback(
        self, source: str | Callable[..., object] | None
    ) -> ArgumentCallback | None:
        """Return what tells each call's customer; None: nobody does.

        Raises:
            ConfigError: ``source`` asks for what there is not.
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
            known = ", ".join(self._arguments) or "none that it tells"
            raise ConfigError(
                f"{field}: {qualified_name(self.function)} has no argument {name!r}; "
                f"it has {known}"
            ) from None


class ArgumentCallback(NamedTuple):
    """Tells a fact of each call.

    Attributes:
        source: makes the fact of what it asks for.
        asked: the arguments that it asks for, by their names.
        late: whether it asks for the result, too.
    """

    source: Callable[..., object]
    arguments: Mapping[str, _Argument]
    needs_result: bool

    def value(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object = None
    ) -> object:
        """Return the fact; whatever the source raises passes through."""
        told = {name: each.find(args, kwargs) for name, each in self.arguments.items()}
        if self.needs_result:
            told[RESULT] = result
        return self.source(**told)


class _Argument(NamedTuple):
    name: str
    place: int | None  # None: it is passed by name only
    default: object

    @classmethod
    def of(cls, index: int, parameter: inspect.Parameter) -> _Argument:
        default = parameter.default
        return cls(
            parameter.name,
            None if parameter.kind is parameter.KEYWORD_ONLY else index,
            None if default is parameter.empty else default,
        )

    def find(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
        if self.place is not None and self.place < len(args):
            return args[self.place]
        return kwargs.get(self.name, self.default)


def _wanted(
    field: str, source: Callable[..., object], arguments: Arguments
) -> list[str]:
    """Return the names of what a function asks for."""
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError):
        raise ConfigError(
            f"{field}={shorten(source)}: pass a lambda, whose arguments are named"
        ) from None
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind not in _COLLECTING
        and (parameter.default is parameter.empty or parameter.name in arguments)
    ]


def unwrap_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a static or class method holds, or that it is."""
    if isinstance(function, staticmethod | classmethod):
        return function.__func__
    return function


def qualified_name(function: object) -> str:
    """Return what people call a function."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{name}"


_COLLECTING: Final = {
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
}
