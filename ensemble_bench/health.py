"""What is wrong with a data set, as findings: pure checks over class names, labels, ids, counts, digests and right answers.

They need no images and no weights. Each returns findings, most harmful first, and none where all is well.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ensemble_bench.errors import BadData

SEVERITIES = ("error", "warning")
FIRST = 1000  # answers after which a backbone at chance is noticed
FEWEST = 100  # answers below which nothing is said: too few to tell chance from a weak backbone
LEVEL = 0.01  # of the one-sided binomial test against chance
_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: how bad, which check found it, a sentence, and what to do.

    An ``error`` makes numbers wrong or a run impossible; a ``warning`` is a thing to look at.
    """

    severity: str
    check: str
    sentence: str
    cure: str

    def __str__(self) -> str:
        return f"{self.sentence} {self.cure}"


def demand(name: str, findings: Iterable[Finding]) -> None:
    """Raise BadData with the first error among the findings, if there is one; ``name`` is whose they are."""
    for finding in findings:
        if finding.severity == "error":
            raise BadData(f"{name}: {finding}")


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _places(items: Sequence[str], wanted: str) -> str:
    return " and ".join(str(place) for place, item in enumerate(items, 1) if item == wanted)


def classes(names: Sequence[str], twice: str = "error", empty: str = "error") -> list[Finding]:
    """Class names: at least two, none empty, none twice (how bad these two are: a card may know of them)."""
    found = []
    if len(names) < 2:
        found.append(Finding("error", "classes", f"there are {len(names)} class names.", "A task needs at least two."))
    bare = [str(place) for place, name in enumerate(names, 1) if not name.strip()]
    if bare:
        cure = "Remove empty lines, or give these classes their names."
        if empty == "warning":
            cure = "Their prompts name nothing: read numbers of these classes with care."
        found.append(Finding(empty, "classes", f"class names are empty: number {some(bare)}.", cure))
    twins = [name for name, count in Counter(names).items() if count > 1 and name.strip()]
    if twins:
        said = "; ".join(f"{name!r} is number {_places(names, name)}" for name in twins[:_SHOWN])
        cure = "No answer can tell such classes apart: give each a name of its own."
        found.append(Finding(twice, "classes", f"{len(twins)} class names come more than once: {said}.", cure))
    folded = Counter(name.strip().casefold() for name in set(names) if name.strip())
    alike = sorted(name for name in set(names) if folded[name.strip().casefold()] > 1)
    if alike:
        cure = "Give them names that mean something different."
        found.append(Finding("warning", "classes", f"class names differ only in case or blanks: {some(alike)}.", cure))
    return found


def templates(texts: Sequence[str]) -> list[Finding]:
    """Prompt templates: at least one, each with the placeholder ``{c}`` and no other brace, none twice."""
    if not texts:
        return [Finding("error", "templates", "there are no prompt templates.", 'Give at least "a photo of a {c}.".')]
    found = []
    bare = [repr(text) for text in texts if "{c}" not in text]
    if bare:
        cure = 'Write "{c}" where the class name belongs.'
        found.append(Finding("error", "templates", f'templates without the placeholder "{{c}}": {some(bare)}.', cure))
    braces = [repr(text) for text in texts if re.search(r"[{}]", text.replace("{c}", ""))]
    if braces:
        cure = 'Only "{c}" is filled in; other programs stop at such a brace.'
        found.append(Finding("warning", "templates", f"templates with other braces: {some(braces)}.", cure))
    twice = [repr(text) for text, count in Counter(texts).items() if count > 1]
    if twice:
        cure = "A template that stands twice counts twice: remove one."
        found.append(Finding("warning", "templates", f"templates that come more than once: {some(twice)}.", cure))
    return found


