"""Run this suite in its own environment only: ``make frameworks``.

Its frameworks still need the second major version of openai's package.
"""

from __future__ import annotations

from tests.frameworks.fixtures import costs, providers
from tests.support.lanes import only_in_lane

__all__ = ["costs", "providers"]

pytest_pycollect_makemodule = only_in_lane("openai2")
