"""Strategies on one task: fitted once per draw, asked for every condition, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from ensemble_bench import metrics, threads
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadArchive, BadPlugin, BenchError, Lacking
from ensemble_bench.progress import Advance
from ensemble_bench.strategies import registry
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.spelling import parsed

WHOLE = 1 << 24  # scores [b, s, c] of a query that is worked on in one piece
PIECE = 5 << 19  # scores in a piece of a longer one, 10 MB: as many as caches hold, and worth the calls of a piece


@dataclass(frozen=True)
class Answer:
    """What one fit of a strategy said of one query: per-sample arrays and what it cost per image.

    ``used`` bool [b, s] says which backbones each sample needed, ``costs`` [b] what an image costs in each. ``seconds`` are
    those of the answers and, on the first query of a fit, of the fit.
    """

    draw: int | None
    labels: int
    samples: Mapping[str, Tensor]
    used: Tensor
    costs: Tensor
    learnt: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def gflops(self) -> float:
        """Mean over samples of what was really spent."""
        return float((self.used.double().sum(1) * self.costs).sum()) / max(self.used.shape[1], 1)

    @property
    def backbones(self) -> int:
        """How many were needed by some sample."""
        return int(self.used.any(1).sum())

    def of(self, rows: Tensor, labels: int) -> Answer:
        """The same of some of the samples."""
        samples = {key: value[rows] for key, value in self.samples.items()}
        return replace(self, labels=labels, samples=samples, used=self.used[:, rows])


@dataclass(frozen=True)
class Asked:
    """A strategy, fitted if it learns, that a query is put to; ``labels`` is how many labelled examples it has learnt from.

    ``seconds`` are those of the fit.
    """

    strategy: Strategy
    name: str
    draw: int | None = None
    labels: int = 0
    seconds: float = 0.0

    @property
    def oracle(self) -> bool:
        """Whether it sees the labels of the query."""
        return self.strategy.labels == "query"


def lacking(strategy: Strategy, cube: Cube) -> str | None:
    """Why a strategy cannot work on this cube, or None."""
    missing = [what for what in strategy.needs if what not in cube.has]
    return f"needs {' and '.join(missing)}, and there are only {', '.join(sorted(cube.has))}" if missing else None


def excuse(name: str, error: Exception) -> str:
    """Why a strategy failed, as a sentence; what is not its fault, or ours to mend, is raised again."""
    if isinstance(error, BadArchive) or (registry.builtin(parsed(name)[0]) and not isinstance(error, BenchError)):
        raise error
    said = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
    return said if name in said else f"{name}: {said}"


class _Piece:
    """Some samples of a labelled query as each strategy may see them; what several of them need is computed once."""

    def __init__(self, cube: Cube, rough: bool) -> None:
        self.cube = cube.roughly() if rough else cube
        self.means = metrics.Means(self.cube)

    @cached_property
    def labelled(self) -> Cube:
        return self.cube.exactly()

    @cached_property
    def blind(self) -> Cube:
        return self.labelled.blind()

    @cached_property
    def rough(self) -> Cube:
        return self.cube.blind()

    def found(self, asked: Asked) -> dict[str, Tensor]:
        """What every sample contributes to the metrics of a strategy, and ``used`` [n, b]."""
        strategy = asked.strategy
        mine = registry.builtin(parsed(asked.name)[0])
        seen = self.labelled if asked.oracle else self.blind
        seen = seen if mine else seen.own()
        if self.cube.rough and "probabilities" in self.cube.has:
            found = self._roughly(asked, None if strategy.rough and mine else _scores(asked, seen))
        else:
            scores = _scores(asked, seen)
            found = metrics.per_sample(scores, strategy.gives, self.cube.labels, self.cube, self.means)
        used = strategy.used(seen)
        return {**found, "used": used.T}

    def _roughly(self, asked: Asked, scores: Tensor | None) -> dict[str, Tensor]:
        """The same from one pass in single precision, but where double might answer otherwise; scores are made if not given."""
        cube, gives = self.cube, asked.strategy.gives
        rough = _scores(asked, self.rough) if scores is None else scores
        found, doubtful = metrics.roughly(rough, gives, cube.labels, cube, exact=scores is not None)
        if len(doubtful):
            exact = self.labelled.take(doubtful)
            again = _scores(asked, exact.blind()) if scores is None else scores[doubtful]
            more = metrics.per_sample(again, gives, exact.labels, exact, self.means.take(doubtful))
            for key, values in found.items():
                values[doubtful] = more[key]
        return found


def _scores(asked: Asked, seen: Cube) -> Tensor:
    scores = asked.strategy.predict(seen)
    if not isinstance(scores, Tensor):
        raise BadPlugin(f"{asked.name}: predict must return a tensor of scores [s, c], not a {type(scores).__name__}.")
    return scores


def _swept(
    asked: Sequence[Asked], query: Cube, size: int, advance: Advance, *, lazily: bool = False
) -> tuple[list[Answer | Exception], Cube]:
    """Answers of several strategies from one pass over the query in pieces of ``size``, and the query with its decisions.

    One piece is exact; several are rough where that changes no answer. ``lazily``, only the scores that are asked for are read.
    """
    several = len(query) > size
    found = [_Columns(len(query)) for _ in asked]
    failed: dict[int, Exception] = {}
    decisions = _Columns(len(query))
    start = 0
    pieces: Iterable[Cube] = [query]
    if several and lazily:
        pieces = (query.take(range(start, min(start + size, len(query)))) for start in range(0, len(query), size))
    elif several:
        pieces = query.chunks(size, reuse=True)
    for cube in pieces:
        piece = _Piece(cube, several)
        if several:
            decisions.put(start, {"decisions": piece.cube.decisions.T})
        for place, one in enumerate(asked):
            if place not in failed:
                try:
                    found[place].put(start, piece.found(one))
                except Exception as error:
                    failed[place] = error
        start += len(cube)
        advance(len(cube))
    answers = [failed[place] if place in failed else found[place].answer(one, query) for place, one in enumerate(asked)]
    return answers, query.knowing(decisions["decisions"].T) if several else query


class _Columns(dict[str, Tensor]):
    """Arrays over all samples, filled from the front: allocated once, so that what is kept and what is not do not mix."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples

    def put(self, start: int, found: Mapping[str, Tensor]) -> None:
        for key, values in found.items():
            if key not in self:
                self[key] = values.new_empty(self.samples, *values.shape[1:])
            self[key][start : start + len(values)] = values

    def answer(self, asked: Asked, query: Cube) -> Answer:
        labels = len(query) if asked.oracle else asked.labels
        samples = {key: values for key, values in self.items() if key != "used"}
        return Answer(asked.draw, labels, samples, self["used"].T, query.gflops, asked.strategy.learnt())


