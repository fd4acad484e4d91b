"""Check that the parts of a reported usage add up to its total."""

from __future__ import annotations


def contradiction_in(total: object, *sums: int) -> str | None:
    """Return why a total contradicts its parts, or None if it does not.

    Args:
        total: The reported total. Servers that do not count it omit it, or report 0.
        *sums: The sums of the parts that the total may be.
    """
    if type(total) is not int or not total or total in sums:
        return None
    return (
        f"the usage contradicts itself: its total is {total} tokens, and its parts "
        f"add up to {sums[0]}"
    )
