"""Which labelled examples a strategy may learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ensemble_bench.errors import BadData, BadOption, TooFew


def _rank(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def draw(ids: Sequence[str], labels: Sequence[int], classes: Sequence[str], shots: int, *, seed: int, number: int) -> list[int]:
    """Places of the support of draw ``number``: ``shots`` examples of each class, class by class.

    Within a class the examples come in the order of a hash of (seed, draw, class, id). So the k-shot support contains the
    (k-1)-shot one, and neither the order of the data nor the other classes matter.
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
        support += sorted(own, key=lambda place: _rank(f"{seed}/{number}/{name}/{ids[place]}"))[:shots]
    return support


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
