"""Calls through clients of httpx and httpx2, read by an extractor of the user's."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

import outlay
from tests.support.observing import observing

if TYPE_CHECKING:
    from collections.abc import Mapping


@outlay.extractors.extractor("acme", "POST /v1/enrich/{kind}", host="api.acme.test")
def acme(
    answer: Mapping[str, Any], call: outlay.extractors.Call
) -> outlay.extractors.Observation | None:
    """Charge for what was found, at the price that a header tells."""
    if not answer["found"]:
        return None
    return outlay.extractors.Observation(
        provider="acme",
        event_type="cost.enrichment",
        operation_id=answer["id"],
        amount=Decimal(call.headers["x-price"]),
    )


def respond(request: Any, module: Any) -> Any:
    """Answer as the provider does."""
    found = b"nobody" not in request.content
    status = 404 if request.url.path.endswith("gone") else 200
    body = {"id": "enr_1", "found": found}
    return module.Response(status, json=body, headers={"x-price": "0.05"})


@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
def test_an_extractor_of_the_users_reads_what_a_client_gets(module: Any) -> None:
    """Found is charged; not found, refused, and other hosts are not."""
    transport = module.MockTransport(lambda request: respond(request, module))
    url = "https://api.acme.test/v1/enrich"

    with module.Client(transport=transport) as client, observing(client) as seen:
        assert client.post(f"{url}/person", json={"q": "a"}).json()["id"] == "enr_1"
        with client.stream("POST", f"{url}/person", json={"q": "a"}) as response:
            response.read()
        client.post(f"{url}/person", json={"q": "nobody"})
        client.post(f"{url}/gone", json={"q": "a"})
        client.get(f"{url}/person")
        client.post("https://elsewhere.test/v1/enrich/person")

    assert [(one.operation_id, one.amount) for one in seen] == [
        ("enr_1", Decimal("0.05"))
    ] * 2


@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
def test_asynchronous_clients_are_read_alike(module: Any) -> None:
    """The same extractor serves both."""

    async def ask() -> None:
        url = "https://api.acme.test/v1/enrich/person"
        await client.post(url, json={"q": "a"})
        async with client.stream("POST", url, json={"q": "a"}) as response:
            await response.aread()
        await client.aclose()

    transport = module.MockTransport(lambda request: respond(request, module))
    client = module.AsyncClient(transport=transport)

    with observing(client) as seen:
        asyncio.run(ask())

    assert [one.operation_id for one in seen] == ["enr_1"] * 2


@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
def test_a_slash_within_a_name_does_not_end_it(module: Any) -> None:
    """Names such as Amazon's have some; a query is no part of the path."""
    transport = module.MockTransport(lambda request: respond(request, module))
    with module.Client(transport=transport) as client, observing(client) as seen:
        client.post("https://api.acme.test/v1/enrich/a%2Fb?c=d", json={"q": "a"})
        client.post("https://api.acme.test/v1/enrich/a/b", json={"q": "a"})

    assert [one.operation_id for one in seen] == ["enr_1"]


@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
@pytest.mark.parametrize("mark", ["from_cache", "hishel_from_cache"])
def test_an_answer_out_of_a_cache_costs_nothing(module: Any, mark: str) -> None:
    """The first caller has paid for it. Transports that cache mark what they do."""
    cached = iter([False, True])

    def answer(request: Any) -> Any:
        response = respond(request, module)
        response.extensions[mark] = next(cached)
        return response

    transport = module.MockTransport(answer)
    with module.Client(transport=transport) as client, observing(client) as seen:
        for _ in range(2):
            client.post("https://api.acme.test/v1/enrich/person", json={"q": "a"})

    assert [one.operation_id for one in seen] == ["enr_1"]


def test_what_is_no_endpoint_is_said() -> None:
    """With what one looks like."""
    with pytest.raises(ValueError, match="POST /v1/enrich"):
        outlay.extractors.extractor("acme", "enrich")(acme)
