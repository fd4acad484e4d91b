"""Run this suite in its own environment only: ``make frameworks``.

Both packages bring OpenTelemetry instrumentations of many libraries.
"""

from __future__ import annotations

from tests.support.lanes import only_in_lane

__all__ = ()

pytest_pycollect_makemodule = only_in_lane("tracing")
