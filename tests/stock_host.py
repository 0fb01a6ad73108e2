"""CLIP_benchmark as it is, without us: evaluations from standard input, one list of words each, in one process.

Only what fails on numpy 2.4 is worked around, and a model that is asked for again is not built again.
"""

from __future__ import annotations

import functools
import json
import sys

import clip_benchmark.cli
from clip_benchmark.metrics import zeroshot_classification


def accuracy(output, target, topk=(1,)):  # type: ignore[no-untyped-def]
    found = output.topk(max(topk), 1, True, True)[1].t()
    correct = found.eq(target.view(1, -1).expand_as(found))
    return [correct[:k].reshape(-1).float().sum().item() / len(target) for k in topk]


if __name__ == "__main__":
    zeroshot_classification.accuracy = accuracy
    clip_benchmark.cli.load_clip = functools.cache(clip_benchmark.cli.load_clip)
    for words in json.load(sys.stdin):
        sys.argv = ["clip_benchmark", *words]
        clip_benchmark.cli.main()
    assert not any(name.partition(".")[0] == "ensemble_bench" for name in sys.modules), "this was not the stock host"
