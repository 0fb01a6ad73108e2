"""One strategy on one task: fitted once per draw, asked for every condition, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ensemble_bench import metrics
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadPlugin, Lacking
from ensemble_bench.strategies.base import Strategy

CHUNK = 4096


@dataclass(frozen=True)
class Answer:
    """What one fit of a strategy said of one query: per-sample arrays and what it cost per image.

    ``seconds`` are those of the answers and, on the first query of a fit, of the fit.
    """

    draw: int | None
    labels: int
    samples: Mapping[str, Tensor]
    gflops: float
    backbones: int
    learnt: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def _one_thread() -> Iterator[None]:
    """Fits on a handful of samples are slower on several threads, and on one they give the same on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def lacking(strategy: Strategy, cube: Cube) -> str | None:
    """Why a strategy cannot work on this cube, or None."""
    missing = [what for what in strategy.needs if what not in cube.has]
    return f"needs {' and '.join(missing)}, and there are only {', '.join(sorted(cube.has))}" if missing else None


def answer(strategy: Strategy, query: Cube, name: str, *, draw: int | None = None, labels: int = 0) -> Answer:
    """What a (fitted) strategy says of a labelled query; it sees the labels only if it is an oracle.

    The query goes through in chunks of CHUNK samples, a transductive strategy gets it whole.
    """
    whole = strategy.transductive or len(query) <= CHUNK
    found: dict[str, list[Tensor]] = {}
    spent = 0.0
    used = torch.zeros(len(query.backbones), dtype=torch.bool)
    for part in [query] if whole else query.chunks(CHUNK):
        seen = part if strategy.labels == "query" else part.blind()
        scores = strategy.predict(seen)
        if not isinstance(scores, Tensor):
            raise BadPlugin(f"{name}: predict must return a tensor of scores [s, c], not a {type(scores).__name__}.")
        for key, value in metrics.per_sample(scores, strategy.gives, part.labels, part).items():
            found.setdefault(key, []).append(value)
        needed = strategy.used(seen)
        spent += float((needed.double() * part.gflops[:, None]).sum())
        used |= needed.any(1)
    return Answer(
        draw=draw,
        labels=len(query) if strategy.labels == "query" else labels,
        samples={key: torch.cat(parts) for key, parts in found.items()},
        gflops=spent / max(len(query), 1),
        backbones=int(used.sum()),
        learnt=strategy.learnt(),
    )


def answers(
    build: Callable[[], Strategy],
    name: str,
    supports: Sequence[Cube],
    queries: Mapping[str, Cube],
    seed: int,
    others: Mapping[str, Cube] | None = None,
) -> dict[str, list[Answer]]:
    """Answers of every draw, by condition. ``build()`` gives a fresh strategy; one that uses no support is asked once.

    ``others`` are labelled cubes of other tasks, for strategies that learn from them first; these labels count too.
    """
    found: dict[str, list[Answer]] = {condition: [] for condition in queries}
    first = build()
    draws: Sequence[Cube | None] = supports if first.labels == "support" else [None]
    if not draws:
        raise Lacking(f"{name} learns from labelled examples, and there is no train split to draw them from.")
    elsewhere = sum(map(len, (others or {}).values()))
    for number, support in enumerate(draws):
        strategy = build()
        if hasattr(strategy, "seed"):
            strategy.seed = seed + number
        start = time.perf_counter()
        if support is not None:
            with _one_thread():
                if strategy.prepares():
                    strategy.prepare(others or {})
                strategy.fit(support)
        for condition, query in queries.items():
            said = answer(
                strategy,
                query,
                name,
                draw=None if support is None else number,
                labels=0 if support is None else len(support) + elsewhere,
            )
            found[condition].append(replace(said, seconds=time.perf_counter() - start))
            start = time.perf_counter()
    return found
