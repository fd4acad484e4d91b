"""Prepare the arguments and the standard streams of a command.

A stream may be closed, full, or in another encoding than UTF-8.
"""

from __future__ import annotations

import io
import os
import sys

from outlay._cli.exit_codes import OutputError


class _CheckedOutput(io.TextIOWrapper):
    """Standard output, whose errors are not mistaken for those of other files."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write the output: {error}") from error

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write the output: {error}") from error


def prepare_streams() -> None:
    """Make the standard streams usable, so that writing a character never fails.

    A closed stream becomes the null device. Without it, the journal could open a file
    with the number of standard output. A library could then print into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free number is the one that was closed.
            mode = "w" if number else "r"
            opened = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115, PTH123
            setattr(sys, name, opened)
    stdout = sys.stdout
    if stdout is sys.__stdout__ and isinstance(stdout, io.TextIOWrapper):
        encoding, is_terminal = stdout.encoding, stdout.line_buffering
        sys.stdout = _CheckedOutput(
            stdout.detach(), encoding, "backslashreplace", line_buffering=is_terminal
        )


def program_arguments() -> list[str]:
    """Return the program's arguments, read as UTF-8 even in the C locale."""
    words = []
    for word in sys.argv[1:]:
        try:
            words.append(os.fsencode(word).decode())
        except UnicodeDecodeError:  # It is in another encoding.
            words.append(word)
    return words


def discard_output() -> None:
    """Discard what standard output still buffers. Python flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
