"""Capture LiteLLM's calls through its callback, whichever provider they go to.

LiteLLM prices a call by a list of its own. It passes the amount to a ``CustomLogger``
after the call, mostly on its own thread. So the call's attribution and its span are
remembered when it starts.

LiteLLM may go through a provider's library that is captured, too. Then both observe the
same response, with the same provider, type and id. So it is counted once.
"""

from __future__ import annotations

import contextvars
import functools
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from outlay._capture import event_types
from outlay._capture.context.attribution import set_customer
from outlay._capture.extraction.fields import read_fields, to_amount, to_builtin
from outlay._capture.extraction.registry import Call, Endpoint, provider_of
from outlay._capture.guard import guarded
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.streams import StreamObserver
from outlay._capture.instrumentation.thread_pools import BoundFunction
from outlay._capture.instrumentation.wrappers import observe_result
from outlay._capture.observation import Observation
from outlay._model.bounded import BoundedDict
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

Response = Mapping[str, Any]


def observe(response: Response, call: Call) -> Observation | None:
    """Read the callback's data of a call."""
    event_type = _EVENT_TYPES.get(call.path)
    if event_type is None or response.get("cache_hit") is True:
        return None  # LiteLLM's own cache responded
    counts = response.get("usage") or {}
    units = {} if response["adjusted"] else _units(counts)
    price = {"list": "litellm", "version": _version()}
    is_reported = response.get("provenance") == "reported"
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=response.get("id"),
        request_id=call.request_id,
        model=response.get("model") or call.model,
        service_tier=response.get("service_tier"),
        usage=units,
        amount=response.get("amount"),
        provenance=response.get("provenance", "priced"),
        is_complete=bool(units) or "amount" in response,
        # Configured lists that know the price replace this data.
        data={} if "amount" not in response or is_reported else {"price": price},
    )


