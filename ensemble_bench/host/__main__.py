"""``python -m ensemble_bench.host``: the same as ``ensemble-bench clip-benchmark``."""

import sys

from ensemble_bench.errors import BenchError
from ensemble_bench.host.activate import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:], "python -m ensemble_bench.host"))
    except BenchError as error:
        print(f"ensemble-bench: {error}", file=sys.stderr)
        sys.exit(2)
