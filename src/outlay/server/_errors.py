"""Why the server cannot start or go on.

    ServerError                 root; an OutlayError
    ├── AddressInUseError       another program listens on the host and port
    ├── AddressError            the host or port cannot be listened on at all
    ├── DatabaseError           the database file cannot be used
    │   ├── DatabaseBusyError       another server has it open
    │   └── NewerDatabaseError      a newer outlay wrote it
    └── StoreUnavailableError   the database took no write, or gave no answer

Refusals of single requests are no errors of the server: see ``_problems``.
"""

from __future__ import annotations

from outlay.errors import OutlayError

__all__ = (
    "AddressError",
    "AddressInUseError",
    "DatabaseBusyError",
    "DatabaseError",
    "NewerDatabaseError",
    "ServerError",
    "StoreUnavailableError",
)


class ServerError(OutlayError):
    """The server cannot start or go on; the message says what to do."""


class AddressError(ServerError, OSError):
    """The server cannot listen on the host and port."""


class AddressInUseError(AddressError):
    """Another program listens on the host and port already."""


class DatabaseError(ServerError):
    """The database file cannot be opened, read or written."""


class DatabaseBusyError(DatabaseError):
    """Another server has the database open."""


class NewerDatabaseError(DatabaseError):
    """The database was written by a newer version of outlay."""


class StoreUnavailableError(ServerError):
    """The database took no write, of which nothing is kept, or gave no answer."""
