"""Data sets that nobody can fetch for the user: their card says how to get them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from ensemble_bench.errors import Missing
from ensemble_bench.sources.base import Index, Picture, Source


class Manual(Source):
    """``how`` is the sentence that says what to do instead; there are no samples."""

    def _how(self) -> NoReturn:
        raise Missing(f"{self.task.name} must be brought by hand: {self.option('how', str, 'what to do, as a sentence')}.")

    def index(self, split: str) -> Index:
        self._how()

    def pictures(self, split: str, ids: Sequence[str]) -> Iterator[Picture]:
        self._how()