def said(asked: Sequence[Asked], query: Cube, advance: Advance = lambda units: None) -> tuple[list[Answer | Exception], Cube]:
    """What strategies say of a labelled query, each an exception where it failed; they see the labels only if they are oracles.

    A query of more than WHOLE scores goes through in pieces, once for all strategies; those that want the whole are settled by
    the decisions that this pass has found, and asked in a second one, or if they cannot be settled in one call. Also gives the
    query back, which then knows its decisions.
    """
    _, s, c = query.shape
    size = max(16, PIECE // (len(query.backbones) * c))
    if s * c * len(query.backbones) <= WHOLE or s <= size:
        return _swept(asked, query, max(s, 1), advance)
    answers: dict[int, Answer | Exception] = {}
    now = [place for place, one in enumerate(asked) if not one.strategy.wants_whole()]
    found, query = _swept([asked[place] for place in now], query, size, advance)
    answers |= dict(zip(now, found, strict=True))
    settled: dict[int, Asked] = {}
    for place, one in enumerate(asked):
        if place in answers:
            continue
        try:
            strategy = one.strategy.settled(query if one.oracle else query.blind())
        except Exception as error:
            answers[place] = error
            continue
        if strategy is None:
            answers[place] = _swept([one], query, s, advance)[0][0]
        elif (same := next((known for known in now if _alike(asked[known].strategy, strategy)), None)) is not None:
            known = answers[same]
            answers[place] = known if isinstance(known, Exception) else replace(known, draw=one.draw, labels=s)
        else:
            settled[place] = replace(one, strategy=strategy)
    if settled:
        found, query = _swept(list(settled.values()), query, size, lambda units: None, lazily=True)
        for place, answer in zip(settled, found, strict=True):
            labels = s if asked[place].oracle else asked[place].labels
            answers[place] = answer if isinstance(answer, Exception) else replace(answer, labels=labels)
    return [answers[place] for place in range(len(asked))], query


def _alike(one: Strategy, other: Strategy) -> bool:
    """Whether two strategies that have learnt nothing give the same answers."""
    return type(one) is type(other) and one.parameters() == other.parameters() and not (one.learnt() or other.learnt())


def answer(strategy: Strategy, query: Cube, name: str, *, draw: int | None = None, labels: int = 0) -> Answer:
    """What one (fitted) strategy says of a labelled query: see ``said``."""
    found = said([Asked(strategy, name, draw, labels)], query)[0][0]
    if isinstance(found, Exception):
        raise found
    return found


def fitted(
    build: Callable[[], Strategy],
    name: str,
    supports: Sequence[Cube],
    seed: int,
    others: Mapping[str, Cube] | None = None,
) -> Iterator[Asked]:
    """A strategy fitted on every draw, one after the other; one that uses no support is there once.

    ``build()`` gives a fresh strategy. ``others`` are labelled cubes of other tasks, for strategies that learn from them first;
    these labels count too.
    """
    first = build()
    draws: Sequence[Cube | None] = supports if first.labels == "support" else [None]
    if not draws:
        raise Lacking(f"{name} learns from labelled examples, and there is no train split to draw them from.")
    elsewhere = sum(map(len, (others or {}).values()))
    mine = registry.builtin(parsed(name)[0])
    for number, support in enumerate(draws):
        strategy = build()
        if hasattr(strategy, "seed"):
            strategy.seed = seed + number
        if support is None:
            yield Asked(strategy, name)
            continue
        start = time.perf_counter()
        with threads.one():
            if strategy.prepares():
                strategy.prepare(others or {})
            strategy.fit(support if mine else support.own())
        yield Asked(strategy, name, number, len(support) + elsewhere, time.perf_counter() - start)


def answers(
    build: Callable[[], Strategy],
    name: str,
    supports: Sequence[Cube],
    queries: Mapping[str, Cube],
    seed: int,
    others: Mapping[str, Cube] | None = None,
) -> dict[str, list[Answer]]:
    """Answers of every draw, by condition; see ``fitted``."""
    found: dict[str, list[Answer]] = {condition: [] for condition in queries}
    for one in fitted(build, name, supports, seed, others):
        spent = one.seconds
        for condition, query in queries.items():
            start = time.perf_counter()
            given = answer(one.strategy, query, name, draw=one.draw, labels=one.labels)
            found[condition].append(replace(given, seconds=spent + time.perf_counter() - start))
            spent = 0.0
    return found
