"""``outlay completion``: print the script that completes words in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import argcomplete
from argcomplete.shell_integration import shellcode

from outlay._cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

SHELLS: Final = ("bash", "zsh", "fish")

_DESCRIPTION: Final = """\
Print the script that completes commands and options of outlay in a shell.
"""

_EPILOG: Final = """\
examples:
  outlay completion bash > ~/.local/share/bash-completion/completions/outlay
  outlay completion zsh > ~/.zfunc/_outlay
  outlay completion fish > ~/.config/fish/completions/outlay.fish
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the argument and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(shellcode(["outlay"], shell=arguments.shell))
    return ExitCode.DONE


def complete(parser: argparse.ArgumentParser) -> None:
    """Send the completions that the shell requested, and exit."""
    argcomplete.autocomplete(parser)
