"""A new baseline in the place of the old one, with the reason why, which is kept with all earlier ones."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from ensemble_bench import provenance
from ensemble_bench.check import said
from ensemble_bench.check.compare import GONE, IMPROVED, INCOMPARABLE, NEW, REGRESSED, compared
from ensemble_bench.errors import BadOption, BadRecord
from ensemble_bench.records import Results

REASONS = "blessed.jsonl"


def reasons(baseline: Path) -> list[dict[str, Any]]:
    """Every blessing of a baseline, the oldest first."""
    path = baseline / REASONS
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise BadRecord(f"{path} cannot be read ({error}): mend it, it says why the baseline is what it is.") from None


def bless(candidate: Path, baseline: Path, reason: str) -> dict[str, Any]:
    """Put a copy of the candidate in the place of the baseline, whole or not at all; returns what is kept about it.

    That is ``reason``, time, the code's commit, and how the candidate's rows stood against those of the baseline before.
    """
    if not reason.strip():
        raise BadOption("a blessing needs its reason: --reason TEXT.")
    results = Results(candidate, must_exist=True)
    if not results.records:
        raise BadRecord(f"{candidate} holds no records: nothing to bless.")
    if baseline.exists() and baseline.resolve() == candidate.resolve():
        raise BadOption(f"{candidate} is the baseline itself.")
    before: list[dict[str, Any]] = []
    about: dict[str, Any] = {"reason": reason.strip(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    about |= provenance.code()
    if baseline.exists():
        old = Results(baseline, must_exist=True)
        before = reasons(baseline)
        try:
            comparison = compared(old, results)
        except BadRecord as error:
            about["against"] = str(error)
        else:
            about["against"] = said.verdict(comparison)
            moved = comparison.of(REGRESSED, GONE, IMPROVED, INCOMPARABLE, NEW)
            about["changes"] = [f"{change.verdict}: {said.row(change)}: {said.numbers(change)}" for change in moved]
    try:
        baseline.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=baseline.parent, prefix=f".{baseline.name}."))
        try:
            fresh, replaced = part / "new", part / "old"
            shutil.copytree(candidate, fresh)
            lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in (*before, about)]
            (fresh / REASONS).write_text("".join(lines), encoding="utf-8")
            if baseline.exists():
                baseline.rename(replaced)
            fresh.rename(baseline)
        finally:
            if not baseline.exists() and replaced.exists():
                replaced.rename(baseline)
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise BadRecord(f"{baseline} cannot be written: {error.strerror or error}. It is as it was.") from None
    return about
