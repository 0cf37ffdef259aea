"""`python -m tiercache` is the command line."""

import sys

from tiercache.cli import main

if __name__ == "__main__":  # not in the demo's processes, which import this module again
    sys.exit(main())
