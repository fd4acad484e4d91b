"""The reference server: takes cost events in, and answers what they come to.

Layers: routes (``_dispatch``, ``_routes``: HTTP in and out) → services (``_ingest``,
``_costs``, ``_summary``, ``_report``: the rules) → store (``_store``: the seam;
``_sqlite``: one file). Needs the extra ``server``.
"""

from __future__ import annotations

from outlay.errors import MissingExtraError

try:
    from outlay.server._app import create_app
    from outlay.server._errors import (
        AddressError,
        AddressInUseError,
        DatabaseBusyError,
        DatabaseError,
        NewerDatabaseError,
        ServerError,
        StoreUnavailableError,
    )
    from outlay.server._run import BackgroundServer, ServerStarted, serve
    from outlay.server._services.ingest import IngestCounts
    from outlay.server._settings import ServerSettings
except ModuleNotFoundError as error:
    if error.name is not None and error.name.startswith("outlay"):
        raise
    raise MissingExtraError("The reference server", "server") from error

__all__ = (
    "AddressError",
    "AddressInUseError",
    "BackgroundServer",
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
