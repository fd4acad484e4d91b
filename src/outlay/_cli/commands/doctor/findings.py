"""The findings of the checks."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Level(enum.Enum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line: the severity, the check, and what to do."""

    level: Level
    check: str
    text: str
