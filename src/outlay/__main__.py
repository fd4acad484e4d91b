"""``python -m outlay`` does what ``outlay`` does."""

import sys

from outlay._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
