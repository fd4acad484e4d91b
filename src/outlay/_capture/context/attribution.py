"""Attribution of a block or a function: `attribute`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from outlay._capture.context.bind import ContextRun
from outlay._capture.context.function_wrapper import wrap_function
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.events import validate_data, validate_text
from outlay._model.propagated_context import capture

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
    """Say who the costs of a block of code, or of a function, belong to.

    Everything tracked and captured inside belongs to ``customer_id``, unless its call
    says otherwise. Scopes nest: the inner one adds to the outer one, and goes before
    it. asyncio tasks, ``asyncio.to_thread`` and copied contexts follow; for thread
    pools there is `bind`, for other processes `carry`.

    As a decorator it takes plain and asynchronous functions and generators of both
    kinds. A decorated generator's body keeps the attribution that it was made in, and
    its consumer's is never touched. A ``with`` block inside of a generator's body is
    seen by the consumer between two items, which is how Python works: decorate the
    generator instead.

    Thread safety: one scope may be used many times, inside itself, and by many threads
    and tasks at once.

    Args:
        customer_id: who the costs are attributed to. None, here and below: as outside.
        operation: what is being done, such as ``document-extraction``.
        region: where.
        **dimensions: more to group costs by; JSON. They go into the events' ``data``.

    Raises:
        InvalidEventError: an argument breaks a rule of events.

    Example:
        >>> with outlay.attribute(customer_id="cus_123", feature="summaries"):
        ...     outlay.track_cost("cost.ai.inference", "0.0042", operation_id="msg_1")
    """
    said = validated(
        dimensions, customer_id=customer_id, operation=operation, region=region
    )
    return AttributionScope(lambda: said)


def validated(dimensions: Mapping[str, Json], **labels: str | None) -> Attribution:
    """Return what `attribute` is told, checked.

    Raises:
        InvalidEventError: `track_cost` would refuse it.
    """
    given = {
        name: validate_text(name, value)
        for name, value in labels.items()
        if value is not None
    }
    validate_data(dimensions)
    return Attribution(**given, dimensions=dimensions)


class AttributionScope:
    """Costs inside belong to somebody: what `attribute` and `resume` return.

    A context manager, and a decorator.
    """

    def __init__(self, said: Callable[[], Attribution]) -> None:
        """Create a scope.

        Args:
            said: tells what holds inside, at each entry.
        """
        self._attribution = said
        # What was outside, by the attribution that this scope put in its place. So the
        # scope can be entered any number of times, and whoever leaves it restores only
        # what this scope had set: never another's, never in another context.
        self._previous: dict[int, tuple[Attribution, Attribution]] = {}

    def __enter__(self) -> Self:
        outside = current_attribution.get()
        inside = self._attribution().merged_over(outside)
        self._previous[id(inside)] = (
            outside,
            inside,
        )  # kept, so that the id is not reused
        current_attribution.set(inside)
        return self

    def __exit__(self, *exc_info: object) -> None:
        entered = self._previous.pop(id(current_attribution.get()), None)
        if entered is not None:
            current_attribution.set(entered[0])

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``: each call of it runs inside of this scope."""
        return wrap_function(function, self._begin)

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ContextRun:  # noqa: ARG002 - any call alike
        inside = self._attribution().merged_over(current_attribution.get())
        return ContextRun({**capture(), current_attribution: inside})