def ids(names: Sequence[str], split: str) -> list[Finding]:
    """Sample ids: all different."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not twice:
        return []
    sentence = f"the {split} split has the same sample id more than once: {some(twice)}."
    return [Finding("error", "ids", sentence, "Answers are aligned by id: make them differ.")]


def count(found: int, wanted: int | None, split: str) -> list[Finding]:
    """Number of images: as many as the card says, and at least one."""
    if wanted is not None and found != wanted:
        sentence = f"the {split} split has {found} images; its card says {wanted}."
        return [Finding("error", "counts", sentence, "Fetch the data set again, or correct 'counts' and raise the version.")]
    if not found:
        return [Finding("error", "counts", f"the {split} split has no images.", "Check the path and the endings of the files.")]
    return []


def labels(numbers: Sequence[int], names: Sequence[str], split: str) -> list[Finding]:
    """Labels: places among the class names; a class without images is worth a look."""
    seen = Counter(numbers)
    wrong = sorted(label for label in seen if not 0 <= label < len(names))
    if wrong:
        images = sum(seen[label] for label in wrong)
        sentence = (
            f"the {split} split has the label {wrong[-1]} ({images} images with a label that has no name), but there are "
            f"{len(names)} classes."
        )
        return [Finding("error", "labels", sentence, "Class names and labels are not of the same data set.")]
    bare = [name for label, name in enumerate(names) if label not in seen]
    if bare and numbers:
        sentence = f"{len(bare)} of {len(names)} classes have no {split} image: {some(bare)}."
        return [Finding("warning", "labels", sentence, "Per-class means leave them out; check that nothing is missing.")]
    return []


def undecodable(reasons: Sequence[str], seen: int, split: str) -> list[Finding]:
    """Images that cannot be decoded, each named by its reason."""
    if not reasons:
        return []
    named = " ".join(reasons[:_SHOWN]) + (f" And {len(reasons) - _SHOWN} more." if len(reasons) > _SHOWN else "")
    sentence = f"{len(reasons)} of {seen} {split} images cannot be decoded: {named}"
    return [Finding("error", "images", sentence, "Fetch or save these files again, or take them out.")]


def overlap(train: Mapping[str, str], test: Mapping[str, str]) -> list[Finding]:
    """Images that are in both splits, and twice in the test split, by their digests; both arguments map id to digest."""
    found = []
    known: dict[str, str] = {}
    for name, digest in train.items():
        known.setdefault(digest, name)
    both = [f"{name} = {known[digest]}" for name, digest in test.items() if digest in known]
    if both:
        sentence = f"{len(both)} of {len(test)} test images are train images too: {some(both)}."
        cure = "What was learnt from them cannot be measured on them: take them out of one split."
        found.append(Finding("error", "overlap", sentence, cure))
    again = len(test) - len(set(test.values()))
    if again:
        sentence = f"{again} of {len(test)} test images are copies of another test image."
        found.append(Finding("warning", "overlap", sentence, "They count more than once, and labels may contradict."))
    return found


def chance(right: Collection[bool], names: int, backbone: str) -> list[Finding]:
    """A backbone that is not above blind guessing among ``names`` classes after its first answers (the first FIRST count).

    One-sided binomial test at LEVEL; nothing is said below FEWEST answers.
    """
    first = list(right)[:FIRST]
    hits, n = sum(map(bool, first)), len(first)
    if n < FEWEST or names < 2 or _upper_tail(hits, n, 1 / names) < LEVEL:
        return []
    sentence = (
        f"{backbone} is not above chance: {hits} of the first {n} images are right, and guessing among {names} classes gives "
        f"{n / names:.0f}."
    )
    return [Finding("warning", "chance", sentence, "Check labels, class names and prompts, and whether the weights suit them.")]


def _upper_tail(hits: int, n: int, p: float) -> float:
    """Probability of at least ``hits`` successes in ``n`` trials.

    >>> round(_upper_tail(2, 3, 0.5), 6)
    0.5
    """
    log = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(hits, n + 1)
    ]
    return math.fsum(map(math.exp, log))
