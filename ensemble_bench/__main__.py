"""``python -m ensemble_bench``: the same as ``ensemble-bench``."""

import sys

from ensemble_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
