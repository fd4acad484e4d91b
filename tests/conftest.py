"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# Tests never assert a time: on a busy machine, Hypothesis's own deadline would. And
# where nobody looks at the example, a red run must be red again.
settings.register_profile("outlay", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("outlay")
