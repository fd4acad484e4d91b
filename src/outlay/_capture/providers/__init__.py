"""The providers that outlay captures, one module each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay._capture.instrumentation.library import Library

MODULES: Final = {
    "aioboto3": "aws.AIOBOTOCORE",
    "aiobotocore": "aws.AIOBOTOCORE",
    "anthropic": "anthropic.LIBRARY",
    "boto3": "aws.LIBRARY",
    "botocore": "aws.LIBRARY",
    "cohere": "cohere.LIBRARY",
    "deepgram": "deepgram.LIBRARY",
    "dspy": "dspy.LIBRARY",
    "elevenlabs": "elevenlabs.LIBRARY",
    "fal-client": "fal.LIBRARY",
    "google-genai": "google.LIBRARY",
    "googlemaps": "google_maps.LIBRARY",
    "groq": "openai.GROQ",
    "httpx": "http_clients.HTTPX",
    "httpx2": "http_clients.HTTPX2",
    "litellm": "litellm.LIBRARY",
    "mistralai": "mistral.LIBRARY",
    "openai": "openai.LIBRARY",
    "replicate": "replicate.LIBRARY",
    "requests": "http_clients.REQUESTS",
    "together": "openai.TOGETHER",
    "twilio": "twilio.LIBRARY",
}
"""The module and the attribute that describe a library, by the library's name."""


def library(name: str) -> Library:
    """Return a library's description. Its module is imported, the library is not.

    Raises:
        KeyError: outlay does not know the library.
    """
    module, attribute = MODULES[name].split(".")
    found: Library = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found


def libraries() -> Iterable[Library]:
    """Return the description of each known library once."""
    return dict.fromkeys(map(library, MODULES))
