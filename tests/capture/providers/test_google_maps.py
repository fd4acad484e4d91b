"""The googlemaps package: flat prices, by what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import googlemaps  # type: ignore[import-untyped]
import pytest
from googlemaps.exceptions import (  # type: ignore[import-untyped]
    ApiError,
    HTTPError,
)

from outlay._capture.observation import Observation
from outlay._capture.providers.google_maps import LIBRARY
from tests.support.adapters import ScriptedAdapter
from tests.support.observing import observing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.capture.providers.conftest import Capture

SECRET: Final = "221B Baker Street"
OK: Final = {"status": "OK", "results": [{"formatted_address": SECRET}]}


def client_of(*answers: Any) -> googlemaps.Client:
    """Return a client of an API that answers so."""
    session = ScriptedAdapter(*answers).session()
    return googlemaps.Client("AIza-test", requests_session=session)


def seen(model: str, tier: str | None = None, **usage: int) -> Observation:
    """Return what is observed of a call."""
    return Observation(
        provider="google_maps",
        event_type="cost.geocoding",
        model=model,
        service_tier=tier,
        usage=usage,
    )


@pytest.mark.parametrize("status", ["OK", "ZERO_RESULTS"])
def test_a_call_is_observed_whatever_it_found(status: str, capture: Capture) -> None:
    """Google bills what succeeds, and finding nothing is a success."""
    client = client_of({"status": status, "results": []})
    with capture(LIBRARY, client) as observed:
        assert client.geocode(SECRET) == []

    assert observed == [seen("geocode", call=1)]
    assert SECRET not in repr(observed)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "REQUEST_DENIED"},
        {"status": "INVALID_REQUEST"},
        {"status": "NOT_FOUND"},
        (403, {}),
    ],
    ids=["denied", "invalid", "not found", "forbidden"],
)
def test_a_refusal_costs_nothing(answer: Any, capture: Capture) -> None:
    """And is the caller's."""
    client = client_of(answer)
    with capture(LIBRARY, client) as observed, pytest.raises((ApiError, HTTPError)):
        client.geocode(SECRET)

    assert observed == []


def test_a_call_that_was_tried_again_is_observed_once(capture: Capture) -> None:
    """The package tries again by itself; what was over the limit is not billed."""
    client = client_of((503, {}), {"status": "OVER_QUERY_LIMIT"}, OK)
    with capture(LIBRARY, client) as observed:
        client.geocode(SECRET)

    assert observed == [seen("geocode", call=1)]


def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays."""
    before = vars(googlemaps.Client)["_request"]
    client = client_of(OK)
    with capture(LIBRARY) as observed:
        client.timezone((51.5, -0.16))
    client.timezone((51.5, -0.16))

    assert observed == [seen("timezone", call=1)]
    assert vars(googlemaps.Client)["_request"] is before


MATRIX: Final = {
    "status": "OK",
    "rows": [{"elements": [{"status": "OK"}, {"status": "ZERO_RESULTS"}]}] * 3,
}
DETAILS: Final = {"status": "OK", "result": {"name": SECRET}}
CALLS: Final[Mapping[str, tuple[Any, Callable[[Any], Any], Observation]]] = {
    "route": (OK, lambda maps: maps.directions("a", "b"), seen("directions", call=1)),
    "route with traffic": (
        OK,
        lambda maps: maps.directions("a", "b", departure_time="now"),
        seen("directions", "advanced", call=1),
    ),
    "transit at some time": (
        OK,
        lambda maps: maps.directions("a", "b", mode="transit", departure_time="now"),
        seen("directions", call=1),
    ),
    "route of ten stops": (
        OK,
        lambda maps: maps.directions("a", "b", waypoints=["c"] * 10),
        seen("directions", call=1),
    ),
    "route of eleven stops": (
        OK,
        lambda maps: maps.directions("a", "b", waypoints=["c"] * 11),
        seen("directions", "advanced", call=1),
    ),
    "best order of stops": (
        OK,
        lambda maps: maps.directions("a", "b", waypoints="c", optimize_waypoints=True),
        seen("directions", "advanced", call=1),
    ),
    "right side of the road": (
        OK,
        lambda maps: maps.directions("side_of_road:a", "b"),
        seen("directions", "advanced", call=1),
    ),
    "distances": (
        MATRIX,
        lambda maps: maps.distance_matrix(["a"] * 3, ["b"] * 2),
        seen("distancematrix", element=6),
    ),
    "distances with traffic": (
        MATRIX,
        lambda maps: maps.distance_matrix(["a"] * 3, ["b"] * 2, departure_time="now"),
        seen("distancematrix", "advanced", element=6),
    ),
    "plain details": (
        DETAILS,
        lambda maps: maps.place("id", fields=["name"]),
        seen("place/details", call=1),
    ),
    "dearer details": (
        DETAILS,
        lambda maps: maps.place("id", fields=["website", "rating", "delivery"]),
        seen("place/details", atmosphere_data=1, call=1, contact_data=1),
    ),
    "all details": (
        DETAILS,
        lambda maps: maps.place("id"),
        seen("place/details", atmosphere_data=1, call=1, contact_data=1),
    ),
    "details in a session": (
        DETAILS,
        lambda maps: maps.place("id", fields=["name"], session_token="t"),
        seen("place/details", "session", call=1),
    ),
    "ids": (
        {"status": "OK", "candidates": []},
        lambda maps: maps.find_place("a", "textquery"),
        seen("place/findplacefromtext", call=1),
    ),
    "search": (
        OK,
        lambda maps: maps.places("tea"),
        seen("place/textsearch", atmosphere_data=1, call=1, contact_data=1),
    ),
    "map": (
        b"PNG",
        lambda maps: list(maps.static_map(300, center="a", zoom=1)),
        seen("staticmap", call=1),
    ),
    "roads": (
        {"snappedPoints": []},
        lambda maps: maps.snap_to_roads([(1, 2)]),
        seen("snapToRoads", call=1),
    ),
    "position": (
        {"location": {}},
        lambda maps: maps.geolocate(),
        seen("geolocate", call=1),
    ),
    "address": (
        {"result": {}},
        lambda maps: maps.addressvalidation([SECRET]),
        seen("validateAddress", call=1),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_makes_a_call_dearer_is_observed(name: str, capture: Capture) -> None:
    """So that it is never priced as the plain one."""
    answer, ask, expected = CALLS[name]
    client = client_of(answer)
    with capture(LIBRARY, client) as observed:
        ask(client)

    assert observed == [expected]


def test_an_image_that_is_refused_costs_nothing(capture: Capture) -> None:
    """The package hands it on like any other."""
    client = client_of((404, b""))
    with capture(LIBRARY, client) as observed:
        list(client.places_photo("reference", max_width=1))

    assert observed == []


def test_a_session_of_requests_observes_the_same() -> None:
    """For code that calls the API without the package."""
    session = ScriptedAdapter(MATRIX, {"status": "REQUEST_DENIED"}).session()
    url = "https://maps.googleapis.com/maps/api/distancematrix/json"
    with observing(session) as observed:
        for _ in range(2):
            session.get(url, params={"origins": "a", "departure_time": "now"})

    assert observed == [seen("distancematrix", "advanced", element=6)]
