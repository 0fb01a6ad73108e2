"""What a text tower reads for each class, and the digest that says whether two readings are the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ensemble_bench import cache


def of(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """The prompts of every class: each template with the class name in the place of ``{c}``.

    >>> of(["cat", "dog"], ["a {c}", "the {c}."])
    [['a cat', 'the cat.'], ['a dog', 'the dog.']]
    """
    return [[template.replace("{c}", name) for template in templates] for name in names]


def digest(prompts: Sequence[Sequence[str]]) -> str:
    """Sha256 of the prompts of all classes, in their order."""
    return cache.sha256({"prompts": [list(own) for own in prompts]})


@lru_cache(maxsize=64)
def digest_of(names: tuple[str, ...], templates: tuple[str, ...]) -> str:
    """The digest of ``of(names, templates)``; remembered, because a thousand classes have eighty thousand prompts."""
    return digest(of(names, templates))
