"""``outlay init``: write a file of settings, and create the default cost metrics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.connection import open_api
from outlay._cli.default_metrics import create_missing_defaults
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import add_connection_options, connection_settings
from outlay._cli.output import pluralize

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
Write a commented file of OUTLAY_* variables, and create the default cost metrics on the
server. An existing file is not changed.
"""

_EPILOG: Final = """\
examples:
  outlay init
  outlay init --base-url https://costs.example.com --output settings.env
"""

_OWNER_ONLY: Final = 0o600

_FILE: Final = """\
# Settings of outlay. Load them into the environment of your application:
#   set -a; . ./{name}; set +a

# The address of the server.
OUTLAY_BASE_URL={base_url}

# The credential. 'outlay serve' prints it at its first start.
{api_key}

# The name of this application, a URI. It is a part of each idempotency key.
#OUTLAY_SOURCE=https://api.example.com

# The folder that keeps events until the server has them. It must be on a local disk
# that survives a restart.
#OUTLAY_JOURNAL_DIR=/var/spool/outlay

# "disk" also survives a power cut. The default, "process", survives a kill.
#OUTLAY_DURABILITY=disk

# Your own prices, see docs/pricing.md.
#OUTLAY_PRICE_BOOK=prices.toml
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--output",
        default=".env",
        metavar="FILE",
        help="the file to write, which only its owner can read (default: .env)",
    )
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, then create the metrics."""
    settings = connection_settings(arguments)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    path = Path(arguments.output)
    text = _FILE.format(
        name=path.name,
        base_url=settings.base_url,
        api_key=f"OUTLAY_API_KEY={key}" if key else "#OUTLAY_API_KEY=",
    )
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, _OWNER_ONLY), "w") as file:
            file.write(text)
    except FileExistsError:
        print(f"{path} exists, and stays as it is")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}; name another file") from error
    else:
        print(f"wrote {path}")
    with open_api(settings) as api:
        created = create_missing_defaults(api)
    if created:
        metrics = pluralize(len(created), "cost metric")
        print(f"created {metrics} on {settings.base_url}")
    else:
        print(f"{settings.base_url} has all default cost metrics")
    print("next: outlay track cost.ai.inference 0.0042 --customer cus_123")
    return ExitCode.DONE
