"""Under which circumstances images are shown: as they are, or corrupted."""

from __future__ import annotations

from dataclasses import dataclass

from ensemble_bench.errors import BadOption


@dataclass(frozen=True, order=True)
class Condition:
    """One corruption of a suite at one severity (1 to 5); ``CLEAN`` is a condition too, with an empty suite."""

    suite: str = ""
    corruption: str = ""
    severity: int = 0
    seed: int = 0

    def __str__(self) -> str:
        """``SUITE:CORRUPTION:SEVERITY`` or ``clean``, as on the command line and in records."""
        return f"{self.suite}:{self.corruption}:{self.severity}" if self.suite else "clean"

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Condition:
        """The condition that ``text`` names.

        >>> str(Condition.parse("mini-c:fog:3")), Condition.parse("clean") == CLEAN
        ('mini-c:fog:3', True)
        """
        if text == "clean":
            return CLEAN
        parts = text.split(":")
        if len(parts) != 3 or not parts[2].isdecimal() or not 1 <= int(parts[2]) <= 5:
            raise BadOption(f"a condition is 'clean' or SUITE:CORRUPTION:SEVERITY with a severity from 1 to 5, not {text!r}.")
        return cls(parts[0], parts[1], int(parts[2]), seed)


CLEAN = Condition()
