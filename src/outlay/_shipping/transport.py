"""The seam to the network: a protocol, and its implementation on httpx."""

from __future__ import annotations

# Python imports it when the first connection is made. Here it comes with this module,
# for which forks wait: a child forked during an import could never finish that import.
import encodings.idna  # noqa: F401
import logging
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from outlay._model.settings import is_loopback
from outlay.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx


class Answer(NamedTuple):
    """A server's answer.

    Attributes:
        status: HTTP status code.
        headers: looked up without regard to case.
        body: as received, decoded from any content encoding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """What carries requests to the server. Implement it to bring your own client.

    Thread safety: `post` is called by several threads at once.
    """

    def post(self, path: str, body: bytes) -> Answer:
        """Post JSON ``body`` to ``path`` and return the answer, whatever its status.

        Must not retry, and must not follow redirects.

        Raises:
            UnavailableError: there was no answer; its ``sent`` says whether the
                request may have arrived.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class HttpxTransport:
    """Posts through an `httpx.Client`.

    Which pools connections, and obeys the usual proxy and certificate settings, but
    for a server on this machine: a proxy would look for it on its own.

    Thread safety: any thread.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout: float,
        max_connections: int,
    ) -> None:
        """Prepare a client; connections are made when needed.

        Args:
            base_url: prefix of all paths, without a trailing slash.
            api_key: credential, or None for requests without one.
            timeout: seconds for each of connecting, writing and reading.
            max_connections: most connections at once.
        """
        import httpx

        self._base_url = base_url
        headers = {"content-type": "application/json", "accept": "application/json"}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key}"
        self._client = httpx.Client(
            headers=headers,
            timeout=timeout,
            follow_redirects=False,
            trust_env=not is_loopback(base_url),
            limits=httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections,
            ),
        )
        _logger_of_httpx.addFilter(_not_ours)
        self._unsent: Final = (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
        )
        self._failed: Final = (httpx.HTTPError, httpx.InvalidURL)

    def post(self, path: str, body: bytes) -> Answer:
        """Post JSON ``body`` to ``path``; see `Transport`."""
        _posting.here = True
        try:
            response = self._client.post(self._base_url + path, content=body)
        except self._unsent as error:
            raise UnavailableError(_describe(error), sent=False) from error
        except self._failed as error:
            raise UnavailableError(_describe(error), sent=True) from error
        finally:
            _posting.here = False
        return Answer(response.status_code, response.headers, response.content)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


# httpx logs a line at INFO for each request. For an application that logs at that level
# these would be a line for each cost event: they are held back for our requests alone.
_logger_of_httpx: Final = logging.getLogger("httpx")
_posting: Final = threading.local()


def _not_ours(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not getattr(_posting, "here", False)


def _describe(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
