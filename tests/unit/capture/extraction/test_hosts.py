"""Hosts: known without importing what reads their answers."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from outlay._capture.extraction.hosts import APIS
from outlay._capture.extraction.registry import find_endpoint, provider_of
from outlay._capture.providers import library

PROGRAM: Final = """
import sys
from outlay._capture.extraction.registry import find_endpoint, provider_of

provider = provider_of("api.cohere.com")
assert provider == "cohere"
assert "outlay._capture.providers.cohere" not in sys.modules
assert find_endpoint(provider, "POST", "/v2/rerank") is not None
assert "outlay._capture.providers.cohere" in sys.modules
assert "outlay._capture.providers.openai" not in sys.modules
"""


OWN: Final = """
import outlay
from outlay._capture.extraction.registry import find_endpoint

def free(answer, call): ...

outlay.extractors.extractor("cohere", "POST /v2/rerank")(free)
assert find_endpoint("cohere", "POST", "/v2/rerank").extract is free
assert find_endpoint("cohere", "POST", "/v2/embed") is not None

outlay.extractors.extractor("aws", "POST /textract/AnalyzeID")(free)
outlay.instrument("boto3")
assert find_endpoint("aws", "POST", "/textract/AnalyzeID").extract is free
assert find_endpoint("aws", "POST", "/bedrock-runtime/Converse") is not None
"""


@pytest.mark.parametrize("program", [PROGRAM, OWN], ids=["lazily", "users first"])
def test_what_reads_a_provider_is_imported_when_it_is_needed(program: str) -> None:
    """Only who is called; but before an extractor of the user's, which goes first."""
    if "boto3" in program:
        pytest.importorskip("boto3")
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("API.Mistral.AI", "mistral"),
        ("ours.openai.azure.com", "azure"),
        ("openai.azure.com", None),
        ("api.openai.com.elsewhere.test", None),
    ],
)
def test_a_host_tells_its_provider(host: str, provider: str | None) -> None:
    """Exactly, or by how it ends where the table says so."""
    assert provider_of(host) == provider


def test_no_two_providers_share_a_host() -> None:
    """The later would take the calls of the earlier."""
    hosts = [host for api in APIS.values() for host in api.hosts]

    assert len(hosts) == len(set(hosts))


@pytest.mark.parametrize("provider", APIS)
def test_the_module_of_a_provider_reads_its_answers(provider: str) -> None:
    """A wrong name in the table would be an import error in a user's call."""
    assert find_endpoint(provider, "POST", "/nothing") is None


def test_libraries_can_be_described_without_being_installed() -> None:
    """Importing a description must not import the library itself."""
    assert library("requests").clients_only