def _units(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return usage in the units of price lists, or nothing if a unit is unknown.

    Lists would price the unknown rest as nothing. LiteLLM's own amount includes it.
    """
    units: dict[str, int] = {}
    for name, count in _leaves(usage):
        unit = _UNITS.get(name)
        if unit is not None:
            units[unit] = count
        elif name.rpartition(".")[2] not in _REPEATED:
            return {}
    return units


def _leaves(usage: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all counts above zero, with their paths."""
    for name, value in usage.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        elif isinstance(value, int | float) and value:
            yield path + name, value


_PROMPT: Final = "prompt_tokens_details"
_CREATION: Final = f"{_PROMPT}.cache_creation_token_details"
_COMPLETION: Final = "completion_tokens_details"
_UNITS: Final = {
    "prompt_tokens": "input_tokens",
    f"{_PROMPT}.cached_tokens": "cache_read_tokens",
    f"{_PROMPT}.cache_creation_tokens": "cache_write_tokens",
    f"{_CREATION}.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    f"{_CREATION}.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    f"{_PROMPT}.audio_tokens": "input_audio_tokens",
    f"{_PROMPT}.image_tokens": "input_image_tokens",
    f"{_PROMPT}.video_tokens": "input_video_tokens",
    "completion_tokens": "output_tokens",
    f"{_COMPLETION}.reasoning_tokens": "output_reasoning_tokens",
    f"{_COMPLETION}.audio_tokens": "output_audio_tokens",
    f"{_COMPLETION}.image_tokens": "output_image_tokens",
    f"{_COMPLETION}.video_tokens": "output_video_tokens",
}
"""LiteLLM reports every provider's usage in OpenAI's shape: totals and their parts."""
_REPEATED: Final = {
    "total_tokens",
    "text_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
    "cache_write_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "initial_prompt_tokens",
    "cost",
}
"""Names of counts that another name contains, and of values that are no counts."""

_EVENT_TYPES: Final = {
    kind: event_type
    for event_type, kinds in {
        event_types.INFERENCE: (
            "completion",
            "text_completion",
            "responses",
            "anthropic_messages",
            "generate_content",
            "generate_content_stream",
        ),
        event_types.EMBEDDINGS: ("embedding",),
        event_types.IMAGES: ("image_generation", "image_edit", "image_variation"),
        event_types.AUDIO: ("transcription", "speech"),
        event_types.RERANK: ("rerank",),
        event_types.OCR: ("ocr",),
    }.items()
    for name in kinds
    for kind in (name, "a" + name)  # the asynchronous one
}

_OPENAIS: Final = {"openai", "custom_openai", "text-completion-openai"}
_PROVIDERS: Final = {
    "amazon_nova": "aws",
    "anthropic_text": "anthropic",
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
    "codestral": "mistral",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "github_copilot": "github-copilot",
    "meta_llama": "meta",
    "moonshot": "moonshotai",
    "text-completion-codestral": "mistral",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
"""Canonical names of LiteLLM's providers, where the names differ."""


def _provider(kwargs: Response) -> str:
    """Return the provider. As for other sources, the address goes before the name."""
    parameters = kwargs.get("litellm_params") or {}
    address = parameters.get("api_base") or kwargs.get("api_base")
    host = urlsplit(address).hostname if isinstance(address, str) else None
    known = provider_of(host) if host else None
    name = kwargs.get("custom_llm_provider") or "unknown"
    if known is not None or name not in _OPENAIS:
        return known or _PROVIDERS.get(name, name)
    # A server of the user's own that speaks OpenAI's language is not OpenAI.
    return "unknown" if host else "openai"


def _reported_fields(kwargs: Response, response: Any) -> dict[str, Any]:
    """Return names, ids, counts and the amount in a callback's arguments."""
    hidden = getattr(response, "_hidden_params", None) or {}
    own = _has_custom_prices(kwargs)
    fields = {
        **read_fields(response, ("id", "model", "service_tier")),
        "usage": to_builtin(getattr(response, "usage", None)),
        "cache_hit": kwargs.get("cache_hit") or hidden.get("cache_hit"),
        "adjusted": own or _is_adjusted(kwargs),
    }
    if not fields.get("id") and _request_id(hidden) is None:
        fields["id"] = kwargs.get("litellm_call_id")
    if hidden.get("provider_response_model"):
        fields["model"] = hidden["provider_response_model"]
    reported = _reported(kwargs, response)
    if reported is not None:
        return {**fields, "amount": reported, "provenance": "reported"}
    cost = kwargs.get("response_cost")
    # LiteLLM also reports zero for models without a price.
    if isinstance(cost, int | float) and (cost > 0 or own):
        fields["amount"] = Decimal(repr(cost))
    return fields


def _reported(kwargs: Response, response: Any) -> Decimal | None:
    """Return the amount that OpenRouter reports, or None.

    With other providers, LiteLLM writes its own amount into the usage of streams.
    """
    if _provider(kwargs) != "openrouter":
        return None
    usage = read_fields(response, ("usage.cost",))
    cost = usage.get("usage.cost")
    return to_amount(cost) if isinstance(cost, int | float) and cost > 0 else None


def _is_adjusted(kwargs: Response) -> bool:
    """Return whether the amount differs from the cost of tokens."""
    breakdown = (kwargs.get("standard_logging_object") or {}).get("cost_breakdown")
    return any((breakdown or {}).get(name) for name in _ADJUSTMENTS)


def _has_custom_prices(kwargs: Response) -> bool:
    """Return whether the user gave LiteLLM the price."""
    parameters = kwargs.get("litellm_params") or {}
    named = (parameters[name] for name in parameters if "cost_per_" in name)
    return any(price is not None for price in named)


_ADJUSTMENTS: Final = (
    "tool_usage_cost",
    "guardrail_cost",
    "additional_costs",
    "discount_amount",
    "margin_percent",
    "margin_fixed_amount",
)


def _request_id(hidden: Response) -> str | None:
    headers = hidden.get("additional_headers") or {}
    found = headers.get("llm_provider-x-request-id")
    return found if isinstance(found, str) else None


@functools.cache
def _version() -> str:
    return importlib.metadata.version("litellm")


_ENDPOINT: Final = Endpoint(observe)


class _Callbacks:
    """The functions that LiteLLM runs around each of its calls.

    Thread safety: any thread. Single operations of a dict need no lock.
    """

    def __init__(self, scope: InstrumentedClients) -> None:
        self._scope = scope
        self.customer_of: Callable[[Response], str | None] | None = None
        # Contexts by LiteLLM's id. None marks a finished call. Streams that are never
        # read do not end, so the number is bounded.
        self._started: BoundedDict[str, contextvars.Context | None] = BoundedDict(
            _MAX_STARTED
        )

    def on_start(self, kwargs: Response) -> None:
        """Remember the context that a call starts in."""
        customer = self.customer_of and guarded("litellm", self.customer_of, kwargs)
        if customer:
            # In the task of the request: a captured client inside sees it, too.
            set_customer(customer)
        self._started[kwargs["litellm_call_id"]] = contextvars.copy_context()

    def on_failure(self, kwargs: Response) -> None:
        """Forget a failed call, which costs nothing."""
        self._started.pop(kwargs["litellm_call_id"], None)

    def on_success(self, kwargs: Response, response: object) -> None:
        """Finish a call once, in the context that it started in."""
        call_id = kwargs["litellm_call_id"]
        context = self._started.get(call_id, contextvars.copy_context())
        self._started[call_id] = None
        if context is not None:
            context.run(self._finish, kwargs, response)

    def on_left(self, kwargs: Response, response_id: str | None) -> None:
        """Record a call whose stream was not read to its end, without its usage.

        LiteLLM runs no callback for it. If one comes nevertheless, for another wrapper
        of the same stream, its cost replaces this one.
        """
        call_id = kwargs["litellm_call_id"]
        if self._started.get(call_id) is not None:
            fields = {"id": response_id or call_id, "adjusted": False}
            self._finish_with(kwargs, {}, fields)

    def _finish(self, kwargs: Response, response: Any) -> None:
        hidden = getattr(response, "_hidden_params", None) or {}
        self._finish_with(kwargs, hidden, _reported_fields(kwargs, response))

    def _finish_with(
        self, kwargs: Response, hidden: Response, fields: Response
    ) -> None:
        options = self._scope.default_options
        if options is None:
            return
        model = kwargs.get("model")
        call = Call(
            provider=options.provider or _provider(kwargs),
            path=str(kwargs.get("call_type")),
            model=model if isinstance(model, str) else None,
            request_id=_request_id(hidden),
        )
        options.finish_call(_ENDPOINT, call, fields)


_MAX_STARTED: Final = 16_384


def _logger(callbacks: _Callbacks, kind: Any) -> Any:
    """Return a ``CustomLogger``, whose class exists once LiteLLM is imported."""

    class OutlayLogger(kind):  # type: ignore[misc]
        """Passes LiteLLM's calls to outlay."""

        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            del model, messages
            guarded("litellm", callbacks.on_start, kwargs)

        def log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            del start_time, end_time
            guarded("litellm", callbacks.on_success, kwargs, response_obj)

        def log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            del response_obj, start_time, end_time
            guarded("litellm", callbacks.on_failure, kwargs)

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            self.log_success_event(kwargs, response_obj, start_time, end_time)

        async def async_log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            self.log_failure_event(kwargs, response_obj, start_time, end_time)

    return OutlayLogger()


_LISTS: Final = (
    "input_",
    "success_",
    "async_success_",
    "failure_",
    "async_failure_",
)


class _LiteLLM(Library):
    """LiteLLM's package, which gets a callback besides its patches."""

    _callback: Any = None  # guarded by _lock

    @functools.cached_property
    def callbacks(self) -> _Callbacks:
        """The functions that run around the calls of captured programs."""
        return _Callbacks(self.scope)

    def proxy_callback(self, customer_of: Callable[[Response], str | None]) -> Any:
        """Return the callback, for a proxy that takes it from its configuration.

        The library is captured. So the callback exists, and a call that both observe is
        counted once.

        Args:
            customer_of: A function that returns the customer of a call, given the
                callback's arguments.
        """
        self.callbacks.customer_of = customer_of
        return self._callback

    def _patch_module(self, module: str) -> None:
        super()._patch_module(module)
        if module != self.module:
            return
        package = sys.modules[module]
        with self._lock:
            if self._callback is None:
                kind = package.integrations.custom_logger.CustomLogger
                self._callback = _logger(self.callbacks, kind)
            # LiteLLM takes callbacks from each of these lists. Programs replace some of
            # them by lists of their own.
            for what in ("", *_LISTS):
                add = f"add_litellm_{what}callback"
                getattr(package.logging_callback_manager, add)(self._callback)

    def _remove_patches(self) -> None:
        super()._remove_patches()
        package = sys.modules.get(self.module)
        with self._lock:
            lists = vars(package).values() if package else ()
            for each in lists:
                if isinstance(each, list):
                    each[:] = [one for one in each if one is not self._callback]
            self._callback = None
            self.callbacks.customer_of = None


def _reject_single_client(client: object) -> Iterable[object]:
    raise ConfigError(
        f"a {type(client).__name__} cannot be captured alone, because LiteLLM's "
        'callbacks get all calls; write outlay.instrument("litellm")'
    )


class _StreamEnd:
    """Tells the callbacks of a stream that was left before its end."""

    def __init__(self, callbacks: _Callbacks, stream: Any) -> None:
        self._callbacks = callbacks
        # The stream itself would be kept alive by its own end.
        self._kwargs = stream.logging_obj.model_call_details
        self._response_id: str | None = None

    def feed(self, item: Any) -> None:
        """Remember the id that every part of the response has."""
        self._response_id = getattr(item, "id", None) or self._response_id

    def finish(self, *, exhausted: bool) -> None:
        """End. LiteLLM's own callbacks end a stream that was read."""
        if not exhausted:
            self._callbacks.on_left(self._kwargs, self._response_id)


_END: Final = "_outlay_end"


def _stream_patches(module: ModuleType, _scope: InstrumentedClients) -> Iterable[Patch]:
    """Return patches that observe how streams end, which no callback tells."""

    def on_created(_: None, stream: Any, *_args: Any, **_kwargs: Any) -> None:
        if stream.custom_llm_provider != "cached_response":
            end = _StreamEnd(LIBRARY.callbacks, stream)
            vars(stream)[_END] = StreamObserver("litellm", end)

    stream = module.CustomStreamWrapper
    yield Patch(stream, "__init__", observe_result("litellm", on_created))
    yield Patch(stream, "__next__", _observe_next)
    yield Patch(stream, "__anext__", _observe_anext)


def _observe_next(original: Any) -> Any:
    @functools.wraps(original)
    def observed_next(stream: Any) -> Any:
        try:
            part = original(stream)
        except BaseException:
            guarded("litellm", _end, stream)
            raise
        guarded("litellm", _feed, stream, part)
        return part

    return observed_next


def _observe_anext(original: Any) -> Any:
    @functools.wraps(original)
    async def observed_anext(stream: Any) -> Any:
        try:
            part = await original(stream)
        except BaseException:
            guarded("litellm", _end, stream)
            raise
        guarded("litellm", _feed, stream, part)
        return part

    return observed_anext


def _feed(stream: Any, part: Any) -> None:
    observer = vars(stream).get(_END)
    if observer is not None:
        observer.feed(part)


def _end(stream: Any) -> None:
    """Forget the observer of a stream that ended or failed: callbacks tell of it."""
    observer = vars(stream).get(_END)
    if observer is not None:
        observer.detach()


def _pool_patches(module: ModuleType, _scope: InstrumentedClients) -> Iterable[Patch]:
    """Return the patch of the helpers that complete in threads, ``batch_completion…``.

    All of them look ``litellm.completion`` up, and submit it to a pool.
    """

    def bind_completion(package: Any) -> Any:
        return BoundFunction(package, "completion")

    yield Patch(module, "litellm", bind_completion)


LIBRARY: Final = _LiteLLM(
    "litellm",
    lambda _module, _scope: (),
    patched_objects=_reject_single_client,
    extra_modules={
        "litellm.batch_completion.main": _pool_patches,
        "litellm.litellm_core_utils.streaming_handler": _stream_patches,
    },
)
