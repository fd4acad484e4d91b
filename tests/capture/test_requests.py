"""Calls through sessions of requests, read by an extractor of the user's."""

from __future__ import annotations

import gc
import io
import pickle
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

import outlay
from tests.support.observing import observing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

URL: Final = "https://api.sessions.test/v1/enrich/person"
PRICE: Final = "0.0512345678901234567890123"
ANSWER: Final = f'{{"id": "enr_1", "found": true, "cost": {PRICE}}}'


@outlay.extractors.extractor(
    "sessions", "POST /v1/enrich/{kind}", "GET /v1/moved", host="api.sessions.test"
)
def sessions(
    answer: Mapping[str, Any], call: outlay.extractors.Call
) -> outlay.extractors.Observation:
    """Charge what the answer tells."""
    return outlay.extractors.Observation(
        provider=call.provider,
        event_type="cost.enrichment",
        operation_id=answer.get("id"),
        request_id=call.request_id,
        model=call.request.get("plan"),
        amount=answer.get("cost"),
    )


class Api(BaseAdapter):
    """Answers like the provider."""

    def send(
        self,
        request: requests.PreparedRequest,
        *_args: object,
        **_options: object,
    ) -> requests.Response:
        """Answer, with a redirect first where the path says so."""
        path = request.path_url
        response = requests.Response()
        response.status_code = {"/v1/gone": 404, "/v1/moving": 302}.get(path, 200)
        response.headers["content-type"] = "application/json"
        response.headers["location"] = "https://api.sessions.test/v1/moved"
        response.headers["x-request-id"] = "req_1"
        response.encoding = "utf-8"
        response.request = request
        response.url = request.url or ""
        body = io.BytesIO(ANSWER.encode())
        response.raw = HTTPResponse(body, preload_content=False)
        return response

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def session() -> requests.Session:
    """Return a session that knows only the API."""
    session = requests.Session()
    session.mount("https://", Api())
    return session


def test_a_call_is_observed_with_every_digit_of_its_price(
    session: requests.Session,
) -> None:
    """No float is in between: the text has more digits than one can hold."""
    with observing(session) as seen:
        answer = session.post(URL, json={"plan": "pro", "who": "Ada"})

    assert answer.json()["id"] == "enr_1"
    assert seen == [
        outlay.extractors.Observation(
            provider="sessions",
            event_type="cost.enrichment",
            operation_id="enr_1",
            request_id="req_1",
            model="pro",
            amount=Decimal(PRICE),
        )
    ]


def test_what_costs_nothing_is_not_observed(session: requests.Session) -> None:
    """Refused, unknown paths and hosts, and other sessions."""
    other = requests.Session()
    other.mount("https://", Api())
    with observing(session) as seen:
        session.post("https://api.sessions.test/v1/gone")
        session.get(URL)
        session.post("https://elsewhere.test/v1/enrich/person")
        other.post(URL)
    session.post(URL)

    assert seen == []


def test_an_answer_out_of_a_cache_costs_nothing(session: requests.Session) -> None:
    """The first caller has paid for it."""

    class Caching(Api):
        def send(
            self, request: requests.PreparedRequest, *_: object, **__: object
        ) -> requests.Response:
            response = super().send(request)
            vars(response)["from_cache"] = True  # as CacheControl does
            return response

    with observing(session) as seen:
        session.post(URL)
        session.mount("https://", Caching())
        session.post(URL)

    assert [one.operation_id for one in seen] == ["enr_1"]


def test_a_redirected_call_is_observed_once(session: requests.Session) -> None:
    """A session sends each of its requests by itself, and returns the last answer."""
    with observing(session) as seen:
        answer = session.get("https://api.sessions.test/v1/moving")

    assert [one.status_code for one in answer.history] == [302]
    assert [one.operation_id for one in seen] == ["enr_1"]


@pytest.mark.parametrize(
    "body",
    [b'{"plan": "pro"}', '{"plan": "pro"}', io.BytesIO(b"{}"), iter([b"{}"]), b"["],
    ids=["bytes", "text", "file", "parts", "no JSON"],
)
def test_a_request_of_any_kind_is_sent_as_it_is(
    session: requests.Session, body: Any
) -> None:
    """Only what is there is read: never a file, nor what is made while it is sent."""
    with observing(session) as seen:
        session.post(URL, data=body, headers={"content-type": "application/json"})

    told = isinstance(body, bytes | str) and len(body) > 1
    assert [one.model for one in seen] == ["pro" if told else None]


READINGS: Final[Mapping[str, Callable[[requests.Response], Any]]] = {
    "content": lambda response: response.content,
    "json": lambda response: response.json(),
    "parts": lambda response: list(response.iter_content(7)),
    "lines": lambda response: list(response.iter_lines()),
    "text": lambda response: list(response.iter_content(7, decode_unicode=True)),
    "by iterating": list,
}


@pytest.mark.parametrize("way", READINGS)
def test_a_streamed_answer_is_observed_when_it_was_read(
    session: requests.Session, way: str
) -> None:
    """And not a byte of it before."""
    with observing(session) as seen:
        response = session.post(URL, stream=True)
        assert response.raw.tell() == 0
        assert seen == []
        READINGS[way](response)
        response.close()

    assert [(one.amount, one.is_complete) for one in seen] == [(Decimal(PRICE), True)]
    assert not {"iter_content", "close"} & vars(response).keys()


@pytest.mark.parametrize("end", ["closed", "forgotten", "with"])
def test_a_streamed_answer_that_is_given_up_is_incomplete(
    session: requests.Session, end: str
) -> None:
    """Its cost is not known, which is seen, and not taken for zero."""
    with observing(session) as seen:
        response = session.post(URL, stream=True)
        parts = response.iter_content(7)
        next(parts)
        if end == "closed":
            response.close()
        elif end == "with":
            with response:
                pass
        else:
            del response, parts
            gc.collect()
        assert [(one.amount, one.is_complete) for one in seen] == [(None, False)]


def test_an_answer_pickles_as_ever(session: requests.Session) -> None:
    """Caches keep answers."""
    with observing(session):
        response = session.post(URL, stream=True)
        copy = pickle.loads(pickle.dumps(response))  # noqa: S301 - our own

    assert copy.json()["id"] == "enr_1"
