"""Give the threads of libraries' pools the customer of the code that uses them.

A thread of a pool begins with an empty context. Without this, the costs of its calls
would have no customer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outlay._capture.context.bind import bind

if TYPE_CHECKING:
    from collections.abc import Callable


def carry_customer(pool: Any) -> Any:
    """Return a subclass of a thread pool's class whose work is bound by `bind`."""

    class ContextThreadPool(pool):  # type: ignore[misc]
        """Runs work with the attribution of the code that submits it."""

        def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(bind(work), *args, **kwargs)

    ContextThreadPool.__name__ = ContextThreadPool.__qualname__ = pool.__name__
    return ContextThreadPool


class BoundFunction:
    """Stands for a module whose function is handed over to threads.

    The function is bound when it is looked up, which happens on the thread of the
    caller. Everything else is the module's own.
    """

    def __init__(self, module: Any, name: str) -> None:
        """Bind the function ``name`` of ``module`` at each look-up."""
        self._module = module
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        return bind(found) if name == self._name else found
