"""The reference server: accepts cost events and computes exact totals.

Layers, each importing only what is below it: ``_http`` (HTTP) → ``_services`` (rules) →
``_storage`` (SQLite behind the seam ``store``) → ``_wire`` (bodies) → ``_metering``
(arithmetic) → ``_records`` (values). The extra ``server`` installs what it needs.
"""

from __future__ import annotations

from outlay.errors import MissingExtraError

try:
    from outlay.server._app import create_app
    from outlay.server._errors import (
        AddressError,
        AddressInUseError,
        CertificateError,
        DamagedDatabaseError,
        DatabaseBusyError,
        DatabaseError,
        NewerDatabaseError,
        ServerError,
        StoreUnavailableError,
    )
    from outlay.server._run import BackgroundServer, ServerStarted, serve
    from outlay.server._services.ingest import IngestCounts
    from outlay.server._settings import ServerSettings
except ModuleNotFoundError as _error:
    if _error.name is not None and _error.name.startswith("outlay"):
        raise
    raise MissingExtraError("The reference server", "server") from _error

__all__ = (
    "AddressError",
    "AddressInUseError",
    "BackgroundServer",
    "CertificateError",
    "DamagedDatabaseError",
    "DatabaseBusyError",
    "DatabaseError",
    "IngestCounts",
    "NewerDatabaseError",
    "ServerError",
    "ServerSettings",
    "ServerStarted",
    "StoreUnavailableError",
    "create_app",
    "serve",
)
