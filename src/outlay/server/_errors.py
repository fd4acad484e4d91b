"""Errors that keep the server from starting or running.

    ServerError                 the root; an OutlayError
    ├── AddressInUseError       another program listens on the host and port
    ├── AddressError            the server cannot listen on the host or port
    ├── CertificateError        the certificate of TLS cannot be used
    ├── DatabaseError           the database file cannot be used
    │   ├── DatabaseBusyError       another server has it open
    │   ├── DamagedDatabaseError    the disk lost or changed bytes of it
    │   └── NewerDatabaseError      a newer outlay wrote it
    ├── QueryStoppedError       a query reached its deadline, or its client is gone
    └── StoreUnavailableError   the database failed to write or to read

The refusal of a single request is a ``_wire.problems.HttpProblem`` instead.
"""

from __future__ import annotations

from outlay.errors import OutlayError

__all__ = (
    "AddressError",
    "AddressInUseError",
    "CertificateError",
    "DamagedDatabaseError",
    "DatabaseBusyError",
    "DatabaseError",
    "NewerDatabaseError",
    "QueryStoppedError",
    "ServerError",
    "StoreUnavailableError",
)


class ServerError(OutlayError):
    """The server cannot start or run. The message says what to do."""


class AddressError(ServerError, OSError):
    """The server cannot listen on the host and port."""


class AddressInUseError(AddressError):
    """Another program already listens on the host and port."""


class CertificateError(ServerError):
    """The certificate of TLS, or its key, cannot be used."""


class DatabaseError(ServerError):
    """The database file cannot be opened, read or written."""


class DatabaseBusyError(DatabaseError):
    """Another server has the database open."""


class DamagedDatabaseError(DatabaseError):
    """The database file has lost or changed bytes. The message says what to do."""


class NewerDatabaseError(DatabaseError):
    """A newer version of outlay wrote the database."""


class QueryStoppedError(ServerError):
    """A query reached its deadline, or its client is gone."""


class StoreUnavailableError(ServerError):
    """The database failed to write, so that nothing was stored, or failed to read."""
