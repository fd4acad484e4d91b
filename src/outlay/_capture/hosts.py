"""Whose API answers at which host, and which module reads its answers.

A table rather than a line in each module: an HTTP client that is captured may call any
of them, and only the module of the one that it does call is imported.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Api(NamedTuple):
    """Where a provider's API is, and who reads it.

    Attributes:
        module: in `providers`.
        hosts: ``.example.com`` stands for every host that ends so.
    """

    module: str
    hosts: tuple[str, ...]


APIS: Final = {
    "anthropic": Api("anthropic", ("api.anthropic.com",)),
    "apify": Api("apify", ("api.apify.com",)),
    "assemblyai": Api("assemblyai", ("api.assemblyai.com", "api.eu.assemblyai.com")),
    # Anybody's servers have names under amazonaws.com.
    "aws": Api("aws", ()),
    "azure": Api(
        "openai",
        (
            ".openai.azure.com",
            ".cognitiveservices.azure.com",
            ".services.ai.azure.com",
            ".azure-api.net",
        ),
    ),
    "cerebras": Api("openai", ("api.cerebras.ai",)),
    "cohere": Api("cohere", ("api.cohere.com", "api.cohere.ai")),
    "deepgram": Api("deepgram", ("api.deepgram.com", "api.eu.deepgram.com")),
    "deepseek": Api("openai", ("api.deepseek.com",)),
    "elevenlabs": Api("elevenlabs", ("api.elevenlabs.io", ".elevenlabs.io")),
    "fal": Api("fal", ("fal.run", "queue.fal.run", "falrun.com", "queue.falrun.com")),
    "fireworks": Api("openai", ("api.fireworks.ai",)),
    "google": Api(
        "google",
        (
            "generativelanguage.googleapis.com",
            "aiplatform.googleapis.com",
            ".aiplatform.googleapis.com",
            ".rep.googleapis.com",
        ),
    ),
    "google_maps": Api(
        "google_maps",
        (
            "maps.googleapis.com",
            "roads.googleapis.com",
            "addressvalidation.googleapis.com",
            "www.googleapis.com",  # geolocation is there, among much else
        ),
    ),
    "groq": Api("openai", ("api.groq.com",)),
    "mistral": Api(
        "mistral",
        (
            "api.mistral.ai",
            ".api.mistral.ai",
            "api.eu.mistral.ai",
            "api.us.mistral.ai",
        ),
    ),
    "moonshotai": Api("openai", ("api.moonshot.ai", "api.moonshot.cn")),
    "openai": Api("openai", ("api.openai.com", ".api.openai.com")),
    "openrouter": Api("openai", ("openrouter.ai",)),
    "perplexity": Api("openai", ("api.perplexity.ai",)),
    "replicate": Api("replicate", ("api.replicate.com",)),
    "together": Api("openai", ("api.together.ai", "api.together.xyz")),
    "twilio": Api("twilio", (".twilio.com",)),
    "x-ai": Api("openai", ("api.x.ai",)),
}
"""By the provider's canonical name."""

HOSTS: Final = {host: name for name, api in APIS.items() for host in api.hosts}
"""Providers by host."""
