"""The actions of a command, such as ``list`` of ``outlay journal``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def add_subcommand(
    actions: Any,  # noqa: ANN401 - argparse gives the type of subparsers no public name
    name: str,
    action: Callable[..., object],
    summary: str,
) -> argparse.ArgumentParser:
    """Add an action, and return its parser.

    Args:
        actions: what ``add_subparsers`` returned.
        name: as users type it.
        action: what it does; the command finds it in ``arguments.action``.
        summary: for the command's help; its sentence opens the action's own.
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=summary,
        description=summary.capitalize() + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(action=action)
    return parser
