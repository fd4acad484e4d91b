"""Extractors: what they make of recorded responses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot

from outlay._capture.extraction.fields import read_fields, read_json_fields
from outlay._capture.extraction.registry import Call, find_endpoint, provider_of
from outlay._capture.instrumentation.http_exchange import query_of, request_id_in
from outlay._capture.observation import Observation
from outlay._capture.pricing import genai_usage as reports
from outlay._capture.pricing.units import OWN_UNITS
from outlay._capture.providers import libraries
from outlay._capture.providers.openai import _SHAPES as SHAPES
from tests.support.responses import Recorded, recorded

if TYPE_CHECKING:
    from outlay._capture.extraction.registry import Endpoint

tuple(libraries())  # registers the endpoints

RECORDED: Final = (
    *recorded("anthropic-"),
    *recorded("apify-"),
    *recorded("assemblyai-"),
    *recorded("openai-"),
    *recorded("azure-"),
    *recorded("cerebras-"),
    *recorded("deepgram-"),
    *recorded("deepseek-"),
    *recorded("elevenlabs-"),
    *recorded("fal-"),
    *recorded("fireworks-"),
    *recorded("gemini-openai-"),
    *recorded("google_maps-"),
    *recorded("groq-"),
    *recorded("moonshot-"),
    *recorded("openrouter-"),
    *recorded("perplexity-"),
    *recorded("replicate-"),
    *recorded("together-"),
    *recorded("twilio-"),
    *recorded("xai-"),
)
ROWS: Final = [row for row in RECORDED if "batch" not in row.name]


def endpoint_of(row: Recorded) -> tuple[Endpoint, Call]:
    """Return what the row's request finds in the registry."""
    method, _, url = row.request.partition(" ")
    address = urlsplit(url)
    provider = provider_of(address.netloc)
    assert provider is not None
    endpoint = find_endpoint(provider, method, address.path)
    assert endpoint is not None
    return endpoint, Call(
        provider=provider,
        method=method,
        path=address.path,
        host=address.netloc,
        query=query_of(address.query),
        headers=row.headers,
        request_id=request_id_in(row.headers),
    )


def extracted(endpoint: Endpoint, answer: dict[str, Any], call: Call) -> list[Any]:
    """Return all that an extractor makes of an answer."""
    found = endpoint.extract(answer, call)
    if isinstance(found, Observation):
        return [found]
    return list(found or ())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_recorded_response_is_observed_as_the_table_says(row: Recorded) -> None:
    """Whether a model or bytes are read, the observation is the same."""
    endpoint, call = endpoint_of(row)
    body = msgspec.json.Encoder(decimal_format="number").encode(row.response)

    from_model = extracted(endpoint, read_fields(row.response, endpoint.fields), call)
    from_bytes = extracted(endpoint, read_json_fields(body, endpoint.fields), call)

    assert [comparable(row.observed)] == [comparable(one) for one in from_model]
    assert [comparable(row.observed)] == [comparable(one) for one in from_bytes]


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.observed.flavor is None],
    ids=lambda row: row.name,
)
def test_units_have_the_names_of_the_table(row: Recorded) -> None:
    """A price book that says "pages" would never price a "page"."""
    assert row.observed.usage.keys() <= {*OWN_UNITS, *reports.UNITS.units}


def test_the_units_are_documented() -> None:
    """The author of a price book looks for their names."""
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "media.md").read_text()

    assert [unit for unit in OWN_UNITS if f"`{unit}`" not in page] == []


def comparable(observation: Observation) -> dict[str, Any]:
    """Return the fields of an observation, with numbers that compare as written."""
    plain: dict[str, Any] = json.loads(
        msgspec.json.encode(observation), parse_float=str
    )
    return plain


@pytest.mark.parametrize("provider", sorted(SHAPES))
def test_usage_is_told_in_the_shape_that_the_list_reads_of_a_provider(
    provider: str,
) -> None:
    """Or in units, where it reads none: a shape that is not read has no price."""
    known = get_snapshot().find_provider(None, provider, None)
    read = {extractor.api_flavor for extractor in known.extractors or ()}
    shapes = {"chat", "responses", "embeddings", "images"}

    assert set(SHAPES[provider].values()) <= read
    assert (read & shapes) - {"images"} <= SHAPES[provider].keys() | {"anthropic"}
