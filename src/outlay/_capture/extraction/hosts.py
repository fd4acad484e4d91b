"""List the hosts of providers, and the modules that read their responses.

It is one table, because a captured HTTP client may call any of them. Only the module of
a provider that is called is imported.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class ProviderApi(NamedTuple):
    """The module and the hosts of a provider's API.

    Attributes:
        module: The module in `providers`.
        hosts: The hosts. ``.example.com`` stands for every host with that end.
    """

    module: str
    hosts: tuple[str, ...]


APIS: Final = {
    "anthropic": ProviderApi("anthropic", ("api.anthropic.com",)),
    "apify": ProviderApi("apify", ("api.apify.com",)),
    "assemblyai": ProviderApi(
        "assemblyai", ("api.assemblyai.com", "api.eu.assemblyai.com")
    ),
    # The servers of all customers have names under amazonaws.com.
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
            "www.googleapis.com",  # geolocation, among much else
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
"""The APIs, by the provider's canonical name."""

HOSTS: Final = {host: name for name, api in APIS.items() for host in api.hosts}
"""The providers, by host."""
