"""Whose API answers at which host, and which module reads its answers.

A table rather than a line in each module: an HTTP client that is captured may call any
of them, and only the module of the one that it does call is imported.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class ProviderApi(NamedTuple):
    """Where a provider's API is, and who reads it.

    Attributes:
        module: in `providers`.
        hosts: ``.example.com`` stands for every host that ends so.
    """

    module: str
    hosts: tuple[str, ...]


APIS: Final = {
    "anthropic": ProviderApi("anthropic", ("api.anthropic.com",)),
    "apify": ProviderApi("apify", ("api.apify.com",)),
    "assemblyai": ProviderApi(
        "assemblyai", ("api.assemblyai.com", "api.eu.assemblyai.com")
    ),
    # Anybody's servers have names under amazonaws.com.
    "aws": ProviderApi("aws", ()),
    "azure": ProviderApi(
        "openai",
        (
            ".openai.azure.com",
            ".cognitiveservices.azure.com",
            ".services.ai.azure.com",
            ".azure-api.net",
        ),
    ),
    "cerebras": ProviderApi("openai", ("api.cerebras.ai",)),
    "cohere": ProviderApi("cohere", ("api.cohere.com", "api.cohere.ai")),
    "deepgram": ProviderApi("deepgram", ("api.deepgram.com", "api.eu.deepgram.com")),
    "deepseek": ProviderApi("openai", ("api.deepseek.com",)),
    "elevenlabs": ProviderApi("elevenlabs", ("api.elevenlabs.io", ".elevenlabs.io")),
    "fal": ProviderApi(
        "fal", ("fal.run", "queue.fal.run", "falrun.com", "queue.falrun.com")
    ),
    "fireworks": ProviderApi("openai", ("api.fireworks.ai",)),
    "google": ProviderApi(
        "google",
        (
            "generativelanguage.googleapis.com",
            "aiplatform.googleapis.com",
            ".aiplatform.googleapis.com",
            ".rep.googleapis.com",
        ),
    ),
    "google_maps": ProviderApi(
        "google_maps",
        (
            "maps.googleapis.com",
            "roads.googleapis.com",
            "addressvalidation.googleapis.com",
            "www.googleapis.com",  # geolocation is there, among much else
        ),
    ),
    "groq": ProviderApi("openai", ("api.groq.com",)),
    "mistral": ProviderApi(
        "mistral",
        (
            "api.mistral.ai",
            ".api.mistral.ai",
            "api.eu.mistral.ai",
            "api.us.mistral.ai",
        ),
    ),
    "moonshotai": ProviderApi("openai", ("api.moonshot.ai", "api.moonshot.cn")),
    "openai": ProviderApi("openai", ("api.openai.com", ".api.openai.com")),
    "openrouter": ProviderApi("openai", ("openrouter.ai",)),
    "perplexity": ProviderApi("openai", ("api.perplexity.ai",)),
    "replicate": ProviderApi("replicate", ("api.replicate.com",)),
    "together": ProviderApi("openai", ("api.together.ai", "api.together.xyz")),
    "twilio": ProviderApi("twilio", (".twilio.com",)),
    "x-ai": ProviderApi("openai", ("api.x.ai",)),
}
"""By the provider's canonical name."""

HOSTS: Final = {host: name for name, api in APIS.items() for host in api.hosts}
"""Providers by host."""
