"""Carry attribution to other threads, processes and services.

    from outlay import propagation

    headers = propagation.inject()          # where the work is handed over

    with propagation.extract(headers):      # where the work runs
        outlay.track_cost(...)

`bind` is for functions that run on another thread of the same process. The two
functions for baggage need the OpenTelemetry SDK of the application, or none at all.
"""

from outlay._capture.context.baggage import from_baggage, to_baggage
from outlay._capture.context.bind import bind
from outlay._capture.context.message_headers import extract, inject

__all__ = ("bind", "extract", "from_baggage", "inject", "to_baggage")
