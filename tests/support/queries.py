"""Queries that a pool runs, in its threads and in processes of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, cast

from outlay.server._storage.query_limit import current_limit
from outlay.server._wire.problems import FieldError, invalid_fields

if TYPE_CHECKING:
    from outlay.server._services.query_services import QueryServices

# Forever, as far as a test can wait.
_ENDLESS: Final = (
    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n)"
    " SELECT count(*) FROM n"
)


def process_id(_: QueryServices) -> int:
    """Return the process of a quick query."""
    return os.getpid()


def slow_process_id(services: QueryServices) -> int:
    """Return the process of a query that no thread may finish."""
    limit = current_limit()
    assert limit is not None
    if limit.seconds_left < 1:  # a quick thread
        read_endlessly(services)
    return os.getpid()


def read_endlessly(services: QueryServices) -> int:
    """Read until the limit ends it."""
    with services.views.reading() as reader:
        connection = cast("Any", reader)._connection
        return int(connection.execute(_ENDLESS).fetchone()[0])


def refuse(services: QueryServices) -> int:
    """Refuse the query, in a process."""
    slow_process_id(services)
    raise invalid_fields([FieldError("from", "is too early", "EARLY")])


def die(services: QueryServices) -> int:
    """End the process of a long query."""
    slow_process_id(services)
    os._exit(1)
