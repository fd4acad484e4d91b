"""Run this suite in its own environment only: ``make frameworks``."""

from __future__ import annotations

from tests.support.lanes import only_in_lane

pytest_pycollect_makemodule = only_in_lane("aiobotocore")
