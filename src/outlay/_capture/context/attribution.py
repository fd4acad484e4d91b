"""Attribute the costs of a block or a function: `attribute`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from outlay._capture.context.bind import ContextRun
from outlay._capture.context.function_wrapper import wrap_function
from outlay._model.attribution import UNATTRIBUTED, Attribution, current_attribution
from outlay._model.clock import SystemClock
from outlay._model.event_rules import validate_data, validate_text
from outlay._model.propagated_context import capture
from outlay._model.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

    from outlay._model.events import Json

P = ParamSpec("P")
R = TypeVar("R")


def attribute(
    *,
    customer_id: str | None = None,
    operation: str | None = None,
    region: str | None = None,
    **dimensions: Json,
) -> AttributionScope:
    """Attribute the costs of a block of code, or of a function, to a customer.

    All costs tracked and captured inside belong to ``customer_id``, unless their own
    call names another. Scopes nest: the inner one adds to the outer one, and wins over
    it. asyncio tasks, ``asyncio.to_thread`` and copied contexts follow. Use `bind` for
    thread pools, and `outlay.propagation.inject` for other processes.

    As a decorator it takes plain and asynchronous functions, and generators of both
    kinds. The body of a decorated generator keeps the attribution that it was made in.
    Its consumer's attribution does not change. A ``with`` block inside of a generator
    also applies to the consumer between two items, because Python has it so. Decorate
    the generator instead.

    Thread safety: one scope may be used many times, inside itself, and by many threads
    and tasks at the same time.

    Args:
        customer_id: The customer that the costs belong to. Defaults to the outer
            scope's.
        operation: The kind of work, such as ``document-extraction``. Defaults to the
            outer scope's.
        region: The region. Defaults to the outer scope's.
        **dimensions: More fields to group costs by, as JSON. They go into the events'
            ``data``.

    Raises:
        InvalidEventError: An argument breaks a rule of events.

    Example:
        >>> with outlay.attribute(customer_id="cus_123", feature="summaries"):
        ...     outlay.track_cost("cost.ai.inference", "0.0042", operation_id="msg_1")
    """
    if customer_id is None and not _CUSTOMER_LIKE.isdisjoint(dimensions):
        _log.warn_once(
            "customer",
            "attribute(%s=...) adds a dimension, and names no customer: pass "
            "customer_id=... (logged once)",
            next(name for name in dimensions if name in _CUSTOMER_LIKE),
        )
    attribution = validated(
        dimensions, customer_id=customer_id, operation=operation, region=region
    )
    return AttributionScope(lambda: attribution)


_log: Final = RateLimitedLog(SystemClock())
_CUSTOMER_LIKE: Final = frozenset({"customer", "customerId", "cust_id", "customer_ID"})


def set_customer(customer_id: str) -> None:
    """Attribute the costs of the running code to a customer, from now on.

    Use it where a request learns its customer on the way. It ends with the innermost
    scope around: `attribute`, `operation`, `outlay.propagation.extract`, a function
    that these decorate, or a request that a middleware of `outlay.integrations` serves.
    Outside of any scope it holds until the context ends, which is the task or the
    thread. Earlier costs keep their customer.

    Thread safety: any thread; it changes only the context of the running code. Another
    thread of a request, such as that of a dependency, sets the customer of the request.

    Args:
        customer_id: The customer that the costs belong to.

    Raises:
        InvalidEventError: The id breaks a rule of events.

    Example:
        >>> with outlay.attribute(feature="chat"):  # such as in a middleware
        ...     outlay.set_customer(authenticate(request).customer_id)
    """
    validate_text("customer_id", customer_id)
    earlier = current_attribution.get()
    changed = _Changed(*earlier._replace(customer_id=customer_id))
    changed.scope = scope = _scope_of(earlier)
    current_attribution.set(changed)
    if isinstance(scope, RequestAttribution):
        scope.set_from_thread(customer_id)


class _Changed(Attribution):
    """An attribution that `set_customer` changed.

    Attributes:
        scope: The attribution that the enclosing scope has set.
    """

    scope: Attribution


class RequestAttribution(Attribution):
    """The attribution of a request that a middleware serves.

    Frameworks run functions of a request on other threads, in a copy of the context
    that they then discard. A customer that such a function sets would be lost. So it is
    also kept here, in the object that all copies share.
    """

    _thread: int
    _customer_of_thread: str | None = None

    @classmethod
    def begin(cls, attribution: Attribution) -> RequestAttribution:
        """Return the attribution of a request, inside of the running code's."""
        outer = current_attribution.get()
        if outer is not UNATTRIBUTED:
            attribution = attribution.merged_over(outer)
        request: RequestAttribution = tuple.__new__(cls, attribution)
        request._thread = threading.get_ident()
        return request

    @property
    def customer_id(self) -> str | None:
        """The customer that another thread has set, or else that of the request."""
        return self._customer_of_thread or self[0]

    def set_from_thread(self, customer_id: str) -> None:
        """Set the customer for code in other contexts, unless on the request's thread.

        There the context itself lasts. Tasks of the request that serve customers of
        their own run there, too, and must not change each other's.
        """
        if threading.get_ident() != self._thread:
            self._customer_of_thread = customer_id


def _scope_of(attribution: Attribution) -> Attribution:
    """Return the attribution that the enclosing scope has set."""
    return attribution.scope if isinstance(attribution, _Changed) else attribution


def validated(dimensions: Mapping[str, Json], **labels: str | None) -> Attribution:
    """Return an attribution with these labels and dimensions.

    Raises:
        InvalidEventError: `track_cost` would refuse one of them.
    """
    given = {
        name: validate_text(name, value)
        for name, value in labels.items()
        if value is not None
    }
    validate_data(dimensions)
    return Attribution(**given, dimensions=dimensions)


class AttributionScope:
    """Attributes costs to a customer. `attribute` and `extract` return it.

    A context manager, and a decorator.
    """

    def __init__(self, attribution: Callable[[], Attribution]) -> None:
        """Create a scope.

        Args:
            attribution: A function that returns the attribution of the scope, at each
                entry.
        """
        self._attribution = attribution
        # The outer attribution, by the one that this scope has set. So the scope can be
        # entered any number of times. Leaving it restores only its own change, in its
        # own context. The entry holds the set one, so that its id() is not reused.
        self._previous: dict[int, tuple[Attribution, Attribution]] = {}

    def __enter__(self) -> Self:
        outer = current_attribution.get()
        inner = self._attribution().merged_over(outer)
        self._previous[id(inner)] = (outer, inner)
        current_attribution.set(inner)
        return self

    def __exit__(self, *exc_info: object) -> None:
        mine = _scope_of(current_attribution.get())
        entered = self._previous.pop(id(mine), None)
        if entered is not None:
            current_attribution.set(entered[0])

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``, so that each call runs inside of this scope."""
        return wrap_function(function, self._begin)

    def resolve(self) -> Attribution:
        """Return the attribution of the scope, without that of an outer one."""
        return self._attribution()

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ContextRun:  # noqa: ARG002 - the same for any call
        inner = self._attribution().merged_over(current_attribution.get())
        return ContextRun({**capture(), current_attribution: inner})
