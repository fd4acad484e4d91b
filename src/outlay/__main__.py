"""Run the command line with ``python -m outlay``."""

import sys

from outlay._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
