"""Bring together what the two sides call differently, and what other days prove."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from outlay._reconcile.cells import Cell, Key
from outlay._reconcile.deciding import PROOF, has_one_factor, is_within_rounding

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from decimal import Decimal

_DATED: Final = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$", re.ASCII)
_SEPARATORS: Final = re.compile(r"[\s._/:@]+")


def common_names(
    billed: Set[str], tracked: Set[str], reported: Set[str]
) -> dict[str, str]:
    """Return the names that bring the models of both sides together.

    A bill may name ``Claude Haiku 4.5`` or ``gpt-4o`` where events have
    ``claude-haiku-4-5-20251001`` or ``gpt-4o-2024-08-06``.

    Args:
        billed: The models of the charges.
        tracked: The models of the costs.
        reported: The models of the usage reports.
    """
    names: dict[str, str] = {}
    by_folded: dict[str, list[str]] = defaultdict(list)
    for name in sorted(tracked - billed):
        by_folded[_folded(name)].append(name)
    for name in sorted(billed - tracked - {""}):
        found = by_folded.get(_folded(name), [])
        if len(found) == 1:
            names[name] = found[0]
        else:
            names.update(dict.fromkeys(found, name))
    for name in sorted(reported - billed - tracked):
        found = by_folded.get(_folded(name), [])
        if len(found) == 1:
            names[name] = found[0]
    return names


def join_unknown_kinds(cells: dict[Key, Cell]) -> None:
    """Join what only one side has, where that side or the other names no unit."""
    lonely: dict[tuple[str, str], list[Key]] = defaultdict(list)
    for key, cell in cells.items():
        if not (cell.charges and cell.events):
            lonely[key.day, key.model].append(key)
    for keys in lonely.values():
        billed = [key for key in keys if cells[key].charges]
        tracked = [key for key in keys if cells[key].events]
        if not billed or not tracked or all(key.kind for key in keys):
            continue
        merged = Cell()
        for key in keys:
            merged.add_cell(cells.pop(key))
        kinds = sorted(filter(None, (key.kind for key in tracked)))
        cells[Key(*keys[0][:2], kinds[0] if len(kinds) == 1 else "")] = merged


def models_with_right_prices(cells: Mapping[Key, Cell]) -> set[tuple[str, str]]:
    """Return the models and kinds of unit that match to the last digit on some days."""
    days = Counter(
        (key.model, key.kind)
        for key, cell in cells.items()
        if cell.charges and cell.bill and cell.bill == cell.ours
    )
    return {place for place, count in days.items() if count >= PROOF}


def keys_of_one_factor(cells: Mapping[Key, Cell], step: Decimal) -> set[Key]:
    """Return the keys of models whose bill and costs differ by one factor."""
    differing: dict[tuple[str, str], list[Key]] = defaultdict(list)
    for key, cell in cells.items():
        if (
            cell.charges
            and cell.events
            and cell.bill != cell.ours
            and not is_within_rounding(cell, step)
        ):
            differing[key.model, key.kind].append(key)
    return {
        key
        for keys in differing.values()
        if has_one_factor([cells[key] for key in keys], step)
        for key in keys
    }


def _folded(model: str) -> str:
    """Return a model's name without its date, in small letters and hyphens."""
    name = _SEPARATORS.sub("-", model.casefold())
    return _DATED.sub("", name).removesuffix("-latest")
