"""Sign people in: session cookies, tokens of forms, one-time links, failed attempts.

A session cookie holds the SHA-256 of an API key, and never the key. A signature with
the operator's secret protects it, and servers with the same secret accept each other's.
A server without one makes a secret for itself, so that a restart ends every session. A
key that is revoked ends its sessions with the next request.

The store has the sessions that were ended, and the links that were used. So a copy of
either is worthless at the other servers as well.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._services.access import AccessRecords

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store

COOKIE: Final = "outlay_session"

_SECOND: Final = 1_000_000  # microseconds
IDLE_SECONDS: Final = 3600
"""The life of a cookie. Each page renews it."""
_LONGEST: Final = 12 * 3600 * _SECOND  # a working day; then the key is asked for again
_RENEWED_AFTER: Final = 300 * _SECOND
_LINK_LIFE: Final = 600 * _SECOND
_NONCE_BYTES: Final = 16
_SECRET_BYTES: Final = 32

_MOST_ATTEMPTS: Final = 10
_ATTEMPTS_WITHIN: Final = 300 * _SECOND
_MOST_ADDRESSES: Final = 4096


class Session(NamedTuple):
    """One signed-in browser.

    Attributes:
        digest: The SHA-256 of the session's API key. Empty if the operator of the
            server opened a one-time link.
        nonce: Random text that tells this session from others.
        began_at: The time of the sign-in, in microseconds since 1970.
        issued_at: The time of the cookie, in the same unit.
    """

    digest: bytes
    nonce: str
    began_at: int
    issued_at: int


class Sessions:
    """Issues and checks cookies. Thread safety: the event loop's thread.

    Args:
        store: The store that knows what was ended.
        commits: The thread that writes to it.
        now: A function that returns the time in microseconds since 1970.
        secret: The secret of all servers of the store. If None, this one makes its own.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        now: Callable[[], int],
        secret: str | None = None,
    ) -> None:
        self._store = store
        self._commits = commits
        self._now = now
        self._secret = secret.encode() if secret else secrets.token_bytes(_SECRET_BYTES)
        self._access = AccessRecords(store)

    def begin(self, digest: bytes) -> Session:
        """Return a new session of the key with this SHA-256."""
        now = self._now()
        return Session(digest, secrets.token_hex(_NONCE_BYTES), now, now)

    async def end(self, session: Session) -> None:
        """End a session, so that a copy of its cookie is worthless as well.

        Raises:
            StoreUnavailableError: The database failed to write.
        """
        await self._end("session", session.nonce, session.began_at + _LONGEST)

    def cookie(self, session: Session) -> str:
        """Return the value of the session's cookie."""
        text = "~".join(
            (
                session.digest.hex(),
                session.nonce,
                str(session.began_at),
                str(session.issued_at),
            )
        )
        return f"{text}~{self._sign('session', text)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or None if it is forged or over.

        Raises:
            StoreUnavailableError: The database cannot be read.
        """
        text = self._signed("session", cookie)
        if text is None:
            return None
        digest, nonce, began_at, issued_at = text.split("~")
        session = Session(bytes.fromhex(digest), nonce, int(began_at), int(issued_at))
        now = self._now()
        is_over = (
            self._access.is_ended(_token_digest("session", nonce))
            or now - session.issued_at > IDLE_SECONDS * _SECOND
            or now - session.began_at > _LONGEST
        )
        return None if is_over else session

    def renewed(self, session: Session) -> Session | None:
        """Return the session with a new cookie's time, or None if it is not due."""
        now = self._now()
        if now - session.issued_at < _RENEWED_AFTER:
            return None
        return session._replace(issued_at=now)

    def form_token(self, session: Session) -> str:
        """Return the token that each form of this session carries against CSRF."""
        return self._sign("form", session.nonce)

    def is_form_token(self, session: Session, token: str) -> bool:
        """Return whether a form came from a page of this session."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode())

    def create_link_token(self) -> str:
        """Return a token that signs one browser in, once, within ten minutes.

        Each server with the same secret accepts it.
        """
        text = f"{secrets.token_hex(_NONCE_BYTES)}~{self._now() + _LINK_LIFE}"
        return f"{text}~{self._sign('link', text)}"

    async def use_link_token(self, token: str) -> bool:
        """Return whether a token is valid. It is not valid a second time.

        Raises:
            StoreUnavailableError: The database failed to write.
        """
        text = self._signed("link", token)
        if text is None:
            return False
        nonce, _, expires_at = text.partition("~")
        if self._now() >= int(expires_at):
            return False
        return await self._end("link", nonce, int(expires_at))

    async def _end(self, purpose: str, nonce: str, until: int) -> bool:
        digest, now = _token_digest(purpose, nonce), self._now()
        return await self._commits.run(
            lambda: self._store.end_token(digest, until, now)
        )

    def _signed(self, purpose: str, token: str) -> str | None:
        """Return the text of a token, or None if its signature is another one."""
        text, _, signature = token.rpartition("~")
        ours = self._sign(purpose, text)
        return text if hmac.compare_digest(ours.encode(), signature.encode()) else None

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode()
        return hmac.new(self._secret, message, sha256).hexdigest()


def _token_digest(purpose: str, nonce: str) -> bytes:
    return sha256(f"{purpose}:{nonce}".encode()).digest()


class AttemptLimit:
    """Limits failed sign-ins of each address. Thread safety: the event loop's thread.

    Args:
        now: A function that returns the time in microseconds since 1970.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._failures: OrderedDict[str, list[int]] = OrderedDict()

    def wait_seconds(self, address: str) -> int:
        """Return the seconds until the next attempt is allowed. 0 means now."""
        failures = self._recent(address)
        if len(failures) < _MOST_ATTEMPTS:
            return 0
        left = failures[-_MOST_ATTEMPTS] + _ATTEMPTS_WITHIN - self._now()
        return max(1, -(-left // _SECOND))

    def record_failure(self, address: str) -> None:
        """Count a failed attempt."""
        self._failures[address] = [*self._recent(address), self._now()]
        self._failures.move_to_end(address)
        while len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def _recent(self, address: str) -> list[int]:
        since = self._now() - _ATTEMPTS_WITHIN
        return [at for at in self._failures.get(address, ()) if at > since]
