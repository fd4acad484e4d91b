"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Tests never assert a time: on a busy machine, Hypothesis's own deadline would.
settings.register_profile("outlay", deadline=None)
settings.load_profile("outlay")
