"""Extract costs from Google Maps: flat prices for calls, from the user's price book.

The response contains no price and no id. It shows whether the call was billed: Google
bills requests that succeed. Finding nothing is a success, and a refusal is not.
Source: https://developers.google.com/maps/billing-and-pricing/gmp-pricing-glossary and
https://developers.google.com/maps/billing-and-pricing/sku-details (legacy SKUs, which
the googlemaps package calls).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import read_fields
from outlay._capture.extraction.registry import Call, Endpoint, find_endpoint, register
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.wrappers import observe_result
from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

Response = Mapping[str, Any]


def map_call(response: Response, call: Call) -> Observation | None:
    """Read a call, by the name of its API and its tier."""
    if response.get("status", "OK") not in _SUCCESS:
        return None
    return _observation(call, {"call": 1}, _tier(call.query))


def matrix(response: Response, call: Call) -> Observation | None:
    """Read a matrix of distances: billed by the element, a pair of places."""
    if response.get("status") not in _SUCCESS:
        return None
    elements = sum(map(len, response.get(_ELEMENTS) or ()))
    return _observation(call, {"element": elements}, _tier(call.query))


def places(response: Response, call: Call) -> Observation | None:
    """Read a search for places, or their details. Some data cost more."""
    if response.get("status") not in _SUCCESS:
        return None
    tier = "session" if "sessiontoken" in call.query else None
    return _observation(call, {"call": 1, **_data_of(call)}, tier)


def _observation(call: Call, usage: dict[str, int], tier: str | None) -> Observation:
    return Observation(
        provider=call.provider,
        event_type=event_types.GEOCODING,
        model=_name(call.path),
        service_tier=tier,
        usage=usage,
    )


def _name(path: str) -> str:
    """Return the API's name in its address, such as ``place/details``."""
    for noise in ("/maps/api/", "/geolocation/v1/", "/v1/", "/v1:"):
        _, found, name = path.partition(noise)
        if found:
            return name.removesuffix("/json")
    return path.strip("/")


def _tier(query: Mapping[str, str]) -> str | None:
    """Return ``advanced`` for routes that cost twice as much."""
    points = query.get("waypoints", "").split("|")
    named = [point for point in points if point and not point.startswith("optimize:")]
    places = (*points, query.get("origin", ""), query.get("destination", ""))
    is_advanced = (
        (
            "departure_time" in query and query.get("mode", "driving") == "driving"
        )  # so with traffic
        or "optimize:true" in points
        or len(named) > _WAYPOINTS
        or any(place.startswith(_MODIFIERS) for place in places)
    )
    return "advanced" if is_advanced else None


def _data_of(call: Call) -> dict[str, int]:
    """Return the kinds of data of places that are billed on top."""
    given = call.query.get("fields")
    if given is None and call.path.endswith("/findplacefromtext/json"):
        return {}  # returns ids only
    kinds = {_KINDS.get(field, "") for field in (given or "").split(",")}
    if given is None:
        kinds = {"contact_data", "atmosphere_data"}  # returns all data
    return dict.fromkeys(sorted(kinds - {""}), 1)


_SUCCESS: Final = {"OK", "ZERO_RESULTS"}
_ELEMENTS: Final = "rows.elements.status"
_WAYPOINTS: Final = 10  # so many at the plain price
_MODIFIERS: Final = ("side_of_road:", "heading=")
_KINDS: Final = {
    **dict.fromkeys(
        (
            "current_opening_hours",
            "formatted_phone_number",
            "international_phone_number",
            "opening_hours",
            "secondary_opening_hours",
            "website",
        ),
        "contact_data",
    ),
    **dict.fromkeys(
        (
            "curbside_pickup",
            "delivery",
            "dine_in",
            "editorial_summary",
            "price_level",
            "rating",
            "reservable",
            "review",
            "reviews",
            "serves_beer",
            "serves_breakfast",
            "serves_brunch",
            "serves_dinner",
            "serves_lunch",
            "serves_vegetarian_food",
            "serves_wine",
            "takeout",
            "user_ratings_total",
        ),
        "atmosphere_data",
    ),
}

_CALLS: Final = Endpoint(map_call, ("status",))
_IMAGES: Final = Endpoint(map_call, ())
_PLACES: Final = Endpoint(places, ("status",))

ENDPOINTS: Final = {
    "GET /maps/api/geocode/json": _CALLS,
    "GET /maps/api/directions/json": _CALLS,
    "GET /maps/api/distancematrix/json": Endpoint(matrix, ("status", _ELEMENTS)),
    "GET /maps/api/elevation/json": _CALLS,
    "GET /maps/api/timezone/json": _CALLS,
    "GET /maps/api/staticmap": _IMAGES,
    "GET /maps/api/streetview": _IMAGES,
    "GET /maps/api/place/{kind}/json": _PLACES,
    "GET /maps/api/place/photo": _IMAGES,
    "POST /geolocation/v1/geolocate": _IMAGES,
    "GET /v1/snapToRoads": _IMAGES,
    "GET /v1/nearestRoads": _IMAGES,
    "GET /v1/speedLimits": _IMAGES,
    "POST /v1:validateAddress": _IMAGES,
}
"""Other operations cost nothing, or are not captured: the newer APIs of places and
routes, whose prices depend on field masks."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("google_maps", _pattern, _endpoint)


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def on_response(
        response: Any, client: Any, url: str, params: Any, *args: Any, **kwargs: Any
    ) -> None:
        options = scope.options_for(client)
        # To retry, it calls itself. The outermost call gets the response, too.
        retries = kwargs.get("retry_counter", args[1] if len(args) > 1 else 0)
        if options is None or retries:
            return
        if getattr(response, "status_code", 200) != 200:  # of an image
            return
        provider = options.provider or "google_maps"
        method = "POST" if kwargs.get("post_json") is not None else "GET"
        endpoint = find_endpoint(provider, method, url)
        if endpoint is not None:
            more = getattr(client, "_extra_params", None) or {}
            query = {name: str(value) for name, value in {**more, **params}.items()}
            call = Call(provider=provider, method=method, path=url, query=query)
            options.finish_call(endpoint, call, read_fields(response, endpoint.fields))

    wrap: Callable[..., Any] = observe_result("googlemaps", on_response)
    yield Patch(module.Client, "_request", wrap)


LIBRARY: Final = Library("googlemaps", _patches)
"""It is patched where each request gets its response, after the library's own retries.
No public method sees all calls."""
