"""Extract costs from fal: by billable units, which a header of the result contains.

The endpoint, such as ``fal-ai/flux/dev``, decides about the unit and its price: an
image, a megapixel, a second. The address of a queued result is shorter than that. So
the endpoint is remembered from the time when the request was queued.
Source: https://docs.fal.ai/documentation/model-apis/pricing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import to_quantity
from outlay._capture.extraction.registry import Call, Endpoint, provider_of, register
from outlay._capture.instrumentation.http_exchange import observe_httpx_response
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.wrappers import observe_context, observe_result
from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

Response = Mapping[str, Any]


def generation(response: Response, call: Call) -> Observation:
    """Read a result, or the ticket of a queued request."""
    if "status_url" in response and "request_id" in response:
        return Observation(
            provider=call.provider,
            event_type=event_types.COMPUTE,
            operation_id=response["request_id"],
            model=call.path.strip("/"),
            price_pending=True,
        )
    return _billed(call, call.headers.get(_ID), call.path.removesuffix("/stream"))


def result(_response: Response, call: Call) -> Observation:
    """Read the result of a queued request, by its address."""
    app, _, request_id = call.path.rpartition("/requests/")
    return _billed(call, request_id, app)


def _billed(call: Call, request_id: str | None, app: str) -> Observation:
    units = to_quantity(call.headers.get("x-fal-billable-units"))
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=request_id,
        model=app.strip("/"),
        usage={} if units is None else {"billable_unit": units},
        is_complete=units is not None,
        is_lookup=call.method == "GET",
    )


def _ignore(_response: dict[str, Any], _event: Response) -> bool:
    """Read nothing of a stream. Its headers contain the units."""
    return False


_ID: Final = "x-fal-request-id"

ENDPOINTS: Final = {
    "POST /{owner}/{name}": Endpoint(generation, ("request_id", "status_url"), _ignore),
    "GET /{owner}/{name}/requests/{id}": Endpoint(result, ()),
}
"""Other operations cost nothing, or are not captured, such as realtime connections."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("fal", _pattern, _endpoint)


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def on_response(
        response: Any, http_client: Any, *_args: Any, **_kwargs: Any
    ) -> None:
        options = scope.options_for(http_client)
        # Files are uploaded to other hosts, which are not the provider's.
        if options is not None and provider_of(response.request.url.host) == "fal":
            observe_httpx_response("fal", options, options.provider or "fal", response)

    def streaming(events: Any, http_client: Any, *_args: Any, **_kwargs: Any) -> None:
        on_response(events.response, http_client)

    def made(http_client: Any, client: Any) -> None:
        scope.inherit(http_client, client)

    yield Patch(module, "_request", observe_result("fal", on_response))
    yield Patch(module, "_async_request", observe_result("fal", on_response))
    yield Patch(module, "connect_sse", observe_context("fal", streaming))
    yield Patch(module, "aconnect_sse", observe_context("fal", streaming))
    # A client creates its HTTP client at its first use.
    yield Patch(vars(module.SyncClient)["_client"], "func", observe_result("fal", made))
    yield Patch(
        vars(module.AsyncClient)["_client"], "func", observe_result("fal", made)
    )


def _patched_objects(client: Any) -> Iterable[object]:
    """Return the client, and its HTTP client if it has one."""
    http_client = vars(client).get("_client")
    http_client = getattr(http_client, "value", http_client)  # of an asynchronous one
    return (client,) if http_client is None else (client, http_client)


LIBRARY: Final = Library(
    "fal-client", _patches, module="fal_client.client", patched_objects=_patched_objects
)
