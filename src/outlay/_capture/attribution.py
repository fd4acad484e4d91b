"""Attribution of a block or a function: `attribute`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from outlay._capture.carrying import Carrying
from outlay._capture.wrapping import wrap
from outlay._model.attribution import Attribution, attribution
from outlay._model.carried import take
from outlay._model.events import check_data, check_text

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
) -> Scope:
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
    said = checked(
        dimensions, customer_id=customer_id, operation=operation, region=region
    )
    return Scope(lambda: said)


def checked(dimensions: Mapping[str, Json], **labels: str | None) -> Attribution:
    """Return what `attribute` is told, checked.

    Raises:
        InvalidEventError: `track_cost` would refuse it.
    """
    given = {
        name: check_text(name, value)
        for name, value in labels.items()
        if value is not None
    }
    check_data(dimensions)
    return Attribution(**given, dimensions=dimensions)


class Scope:
    """Costs inside belong to somebody: what `attribute` and `resume` return.

    A context manager, and a decorator.
    """

    def __init__(self, said: Callable[[], Attribution]) -> None:
        """Create a scope.

        Args:
            said: tells what holds inside, at each entry.
        """
        self._said = said
        # What was outside, by the attribution that this scope put in its place. So the
        # scope can be entered any number of times, and whoever leaves it restores only
        # what this scope had set: never another's, never in another context.
        self._outside: dict[int, tuple[Attribution, Attribution]] = {}

    def __enter__(self) -> Self:
        outside = attribution.get()
        inside = self._said().over(outside)
        self._outside[id(inside)] = (
            outside,
            inside,
        )  # kept, so that the id is not reused
        attribution.set(inside)
        return self

    def __exit__(self, *exc_info: object) -> None:
        entered = self._outside.pop(id(attribution.get()), None)
        if entered is not None:
            attribution.set(entered[0])

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``: each call of it runs inside of this scope."""
        return wrap(function, self._begin)

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Carrying:  # noqa: ARG002 - any call alike
        inside = self._said().over(attribution.get())
        return Carrying({**take(), attribution: inside})
