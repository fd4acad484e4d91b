"""The providers that capture knows: one module each, imported when first needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay._capture.instrumentation.library import Library

MODULES: Final = {
    "anthropic": "anthropic",
    "boto3": "aws",
    "botocore": "aws",
    "cohere": "cohere",
    "deepgram": "deepgram",
    "elevenlabs": "elevenlabs",
    "fal-client": "fal",
    "google-genai": "google",
    "googlemaps": "google_maps",
    "groq": "groq",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "litellm": "litellm",
    "mistralai": "mistral",
    "openai": "openai",
    "replicate": "replicate",
    "requests": "requests",
    "together": "together",
    "twilio": "twilio",
}
"""What users call a library, and the module here whose ``LIBRARY`` describes it."""


def library(name: str) -> Library:
    """Return a library's description.

    Raises:
        KeyError: no such library is known.
    """
    module = import_module(f"{__name__}.{MODULES[name]}")
    found: Library = module.LIBRARY
    return found


def libraries() -> Iterable[Library]:
    """Return the descriptions of all libraries that are known, each once."""
    return dict.fromkeys(map(library, MODULES))
