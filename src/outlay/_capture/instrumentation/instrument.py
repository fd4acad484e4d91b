"""Capture the calls of provider libraries: `instrument`, `uninstrument`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack, overload

from outlay._capture.instrumentation.import_hook import is_installed
from outlay._capture.instrumentation.library import CaptureOptions
from outlay._capture.instrumentation.task_queues import TASK_QUEUES, task_queue
from outlay._capture.pricing.configured_lists import load_price_lists
from outlay._capture.providers import MODULES, libraries, library
from outlay._capture.recorder import Recorder
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outlay._capture.instrumentation.library import Library
    from outlay._client import Client

T = TypeVar("T")


class InstrumentOptions(TypedDict, total=False):
    """Options of `instrument`."""

    client: Client | None
    event_type: str | None
    provider: str | None
    models: Mapping[str, str] | None
    include_usage: bool
    customer_of: Callable[[str], str | None] | None


@overload
def instrument(
    target: str | None = None, **options: Unpack[InstrumentOptions]
) -> None: ...


@overload
def instrument(target: T, **options: Unpack[InstrumentOptions]) -> T: ...


def instrument(target: object = None, **options: Unpack[InstrumentOptions]) -> object:
    """Track the costs of the calls of provider libraries, from now on.

    The calls return, raise and stream the same as without it. A second call changes
    only the options. `uninstrument` undoes it.

    Price lists are loaded here, and genai-prices is imported, not in a captured call.

    Thread safety: any thread.

    Args:
        target: The target. A client of a supported library: its calls are captured, and
            those of copies that are made of it (``with_options``). Or the name of a
            library, such as ``"openai"``: all its clients are captured, earlier ones
            too. If None, every supported library that the program has imported or
            imports later. Or a task queue, ``"arq"``, ``"celery"`` or ``"rq"``: its
            tasks then carry the attribution of the code that sends them.
        **options: See below.

    Options:
        client: The client that tracks the costs. Defaults to the default client at the
            time of the call.
        event_type: The event type, instead of the one that fits the call.
        provider: The provider that charges. Defaults to the owner of the client's
            address. Give it for a proxy or for a server that outlay does not know.
        models: The names that your deployments and aliases have in price lists, such as
            ``{"our-gpt": "gpt-4o"}``.
        include_usage: Whether to request usage in streams that come without it. OpenAI
            then ends the stream of a chat with one more chunk, which has no choices.
            Defaults to False.
        customer_of: A function that returns the customer of a request of a batch, by
            its ``custom_id``. If it is not given or returns None, the customer of the
            code that reads the batch's output.

    Returns:
        The client that was given, or else None.

    Raises:
        ConfigError: The library is not supported, or not installed.
    """
    if isinstance(target, str) and target in TASK_QUEUES:
        task_queue(target).instrument()
        return None
    load_price_lists()
    capture_options = _capture_options(**options)
    if target is None or isinstance(target, str):
        for each in _libraries_for(target):
            each.instrument_all(capture_options)
        return None
    _library_of_client(target).instrument_client(target, capture_options)
    return target


def _capture_options(
    *,
    client: Client | None = None,
    models: Mapping[str, str] | None = None,
    **others: object,
) -> CaptureOptions:
    return CaptureOptions(
        record=lambda observation: Recorder.for_client(client).record(observation),
        models=dict(models or {}),
        **others,  # type: ignore[arg-type]  # the rest of InstrumentOptions
    )


def uninstrument(target: object = None) -> None:
    """Stop capturing. The libraries are then the same as before `instrument`.

    Calls that have begun, such as a stream that is being read, are still tracked.

    Args:
        target: The target that `instrument` got. If None, everything.

    Raises:
        ConfigError: The library is not supported.
    """
    if target is None:
        for each in libraries():
            each.uninstrument()
    elif isinstance(target, str) and target in TASK_QUEUES:
        task_queue(target).uninstrument()
    elif isinstance(target, str):
        _library_named(target).uninstrument()
    else:
        _library_of_client(target).uninstrument(target)


def _libraries_for(name: str | None) -> list[Library]:
    if name is None:
        return [each for each in libraries() if not each.clients_only]
    found = _library_named(name)
    if not is_installed(found.module):
        raise ConfigError(
            f"cannot capture the calls of {name!r}, because it is not installed; "
            "install it, or leave it out"
        )
    if found.clients_only:
        raise ConfigError(
            f"{name!r} makes calls of all kinds: instrument single clients of it"
        )
    return [found]


def _library_named(name: str) -> Library:
    try:
        return library(name)
    except KeyError:
        raise ConfigError(
            f"outlay knows no library {name!r}; "
            f"supported are {', '.join(sorted([*MODULES, *TASK_QUEUES]))}"
        ) from None


def _library_of_client(client: object) -> Library:
    for each in libraries():
        if each.is_client(client):
            return each
    kind = type(client)
    raise ConfigError(
        f"{kind.__module__}.{kind.__qualname__} is not a client that can be "
        f"instrumented; supported are those of {', '.join(sorted(MODULES))}"
    )
