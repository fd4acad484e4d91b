"""``outlay retention``: shown, set and taken back."""

from __future__ import annotations

from outlay._cli.exit_codes import ExitCode
from tests.support import command_line


def test_the_rule_is_shown_set_and_taken_back() -> None:
    """And a key that only reads cannot set it."""
    with command_line.serving() as server:
        reach = command_line.reaching(server)
        first = command_line.call("retention", *reach)
        year = command_line.call("retention", "--keep-events", "400", *reach)
        shown = command_line.call("retention", *reach)
        short = command_line.call("retention", "--keep-events", "1", *reach)
        wrong = command_line.call("retention", "--keep-events", "soon", *reach)
        forever = command_line.call("retention", "--keep-events", "forever", *reach)
        reader = command_line.with_key(server.create_key("reader", ["costs:read"]))
        refused = command_line.call(
            *("retention", "--keep-events", "3", "--base-url", server.url, *reader)
        )

    assert first.out == forever.out == "events are kept without a limit\n"
    assert year.out == shown.out == "events are kept for 400 days\n"
    assert (short.code, wrong.code) == (ExitCode.REFUSED, ExitCode.USAGE)
    assert refused.code == ExitCode.REFUSED
    assert "retention:write" in refused.err
