"""Give each name a colour: the same name has the same colour on every page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

HUES: Final = 12
"""The number of colours in ``dashboard.css``, ``.k0`` to ``.k11``."""

OTHER_CLASS: Final = "ko"
"""The class of the sum of all groups without a colour of their own."""


def color_classes(names: Iterable[str]) -> dict[str, str]:
    """Return the CSS class of each name.

    The colour comes from a checksum of the name. If two names of a chart have the same
    checksum, the later one in the alphabet takes the next free colour. If there are
    more names than colours, names share colours.
    """
    classes: dict[str, str] = {}
    taken: set[int] = set()
    for name in sorted(set(names)):
        hue = crc32(name.encode()) % HUES
        if len(taken) == HUES:
            taken.clear()
        while hue in taken:
            hue = (hue + 1) % HUES
        taken.add(hue)
        classes[name] = f"k{hue}"
    return classes
