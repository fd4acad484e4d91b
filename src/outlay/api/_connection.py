"""Prepare requests and read results, for both clients of the API."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import tenacity

from outlay._model.settings import Settings
from outlay._shipping.client_options import client_options, request_headers
from outlay.api._calls import CallBuilder, has_definition
from outlay.api._responses import RetryRules, no_response, read_response
from outlay.errors import ConfigError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from outlay.api._calls import Call
    from outlay.api._models import CostMetric

T = TypeVar("T")


class EnsuredMetric(NamedTuple):
    """A cost metric, and whether the call created it."""

    metric: CostMetric
    created: bool


class Connection:
    """The address, the limits and the retry rules of one client of the API.

    Args:
        settings: All settings. If None, they come from ``OUTLAY_*`` variables.
        given: Single settings. They replace those of ``settings``. None means "not
            given".
        attempts: The largest number of requests for a call, 1 or more.
        on_warning: A function that is called with each warning of the server.
    """

    def __init__(
        self,
        settings: Settings | None,
        given: Mapping[str, Any],
        *,
        attempts: int,
        on_warning: Callable[[str], object] | None,
    ) -> None:
        if attempts < 1:
            raise ConfigError(f"attempts={attempts}: pass 1 or more")
        if settings is not None:
            given = {**dict(settings), **{k: v for k, v in given.items() if v}}
        self.settings = Settings.resolve(
            given, environ=None if settings is None else {}
        )
        self.build = CallBuilder(self.settings)
        self.attempts = attempts
        self._rules = RetryRules(self.settings)
        self._on_warning = on_warning

    def options(self) -> dict[str, Any]:
        """Return the options of an HTTP client.

        Raises:
            ConfigError: The authorities that the environment names cannot be read.
        """
        return client_options(self.settings)

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """Return the arguments of an HTTP client for a call."""
        headers = request_headers(self.settings)
        if call.body is not None:
            headers["content-type"] = "application/json"
        return {
            "method": call.method,
            "url": self.settings.base_url + call.path,
            "params": call.query,
            "content": call.body,
            "headers": headers,
        }

    def retrying(self, call: Call[Any]) -> dict[str, Any]:
        """Return the options of tenacity for a call."""
        return {
            "retry": tenacity.retry_if_exception(
                partial(self._rules.may_repeat, call.method)
            ),
            "stop": tenacity.stop_after_attempt(self.attempts),
            "wait": self._rules.seconds,
            "reraise": True,
        }

    def result(self, call: Call[T], response: httpx.Response, attempt: int) -> T:
        """Return the result of a call, or raise its error.

        Args:
            call: The call.
            response: Its response.
            attempt: The number of the request, from 1 on.
        """
        if self._on_warning is not None and "outlay-warning" in response.headers:
            self._on_warning(response.headers["outlay-warning"])
        try:
            return read_response(call, response, self.settings.base_url)
        except NotFoundError:
            if call.method == "DELETE" and attempt > 1:
                return call.read(b"")  # an earlier attempt deleted it
            raise

    def failed(self, error: httpx.HTTPError | httpx.InvalidURL) -> Exception:
        """Return the error of a request without a response."""
        return no_response(error, self.settings.base_url)


def existing(metric: CostMetric, definition: Mapping[str, Any]) -> EnsuredMetric:
    """Return a metric that exists.

    Raises:
        ConflictError: It has other fields than ``definition``.
    """
    if has_definition(metric, definition):
        return EnsuredMetric(metric, created=False)
    different = [
        name
        for name, value in definition.items()
        if name != "product_id" and getattr(metric, name) != value
    ]
    raise ConflictError(
        f"the cost metric {metric.name!r} ({metric.id}) exists with another "
        f"{', '.join(different)}; change it with update_metric, or choose another name",
        status=409,
        code="conflict",
        rule="METRIC_EXISTS",
    )
