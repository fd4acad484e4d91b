"""Open the API for a command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from outlay.api import Api

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._model.settings import Settings


def open_api(
    settings: Settings, *, on_warning: Callable[[str], object] | None = None
) -> Api:
    """Return the API of the server that ``settings`` name, as a context manager.

    It sends each request once, because a person or a script that reads the exit code
    decides about another try.

    Args:
        settings: The address and the credential.
        on_warning: A function that is called with each warning of the server. Defaults
            to one that prints it.
    """
    return Api(settings, attempts=1, on_warning=on_warning or print_warning)


def print_warning(text: str) -> None:
    """Print a warning beside the output."""
    print(f"outlay: {text}", file=sys.stderr)
