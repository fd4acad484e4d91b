"""Say which calls probably made a charge that no event has.

The sentences rest on `docs/providers.md`, which lists what outlay captures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay._reconcile.cells import Key


class _Source(NamedTuple):
    """A kind of charge.

    Attributes:
        words: Texts that a bill's description of it contains, in small letters.
        note: The probable source, as a sentence.
    """

    words: tuple[str, ...]
    note: str


_TRACK_IT: Final = "outlay captures none of these: track them with outlay.track_cost."

_ANY: Final = (
    _Source(("tax", "vat"), "A tax, which no event has."),
    _Source(
        ("support", "subscription", "seat", "fee", "commitment", "savingsplan"),
        "A fixed fee, which no call causes. Track it with outlay.track_cost, or leave "
        "it out with --where.",
    ),
)
_BY_PROVIDER: Final[dict[str, tuple[_Source, ...]]] = {
    "openai": (
        _Source(("realtime",), f"Realtime sessions of openai; {_TRACK_IT}"),
        _Source(("video", "sora"), f"Videos of openai; {_TRACK_IT}"),
        _Source(
            ("fine-tun", "finetun", "training"), f"Fine-tuning of openai; {_TRACK_IT}"
        ),
        _Source(("storage", "vector"), f"Storage of files and vectors; {_TRACK_IT}"),
        _Source(
            ("code interpreter", "container"),
            "Containers of the code interpreter, whose minutes no response reports; "
            f"{_TRACK_IT}",
        ),
        _Source(
            ("assistant",), f"The Assistants API (client.beta.threads); {_TRACK_IT}"
        ),
        _Source(
            ("batch",),
            "A batch (/v1/batches) whose output no instrumented client has read. Read "
            "it, or pass it to outlay.observe_batch.",
        ),
        _Source(
            ("embedding",),
            "Calls of /v1/embeddings from a program without outlay.instrument(), or "
            "with an HTTP client of its own.",
        ),
        _Source(
            ("web search", "file search", "search"),
            "Searches of /v1/responses or of search models, from a program without "
            "outlay.instrument().",
        ),
        _Source(
            ("image", "dall-e"),
            "Calls of /v1/images from a program without outlay.instrument().",
        ),
        _Source(
            ("tts", "whisper", "transcribe", "audio"),
            "Calls of /v1/audio from a program without outlay.instrument().",
        ),
    ),
    "anthropic": (
        _Source(
            ("code_execution", "code execution"),
            f"Hours of code execution, which no response reports; {_TRACK_IT}",
        ),
        _Source(("session", "managed"), f"Managed agents; {_TRACK_IT}"),
        _Source(
            ("batch",),
            "A batch (/v1/messages/batches) whose results no instrumented client has "
            "read. Read them, or pass them to outlay.observe_batch.",
        ),
        _Source(
            ("web_search", "web search"),
            "Searches of /v1/messages from a program without outlay.instrument().",
        ),
        _Source(("claude code", "claude_code"), f"Claude Code; {_TRACK_IT}"),
    ),
    "aws": (
        _Source(
            ("bedrock",),
            "Calls of Bedrock from a program without outlay.instrument(), or its "
            "guardrails, agents or speech, which outlay does not capture.",
        ),
        _Source(
            ("textract",),
            "Calls of Textract from a program without outlay.instrument().",
        ),
    ),
    "twilio": (
        _Source(
            ("phone number", "number", "video", "conversation", "sendgrid", "email"),
            f"Numbers by the month, video, conversations or e-mail; {_TRACK_IT}",
        ),
    ),
}
_PACKAGES: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "aws": "boto3",
    "google": "google-genai",
    "mistral": "mistralai",
    "cohere": "cohere",
    "deepgram": "deepgram",
    "elevenlabs": "elevenlabs",
    "fal": "fal-client",
    "groq": "groq",
    "replicate": "replicate",
    "together": "together",
    "twilio": "twilio",
    "google-maps": "googlemaps",
}
_SERVICES_OF: Final = frozenset({"aws"})
"""Providers of many services, of which outlay captures a few."""


def probable_source(
    provider: str,
    key: Key,
    descriptions: Iterable[str],
    *,
    is_seen: bool,
    is_credit: bool,
) -> str:
    """Return what a charge without an event probably is, as a sentence.

    Args:
        provider: The provider.
        key: The day, the model and the kind of unit.
        descriptions: The bill's own words.
        is_seen: Whether there are events of the model in the period.
        is_credit: Whether the charge is below zero.
    """
    if is_credit:
        return (
            "A credit, a refund or a discount. Give it to the events with outlay "
            "adjust, or leave it out with --where."
        )
    words = " ".join([key.model, key.kind, *descriptions]).casefold()
    for source in (*_BY_PROVIDER.get(provider, ()), *_ANY):
        if any(word in words for word in source.words):
            return source.note
    if provider in _SERVICES_OF and not is_seen:
        return (
            f"outlay captures no calls of {key.model or 'this service'}: track them "
            "with outlay.track_cost, or leave the service out with --where."
        )
    package = _PACKAGES.get(provider)
    program = (
        f"a program without outlay.instrument({package!r})"
        if package
        else "a program that does not track them"
    )
    if is_seen:
        return (
            f"Some calls come from {program}, from a client that is not instrumented, "
            "or are still pending in a journal (outlay journal status)."
        )
    what = f"No event has the model {key.model}" if key.model else "No event has these"
    return f"{what}: its calls probably come from {program}."
