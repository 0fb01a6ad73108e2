"""Which labelled examples a strategy may learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ensemble_bench.errors import BadData, BadOption, TooFew


def _rank(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def draw(
    ids: Sequence[str],
    labels: Sequence[int],
    classes: Sequence[str],
    shots: int,
    *,
    seed: int,
    number: int,
    stages: Sequence[int] | None = None,
) -> list[int]:
    """Places of the support of draw ``number``: ``shots`` examples of each class, class by class.

    Within a class the examples come in the order of a hash of (seed, draw, class, id). So the k-shot support contains the
    (k-1)-shot one, and neither the order of the data nor the other classes matter.

    ``stages`` (one per sample) are for splits of which no more is read than a draw needs: example k is the first in that order,
    among those not drawn yet, whose stage is at most ``stage(k)``. What a later stage holds then cannot change it.
    """
    if shots < 1:
        raise BadOption(f"--shots must be at least 1, not {shots}.")
    places: list[list[int]] = [[] for _ in classes]
    for place, label in enumerate(labels):
        places[label].append(place)
    support = []
    for name, own in zip(classes, places, strict=True):
        if len(own) < shots:
            raise TooFew(
                f"the class {name!r} has {len(own)} training examples, fewer than --shots {shots}: ask for {len(own)} at most."
            )
        order = sorted(own, key=lambda place: _rank(f"{seed}/{number}/{name}/{ids[place]}"))
        support += order[:shots] if stages is None else _staged(order, stages, shots)
    return support


def stage(shot: int) -> int:
    """The stage of the candidates that example number ``shot`` (from 1) is drawn from: it doubles with the shots.

    >>> [stage(shot) for shot in (1, 2, 3, 4, 5, 8, 9, 16)]
    [0, 1, 2, 2, 3, 3, 4, 4]
    """
    return (shot - 1).bit_length()


def _staged(order: list[int], stages: Sequence[int], shots: int) -> list[int]:
    drawn: list[int] = []
    for shot in range(1, shots + 1):
        open_to = [place for place in order if stages[place] <= stage(shot) and place not in drawn]
        drawn.append(open_to[0] if open_to else next(place for place in order if place not in drawn))
    return drawn


def ordered(count: int, seed: int) -> list[int]:
    """The numbers 0 to ``count`` - 1 in the order of a hash of (seed, number): which shard of a large split is read first."""
    return sorted(range(count), key=lambda number: _rank(f"{seed}/shard/{number}"))


def limited(ids: Sequence[str], limit: int | None) -> list[int]:
    """Places of the ``limit`` samples with the smallest hash of their id, in their own order; all where it is None."""
    if limit is None or limit >= len(ids):
        return list(range(len(ids)))
    return sorted(sorted(range(len(ids)), key=lambda place: _rank(ids[place]))[:limit])


def check_disjoint(support: Sequence[str], query: Sequence[str], task: str) -> None:
    """Raise ``BadData`` if a sample is in both."""
    both = set(support) & set(query)
    if both:
        raise BadData(
            f"{task}: {len(both)} samples are both in support and query, {sorted(both)[0]!r} for one: splits must be disjoint."
        )


def digest(ids: Sequence[str]) -> str:
    """Sha256 of sample ids in their order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
