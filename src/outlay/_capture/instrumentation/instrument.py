"""The door to captured calls: `instrument`, `uninstrument`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outlay._capture.instrumentation.library import Library
    from outlay._client import Client

T = TypeVar("T")


@overload
def instrument(
    target: str | None = None,
    *,
    client: Client | None = None,
    event_type: str | None = None,
    provider: str | None = None,
    models: Mapping[str, str] | None = None,
    include_usage: bool = False,
    customer_of: Callable[[str], str | None] | None = None,
) -> None: ...


@overload
def instrument(
    target: T,
    *,
    client: Client | None = None,
    event_type: str | None = None,
    provider: str | None = None,
    models: Mapping[str, str] | None = None,
    include_usage: bool = False,
    customer_of: Callable[[str], str | None] | None = None,
) -> T: ...


def instrument(
    target: object = None,
    *,
    client: Client | None = None,
    event_type: str | None = None,
    provider: str | None = None,
    models: Mapping[str, str] | None = None,
    include_usage: bool = False,
    customer_of: Callable[[str], str | None] | None = None,
) -> object:
    """Track what calls of provider libraries cost, from now on.

    The calls return, raise and stream what they would without it. Doing it again
    changes the options and nothing else; `uninstrument` undoes it.

    Thread safety: any thread.

    Args:
        target: a client of a supported library: its calls, and those of copies made
            of it (``with_options``). Or a library's name, such as ``"openai"``: every
            client of it, made before or after. None: every supported library that the
            program has imported, or imports later.
        client: tracks the costs; None: the default client, whichever it is then.
        event_type: of the events, in place of the one that fits the call.
        provider: who charges, in place of who the client's address belongs to. Say it
            for a proxy or a server that nobody knows.
        models: what your deployments and aliases are in price lists, such as
            ``{"our-gpt": "gpt-4o"}``.
        customer_of: tells whose a request of a batch is, by its ``custom_id``; None:
            whoever the code that reads the batch's output runs for. So is what it
            returns None for.
        include_usage: asks for usage in streams that come without it. OpenAI then ends
            a chat's stream with one chunk more, which has no choices.

    Returns:
        The client that was given, else None.

    Raises:
        ConfigError: the library is not supported, or not installed.
    """
    from outlay._capture.instrumentation.library import CaptureOptions  # noqa: PLC0415 - see __init__
    from outlay._capture.recorder import Recorder  # noqa: PLC0415

    options = CaptureOptions(
        record=lambda observation: Recorder.of(client).record(observation),
        event_type=event_type,
        provider=provider,
        models=dict(models or {}),
        include_usage=include_usage,
        customer_of=customer_of,
    )
    if target is None or isinstance(target, str):
        for library in _libraries_for(target):
            library.instrument_all(options)
        return None
    _library_of_client(target).instrument_client(target, options)
    return target


def uninstrument(target: object = None) -> None:
    """Track captured calls no longer; the libraries are as they were before.

    What is under way, such as a stream that is being read, is still tracked.

    Args:
        target: as given to `instrument`; None: everything.

    Raises:
        ConfigError: the library is not supported.
    """
    from outlay._capture.providers import libraries  # noqa: PLC0415 - see __init__

    if target is None:
        for library in libraries():
            library.uninstrument()
    elif isinstance(target, str):
        _library_named(target).uninstrument()
    else:
        _library_of_client(target).uninstrument(target)


def _libraries_for(name: str | None) -> list[Library]:
    from outlay._capture.instrumentation.import_hook import is_installed  # noqa: PLC0415 - see __init__
    from outlay._capture.providers import libraries  # noqa: PLC0415

    if name is None:
        return [library for library in libraries() if not library.clients_only]
    library = _library_named(name)
    if not is_installed(library.module):
        raise ConfigError(
            f"cannot capture the calls of {name!r}, which is not installed"
        )
    if library.clients_only:
        raise ConfigError(
            f"{name!r} carries calls of all kinds: instrument a client, not all of them"
        )
    return [library]


def _library_named(name: str) -> Library:
    from outlay._capture.providers import MODULES, library  # noqa: PLC0415

    try:
        return library(name)
    except KeyError:
        raise ConfigError(
            f"there is no library {name!r} to instrument; "
            f"supported are {', '.join(sorted(MODULES))}"
        ) from None


def _library_of_client(client: object) -> Library:
    from outlay._capture.providers import MODULES, libraries  # noqa: PLC0415

    for library in libraries():
        if library.is_client(client):
            return library
    kind = type(client)
    raise ConfigError(
        f"{kind.__module__}.{kind.__qualname__} is not a client that can be "
        f"instrumented; supported are those of {', '.join(sorted(MODULES))}"
    )
