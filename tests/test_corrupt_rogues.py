"""Every corruption keeps every promise; deliberately wrong ones are each caught by the check of the promise they break."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_bench.corrupt import registry, suite
from ensemble_bench.corrupt.stream import Stream
from ensemble_bench.testing import corruptions as shipped
from ensemble_bench.testing.corruptions import Graded

Picture = NDArray[np.uint8]
AMOUNTS = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts
UNEVEN = {
    "glass_blur": "severity 3 moves points three times by up to two pixels, severity 4 twice by up to three",
    "frost": "from severity 3 to 4 only less of the picture stays, 0.65 of it after 0.7, with as much frost",
    "saturate": "severities 1 and 2 take colour away, 3 to 5 add some",
}
GRADED = {name: Graded(name, registry.load(name), amounts, UNEVEN.get(name, "")) for name, amounts in AMOUNTS.items()}


@pytest.mark.parametrize("check", shipped.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", sorted(GRADED))
def test_corruption(name: str, check: Callable[[Graded], None]) -> None:
    check(GRADED[name])


@pytest.mark.parametrize("name", sorted(UNEVEN))
def test_an_uneven_one_is_uneven(name: str) -> None:
    even = Graded(name, GRADED[name].kernel, AMOUNTS[name])
    with pytest.raises(AssertionError, match="does not grow"):
        shipped.check_distance_grows(even)


def honest(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    """Uniform noise of ``amount[0]`` grey levels either way, to go wrong from."""
    noise = draws.uniform(-amount[0], amount[0], picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def grey_only(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Any:
    return honest(picture, amount, draws)[..., 0]


def floating(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Any:
    return honest(picture, amount, draws).astype(np.float32)


def cut(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    return honest(picture, amount, draws)[:-1] if amount[0] > 40 else honest(picture, amount, draws)


def writing(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    out = honest(picture, amount, draws)
    if picture.flags.writeable:
        picture[0, 0] = 0
    return out


def handing_back(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    return picture[:]


def wanting_to_write(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    picture[:] = picture
    return honest(picture, amount, draws)


def counting(picture: Picture, amount: tuple[float, ...], draws: Stream, counter: itertools.count[int]) -> Picture:
    return honest(picture, amount, Stream.native(str(next(counter)), "counted", 1))


def by_address(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    strides = picture.strides[0] + 2 * picture.strides[1]
    return honest(picture, (amount[0] + strides % 7,), draws)


def shrinking(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    return honest(picture, (100.0 - amount[0],), draws)


def idle(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    return picture.copy()


def wanting_room(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    if min(picture.shape[:2]) < 3:
        raise ValueError("too small")
    return honest(picture, amount, draws)


def warning_on_black(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    return np.nan_to_num(honest(picture, amount, draws) * (picture.max() / picture.max())).astype(np.uint8)


def drawing_from_numpy(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    noise = np.random.uniform(-amount[0], amount[0], picture.shape)  # noqa: NPY002
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def drawing_from_python(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    return honest(picture, (amount[0] + random.random(),), draws)


def seeding_numpy(picture: Picture, amount: tuple[float, ...], draws: Stream) -> Picture:
    np.random.seed(0)  # noqa: NPY002
    return drawing_from_numpy(picture, amount, draws)


FIVE = ((10.0,), (20.0,), (30.0,), (50.0,), (70.0,))
ROGUES: dict[Callable[..., Any], str] = {
    grey_only: "check_bytes_in_bytes_out",
    floating: "check_bytes_in_bytes_out",
    cut: "check_bytes_in_bytes_out",
    writing: "check_pictures_are_left_alone",
    handing_back: "check_pictures_are_left_alone",
    wanting_to_write: "check_pictures_are_left_alone",
    by_address: "check_layout_does_not_matter",
    shrinking: "check_distance_grows",
    idle: "check_distance_grows",
    wanting_room: "check_survives_odd_pictures",
    warning_on_black: "check_survives_odd_pictures",
    drawing_from_numpy: "check_leaves_global_random_numbers_alone",
    drawing_from_python: "check_leaves_global_random_numbers_alone",
    seeding_numpy: "check_leaves_global_random_numbers_alone",
}


@pytest.mark.parametrize("rogue", ROGUES, ids=lambda rogue: rogue.__name__)
def test_a_rogue_is_caught(rogue: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="rogue"):
        getattr(shipped, ROGUES[rogue])(Graded("rogue", rogue, FIVE))


def test_one_that_counts_its_calls_is_caught() -> None:
    rogue = Graded("rogue", partial(counting, counter=itertools.count()), FIVE)
    with pytest.raises(AssertionError, match="other bytes for the same stream"):
        shipped.check_same_stream_same_bytes(rogue)


@pytest.mark.parametrize("amounts", [FIVE[:4], (*FIVE[:4], 70.0), (*FIVE[:4], ())], ids=["four", "bare", "empty"])
def test_wrong_amounts_are_caught(amounts: Any) -> None:
    with pytest.raises(AssertionError, match="amounts"):
        shipped.check_five_amounts(Graded("rogue", honest, amounts))


@pytest.mark.parametrize("check", shipped.CHECKS, ids=lambda check: check.__name__)
def test_the_honest_one_passes(check: Callable[[Graded], None]) -> None:
    check(Graded("honest", honest, FIVE))


def test_every_check_has_its_rogue() -> None:
    others = {"check_same_stream_same_bytes", "check_five_amounts"}  # caught above, each in its own test
    assert {*ROGUES.values(), *others} == {check.__name__ for check in shipped.CHECKS}
