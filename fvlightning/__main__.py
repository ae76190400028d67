"""``python -m fvlightning``: the same command line as the console script ``fvlightning``."""

import sys

from fvlightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
