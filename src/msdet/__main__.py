"""`python -m msdet`: the console command, where it is not on the PATH."""

from __future__ import annotations

import sys

from msdet.cli import main

if __name__ == "__main__":
    sys.exit(main())
