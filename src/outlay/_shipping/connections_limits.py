"""What all that moves requests have in common: limits, and how failures are told."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from outlay.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from outlay._shipping.transport import TransportResponse

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Of an answer's body, decoded. That to a batch of a thousand has some 300 KB."""

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Errors: TypeAlias = tuple[type[Exception], ...]


class RequestLimits(NamedTuple):
    """What a request may take.

    Attributes:
        patience: most seconds of each wait for the network.
        deadline: most seconds of the whole request, to the answer's last byte.
    """

    wait_timeout: float
    deadline: float


class Carrier(Protocol):
    """Moves requests to one address. Thread safety: several threads at once."""

    def send(self, path: str, headers: Headers, body: bytes) -> TransportResponse:
        """Post ``body`` to ``path`` and return the answer, whatever its status.

        Raises:
            UnavailableError: there was no answer, or it was endless.
        """
        ...

    def close(self) -> None:
        """Give the connections up."""
        ...


def read_body(parts: Iterable[bytes]) -> bytes:
    """Return an answer's body; one that never ends is refused."""
    gathered, size = [], 0
    for part in parts:
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise response_too_large()
        gathered.append(part)
    return b"".join(gathered)


def response_too_large() -> UnavailableError:
    """Return the error for an answer that is too large to be one."""
    return UnavailableError(
        f"the answer is larger than {MAX_ANSWER_BYTES} bytes", sent=True
    )


@contextlib.contextmanager
def mapped_errors(unsent: Errors, failed: Errors) -> Iterator[None]:
    """Turn a library's errors into ours, which say whether anything has left."""
    try:
        yield
    except unsent as error:
        raise UnavailableError(_describe(error), sent=False) from error
    except failed as error:
        raise UnavailableError(_describe(error), sent=True) from error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
