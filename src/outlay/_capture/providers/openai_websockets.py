"""Capture responses that openai's package receives through a WebSocket.

``client.responses.connect()`` opens a connection, whose messages are the events of
streamed responses. Every message goes through ``recv_bytes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay._capture.extraction.fields import read_json_fields
from outlay._capture.extraction.registry import Call, Endpoint
from outlay._capture.instrumentation.library import InstrumentedClients, Patch
from outlay._capture.instrumentation.uncaptured import warn_uncaptured
from outlay._capture.instrumentation.wrappers import observe_result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from outlay._capture.providers.generators.stainless import StainlessLibrary

RESPONSES_MODULE: Final = "openai.resources.responses.responses"
REALTIME_MODULE: Final = "openai.resources.realtime.realtime"

_ENTRANCES: Final = ("__enter__", "__aenter__", "enter")
_ENDS: Final = (b"response.completed", b"response.incomplete", b"response.failed")
_CLIENT: Final = "_outlay_client"


class _Event(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw(b"{}")


_event: Final = msgspec.json.Decoder(_Event)


def websocket_patches(
    module: ModuleType,
    scope: InstrumentedClients,
    dialect: StainlessLibrary,
    endpoint: Endpoint,
) -> Iterable[Patch]:
    """Return the patches of the connections of ``client.responses``.

    Args:
        module: The module of the connections.
        scope: The captured clients.
        dialect: Identifies the provider of a client.
        endpoint: The endpoint of responses.
    """

    def on_connect(connection: Any, manager: Any) -> None:
        vars(connection)[_CLIENT] = _client_of(manager)

    def on_message(message: bytes, connection: Any) -> None:
        # Most messages are content, which is not even decoded.
        if not any(end in message for end in _ENDS):
            return
        client = vars(connection).get(_CLIENT)
        options = None if client is None else scope.options_for(client)
        event = _event.decode(message)
        if options is None or event.type.encode() not in _ENDS:
            return
        call = Call(
            provider=options.provider or dialect.provider_of(client),
            path="/responses",
            host=client.base_url.host,
        )
        response = read_json_fields(bytes(event.response), endpoint.fields)
        options.finish_call(endpoint, call, response)

    for connection, manager in _connections(module, "ResponsesConnection"):
        yield Patch(connection, "recv_bytes", observe_result("openai", on_message))
        for name in _ENTRANCES:
            if name in vars(manager):
                yield Patch(manager, name, observe_result("openai", on_connect))


def realtime_patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    """Return patches that warn once about realtime sessions, which are not captured."""
    warning = warn_uncaptured("OpenAI's realtime sessions", scope, _client_of)
    for _, manager in _connections(module, "RealtimeConnection"):
        for name in _ENTRANCES:
            if name in vars(manager):
                yield Patch(manager, name, warning)


def _connections(module: ModuleType, name: str) -> Iterable[tuple[Any, Any]]:
    """Yield the classes of connections and their managers, as far as they exist."""
    for prefix in ("", "Async"):
        connection = getattr(module, prefix + name, None)
        manager = getattr(module, f"{prefix}{name}Manager", None)
        if connection is not None and manager is not None:
            yield connection, manager


def _client_of(manager: Any) -> Any:
    kinds = (kind.__name__ for kind in type(manager).__mro__)
    names = (f"_{kind.lstrip('_')}__client" for kind in kinds)
    return next((vars(manager)[name] for name in names if name in vars(manager)), None)
