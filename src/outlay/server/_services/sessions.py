"""Sign people in: session cookies, tokens of forms, one-time links, failed attempts.

A session cookie holds the SHA-256 of an API key, and never the key. A signature with a
secret of this process protects it, so a restart of the server ends every session. A key
that is revoked ends its sessions with the next request.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

COOKIE: Final = "outlay_session"

_SECOND: Final = 1_000_000  # microseconds
IDLE_SECONDS: Final = 3600
"""The life of a cookie. Each page renews it."""
_LONGEST: Final = 12 * 3600 * _SECOND  # a working day; then the key is asked for again
_RENEWED_AFTER: Final = 300 * _SECOND
_LINK_LIFE: Final = 600 * _SECOND
_NONCE_BYTES: Final = 16
_LINK_BYTES: Final = 32

_MOST_ATTEMPTS: Final = 10
_ATTEMPTS_WITHIN: Final = 300 * _SECOND
_MOST_ADDRESSES: Final = 4096
_MOST_ENDED: Final = 4096


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
        now: A function that returns the time in microseconds since 1970.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._secret = secrets.token_bytes(32)
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._links: dict[bytes, int] = {}

    def begin(self, digest: bytes) -> Session:
        """Return a new session of the key with this SHA-256."""
        now = self._now()
        return Session(digest, secrets.token_hex(_NONCE_BYTES), now, now)

    def end(self, session: Session) -> None:
        """End a session, so that a copy of its cookie is worthless as well."""
        self._ended[session.nonce] = None
        while len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

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
        """Return the session of a cookie, or None if it is forged or over."""
        text, _, signature = cookie.rpartition("~")
        if not hmac.compare_digest(
            self._sign("session", text).encode(), signature.encode()
        ):
            return None
        digest, nonce, began_at, issued_at = text.split("~")
        session = Session(bytes.fromhex(digest), nonce, int(began_at), int(issued_at))
        now = self._now()
        is_over = (
            nonce in self._ended
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
        """Return a token that signs one browser in, once, within ten minutes."""
        token = secrets.token_urlsafe(_LINK_BYTES)
        self._links[sha256(token.encode()).digest()] = self._now() + _LINK_LIFE
        return token

    def use_link_token(self, token: str) -> bool:
        """Return whether a token is valid. It is not valid a second time."""
        expires_at = self._links.pop(sha256(token.encode()).digest(), None)
        return expires_at is not None and self._now() < expires_at

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode()
        return hmac.new(self._secret, message, sha256).hexdigest()


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
