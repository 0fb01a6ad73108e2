"""What the host's data can do wrong, as sentences: errors of its reader, of its workers, of shards with code in them."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ensemble_bench import errors
from ensemble_bench.errors import BadData, BenchError, Lacking
from ensemble_bench.tars import leads_out

CODE = frozenset({"pkl", "pickle", "pyd", "pth"})  # members that its reader would execute
_READER = f"{os.sep}webdataset{os.sep}"
_HERE = Path(errors.__file__).parent
_CAUSE = "The above exception was the direct cause of the following exception"
_OURS = re.compile(rf"^(?:{re.escape(errors.__name__)}\.)(\w+): (.+)$", re.M)


def told(error: Exception, dataset: str) -> BenchError | None:
    """The sentence for a user where an error is theirs to mend; None where it is not.

    An error from a worker process comes as the text of its traceback, in which ours are looked for, then those of the reader
    of webdatasets, of which the first cause counts.
    """
    text = "".join(traceback.format_exception(error))
    inside = _OURS.search(str(error))  # ours, from a worker
    kind, sentence = (type(error), str(error)) if isinstance(error, BenchError) else (None, "")
    if inside:
        kind, sentence = getattr(errors, inside[1], BadData), inside[2]
    if kind is not None:
        bare = issubclass(kind, (BadData, Lacking)) and not sentence.startswith(f"{dataset}: ")
        return kind(f"{dataset}: {sentence}" if bare else sentence)
    first = text.partition(_CAUSE)[0]
    frames = re.findall(r'File "(.+?)", line', first)
    if _READER not in text or (frames and Path(frames[-1]).is_relative_to(_HERE)):  # a mistake of ours keeps its traceback
        return None
    cause = first.strip().splitlines()[-1]
    reason = re.sub(r" <_io\.\w+.*?>", "", re.sub(r"^[\w.]+: ", "", cause)).strip(". ")
    return BadData(f"{dataset}: {reason}: make or fetch that webdataset again.")


def refused(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The samples of a shard; BadData where one holds a member that the reader would execute, or has a name that leads out."""
    for sample in samples:
        if leads_out(str(sample.get("__key__"))):
            raise BadData(
                f"{sample.get('__url__')}: the name of the sample {sample['__key__']!r} leads out of the archive; nothing was "
                "unpacked; make the shard anew without it."
            )
        for name in sample:
            if name.removesuffix(".gz").rpartition(".")[2] in CODE:
                raise BadData(
                    f"{sample.get('__url__')}: the sample {sample.get('__key__')!r} has a pickle ({name}), and code in data is "
                    "never run; make the shard anew without it."
                )
        yield sample
