"""What every corruption must keep, as checks that anyone can run on their own: each raises AssertionError with a sentence."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.corrupt.stream import Stream

Picture = NDArray[np.uint8]  # [h, w, 3]
Kernel = Callable[[Picture, tuple[float, ...], Stream], Picture]
SEVERITIES = (1, 2, 3, 4, 5)
SLACK = 0.02  # by so much of itself the distance may shrink from one severity to the next: draws are used differently


@dataclass(frozen=True)
class Graded:
    """A corruption with its amounts for severities 1 to 5; ``uneven``: why its distance need not grow, where it need not."""

    name: str
    kernel: Kernel
    amounts: tuple[tuple[float, ...], ...]
    uneven: str = ""

    def __call__(self, picture: Picture, severity: int = 3, sample: str = "sample") -> Picture:
        """The picture corrupted as that sample, with our own draws."""
        return self.kernel(picture, self.amounts[severity - 1], Stream.native(sample, self.name, severity))


@lru_cache(maxsize=1)
def _photographs() -> tuple[Picture, ...]:
    """Parts of three photographs that scikit-image carries, 96 x 96."""
    from skimage import data

    whole = (data.astronaut()[10:202, 120:312], data.chelsea()[40:232, 80:272], data.coffee()[60:252, 200:392])
    return tuple(np.ascontiguousarray(photograph[::2, ::2]) for photograph in whole)


def _odd() -> dict[str, Picture]:
    """Pictures on which things go wrong, by what is odd about them."""
    photograph = _photographs()[0]
    pictures = {
        "black": np.zeros((40, 40, 3), dtype=np.uint8),
        "white": np.full((40, 40, 3), 255, dtype=np.uint8),
        "grey": np.repeat(photograph.mean(2).astype(np.uint8)[..., None], 3, axis=2),
        "wide": photograph[:5, :90],
        "high": photograph[:90, :7],
    }
    return pictures | {f"{h} x {w}": photograph[:h, :w] for h, w in ((1, 1), (1, 9), (2, 2), (3, 1), (9, 9), (31, 33))}


def _well_formed(corruption: Graded, out: Any, picture: Picture, where: str) -> None:
    said = f"{getattr(out, 'dtype', type(out).__name__)} {list(getattr(out, 'shape', ()))}"
    assert isinstance(out, np.ndarray) and out.dtype == np.uint8 and out.shape == picture.shape, (
        f"{corruption.name} must return uint8 {list(picture.shape)} {where}, not {said}."
    )


def check_five_amounts(corruption: Graded) -> None:
    """There are five amounts, one a severity, each a tuple of numbers."""
    assert len(corruption.amounts) == len(SEVERITIES), (
        f"{corruption.name} needs five amounts, one a severity; it has {len(corruption.amounts)}."
    )
    assert all(isinstance(amount, tuple) and amount for amount in corruption.amounts), (
        f"the amounts of {corruption.name} must be tuples of numbers."
    )


def check_bytes_in_bytes_out(corruption: Graded) -> None:
    """uint8 [h, w, 3] in, uint8 [h, w, 3] of the same shape out, at every severity."""
    for picture in _photographs():
        for severity in SEVERITIES:
            _well_formed(corruption, corruption(picture, severity), picture, f"at severity {severity}")


def check_pictures_are_left_alone(corruption: Graded) -> None:
    """The picture stays as it was, may be read-only, and shares no memory with what comes out."""
    for picture in _photographs():
        given = picture.copy()
        for severity in SEVERITIES:
            out = corruption(given, severity)
            assert np.array_equal(given, picture), f"{corruption.name} writes into the picture it is given."
            assert not np.shares_memory(given, out), f"{corruption.name} returns memory of the picture it was given."
        given.setflags(write=False)
        try:
            corruption(given)
        except ValueError as error:
            raise AssertionError(f"{corruption.name} cannot take a read-only picture: {error}") from error


def check_same_stream_same_bytes(corruption: Graded) -> None:
    """The same picture as the same sample gives the same bytes: again, in another order, and from several threads at once."""
    jobs = [(picture, severity, f"s{i}") for i, picture in enumerate(_photographs()) for severity in (1, 3, 5)]
    first = [corruption(*job) for job in jobs]
    turned = [corruption(*job) for job in jobs[::-1]][::-1]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: corruption(*job), jobs))
    for how, others in (("in another order", turned), ("from several threads", together)):
        assert all(np.array_equal(one, other) for one, other in zip(first, others, strict=True)), (
            f"{corruption.name} gives other bytes for the same stream when asked {how}."
        )


def check_layout_does_not_matter(corruption: Graded) -> None:
    """A picture that is a part or a turned view of another array gives what its copy gives."""
    picture = _photographs()[1]
    for what, view in (
        ("a part", picture[8:72, 5:91]),
        ("a mirrored view", picture[:, ::-1]),
        ("a turned view", picture.swapaxes(0, 1)),
    ):
        for severity in (1, 5):
            copied = corruption(np.ascontiguousarray(view), severity)
            assert np.array_equal(corruption(view, severity), copied), f"{corruption.name} treats {what} of an array otherwise."


def _distance(corruption: Graded, severity: int) -> float:
    """Mean absolute difference to the picture, in grey levels, over three photographs; the same draws at every severity."""
    distances = []
    for sample, picture in enumerate(_photographs() * 3):
        out = corruption.kernel(picture, corruption.amounts[severity - 1], Stream.native(f"d{sample}", corruption.name, 0))
        distances.append(np.abs(out.astype(np.float64) - picture).mean())
    return float(np.mean(distances))


def check_distance_grows(corruption: Graded) -> None:
    """Each severity moves photographs at least as far as the one before (unless ``uneven`` says why not), all of them move."""
    distances = [_distance(corruption, severity) for severity in SEVERITIES]
    said = ", ".join(f"{distance:.2f}" for distance in distances)
    assert min(distances) > 0, f"{corruption.name} changes nothing at some severity: {said} grey levels."
    if corruption.uneven:
        return
    assert all(after >= (1 - SLACK) * before for before, after in pairwise(distances)) and distances[4] > distances[0], (
        f"the distance of {corruption.name} does not grow with severity: {said} grey levels."
    )


def check_survives_odd_pictures(corruption: Graded) -> None:
    """Grey, black, white, tiny and long pictures come out whole, without a warning."""
    for what, picture in _odd().items():
        for severity in SEVERITIES:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    out = corruption(picture, severity)
            except Exception as error:
                raise AssertionError(
                    f"{corruption.name} at severity {severity} fails on a picture that is {what}: {error!r}"
                ) from error
            _well_formed(corruption, out, picture, f"for a picture that is {what}")


def check_leaves_global_random_numbers_alone(corruption: Graded) -> None:
    """Neither numpy's nor Python's global random numbers are drawn from, seeded, or of any influence."""
    found = np.random.get_state(), random.getstate()  # noqa: NPY002
    outs = []
    try:
        for seed in (1, 987654321):
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            before = np.random.get_state(), random.getstate()  # noqa: NPY002
            outs.append([corruption(_photographs()[0], severity) for severity in SEVERITIES])
            after = np.random.get_state(), random.getstate()  # noqa: NPY002
            same = all(np.array_equal(one, other) for one, other in zip(before[0], after[0], strict=True))
            assert same and before[1] == after[1], f"{corruption.name} draws from global random numbers: use the stream."
    finally:
        np.random.set_state(found[0])  # noqa: NPY002
        random.setstate(found[1])
    assert all(np.array_equal(one, other) for one, other in zip(*outs, strict=True)), (
        f"what {corruption.name} gives depends on global random numbers: use the stream."
    )


CHECKS: tuple[Callable[[Graded], None], ...] = (
    check_five_amounts,
    check_bytes_in_bytes_out,
    check_pictures_are_left_alone,
    check_same_stream_same_bytes,
    check_layout_does_not_matter,
    check_distance_grows,
    check_survives_odd_pictures,
    check_leaves_global_random_numbers_alone,
)
