"""What the host's data can do wrong, as sentences: errors of its reader, of its workers, of shards with code in them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from ensemble_bench import errors
from ensemble_bench.errors import BadData, BenchError, Lacking

CODE = frozenset({"pkl", "pickle", "pyd", "pth"})  # members that its reader would execute
_WORKER = "in DataLoader worker process"


def told(error: Exception, dataset: str) -> BenchError | None:
    """The sentence for a user where an error is theirs to mend; None where it is not.

    An error from a worker process comes as its whole traceback; what counts is its last line.
    """
    text = str(error)
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)
    from_worker = _WORKER in text
    if isinstance(error, BenchError):
        sentence = _bare(last) if from_worker else text
        return type(error)(f"{dataset}: {sentence}" if isinstance(error, (BadData, Lacking)) else sentence)
    where = text if from_worker else "".join(traceback.format_tb(error.__traceback__))
    if f"{os.sep}webdataset{os.sep}" not in where:
        return None
    for kind in vars(errors):
        if from_worker and f"errors.{kind}: " in text:
            last = text.partition(f"errors.{kind}: ")[2].partition("\n")[0]
            return BadData(f"{dataset}: {last}")
    return BadData(f"{dataset}: {last.rstrip('.')}: make or fetch that webdataset again.")


def _bare(line: str) -> str:
    """The sentence without the name of its class."""
    kind, colon, sentence = line.partition(": ")
    return sentence if colon and "." in kind and " " not in kind else line


def without_code(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The samples of a shard; BadData where one holds a member that the reader would execute."""
    for sample in samples:
        for name in sample:
            if name.removesuffix(".gz").rpartition(".")[2] in CODE:
                raise BadData(
                    f"{sample.get('__url__')}: the sample {sample.get('__key__')!r} has a pickle ({name}), and code in data is "
                    "never run; make the shard anew without it."
                )
        yield sample
