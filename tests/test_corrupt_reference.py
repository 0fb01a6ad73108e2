"""The reference library runs on current versions, seeded and without a mark; our kernels give what it gives, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_bench.corrupt import registry, suite
from ensemble_bench.corrupt.reference import corrupted
from ensemble_bench.corrupt.stream import Stream
from ensemble_bench.errors import BadData, BadOption

Picture = NDArray[np.uint8]
AMOUNTS = suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts
SEVERITIES = (1, 2, 3, 4, 5)
SLOW = {"glass_blur"}  # half a second a picture of 224 x 224 in the reference


def photographs() -> dict[str, Picture]:
    """Whole photographs that scikit-learn and scikit-image carry."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    return {
        "china": load_sample_image("china.jpg"),
        "flower": load_sample_image("flower.jpg"),
        "astronaut": data.astronaut(),
        "coffee": data.coffee(),
        "chelsea": data.chelsea(),
    }


def parts(height: int, width: int, names: tuple[str, ...] = ("china", "flower", "astronaut")) -> list[Picture]:
    """The middle of some photographs, every second pixel where there are enough."""
    found = []
    for name in names:
        whole = photographs()[name]
        step = 2 if whole.shape[0] >= 2 * height and whole.shape[1] >= 2 * width else 1
        thin = whole[::step, ::step]
        top, left = (thin.shape[0] - height) // 2, (thin.shape[1] - width) // 2
        found.append(np.ascontiguousarray(thin[top : top + height, left : left + width]))
    return found


SIZES = {True: [*parts(48, 64), *parts(100, 150, ("coffee", "chelsea", "china"))], False: [*parts(224, 224), *parts(100, 150)]}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", sorted(AMOUNTS))
def test_identical(name: str, severity: int) -> None:
    kernel = registry.load(name)
    for seed, picture in enumerate(SIZES[name in SLOW]):
        theirs = corrupted(picture, name, severity, seed)
        ours = kernel(picture, AMOUNTS[name][severity - 1], Stream.identical(seed))
        assert ours.dtype == np.uint8
        assert np.array_equal(ours, theirs), f"picture {seed}: {(ours != theirs).mean():.2%} of the values differ"


def test_the_amounts_are_of_all_nineteen() -> None:
    assert len(AMOUNTS) == 19
    assert set(AMOUNTS) <= set(registry.table)


@pytest.mark.parametrize("name", sorted(AMOUNTS))
def test_the_reference_is_seeded(name: str) -> None:
    (picture,) = parts(40, 52, ("chelsea",))
    given = picture.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = corrupted(picture, name, 4, seed=5)
    assert first.dtype == np.uint8 and first.shape == picture.shape
    assert np.array_equal(first, corrupted(picture, name, 4, seed=5))
    still = {"defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "saturate"}
    assert np.array_equal(first, corrupted(picture, name, 4, seed=6)) == (name in still)
    assert not np.array_equal(first, picture)
    assert np.array_equal(picture, given)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_the_reference_draws_what_numpy_draws() -> None:
    (picture,) = parts(40, 52, ("coffee",))
    random = np.random.RandomState(3)
    expected = (np.clip(picture / 255.0 + random.normal(scale=0.18, size=picture.shape), 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(corrupted(picture, "gaussian_noise", 3, seed=3), expected)


def test_impulse_noise_of_the_reference_is_salt_and_pepper() -> None:
    grey = np.full((200, 200, 3), 100, dtype=np.uint8)
    out = corrupted(grey, "impulse_noise", 5, seed=0)
    assert set(np.unique(out)) <= {0, 100, 255}
    for value in (0, 255):  # 0.27 / 2, within five standard errors of 120 000 values
        assert abs((out == value).mean() - 0.135) < 5 * np.sqrt(0.135 * 0.865 / out.size)


def test_threads_do_not_meet() -> None:
    (picture,) = parts(40, 52, ("flower",))
    jobs = [(picture, name, 3, seed) for seed in range(8) for name in ("gaussian_noise", "snow", "elastic_transform", "frost")]
    alone = [corrupted(*job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: corrupted(*job), jobs))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_nothing_is_left_in_the_interpreter() -> None:
    code = """
import sys, numpy, skimage.util, skimage.filters, scipy.ndimage
watched = {(m, n): getattr(m, n, None) for m, n in ((numpy, "random"), (numpy, "float_"), (skimage, "util"),
           (skimage.util, "random_noise"), (skimage.filters, "gaussian"), (scipy.ndimage, "map_coordinates"))}
from ensemble_bench.corrupt.reference import corrupted
corrupted(numpy.zeros((32, 32, 3), dtype=numpy.uint8), "snow", 1, 0)
assert all(getattr(m, n, None) is thing for (m, n), thing in watched.items())
names = ("imagecorruptions", "pkg_resources")
strange = [name for name in sys.modules if name.startswith(names)]
assert strange == [], strange
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_what_the_reference_cannot_take_is_said() -> None:
    small = np.zeros((31, 60, 3), dtype=np.uint8)
    with pytest.raises(BadData, match="at least 32 pixels a side, not 31 x 60"):
        corrupted(small, "fog", 1, 0)
    for wrong in (np.zeros((40, 40), dtype=np.uint8), np.zeros((40, 40, 4), dtype=np.uint8), np.zeros((40, 40, 3))):
        with pytest.raises(BadData, match="convert to RGB"):
            corrupted(wrong, "fog", 1, 0)
    for severity in (0, 6):
        with pytest.raises(BadOption, match="from 1 to 5"):
            corrupted(np.zeros((40, 40, 3), dtype=np.uint8), "fog", severity, 0)


def test_streams() -> None:
    one = Stream.native("a", "fog", 1)
    assert not one.identical and Stream.identical(0).identical
    words = one.raw(4)
    assert np.array_equal(Stream.native("a", "fog", 1).raw(4), words)
    others = [("b", "fog", 1, 0), ("a", "snow", 1, 0), ("a", "fog", 2, 0), ("a", "fog", 1, 1), ("a\0fog", "", 1, 0)]
    assert len({Stream.native(*other).raw(1).item() for other in others} | {words[0].item()}) == 6
    drawn = Stream.native("a", "fog", 1).uniform(-2, 3, (40, 50))
    assert drawn.shape == (40, 50) and drawn.min() >= -2 and drawn.max() < 3
    assert abs(drawn.mean() - 0.5) < 5 * 5 / np.sqrt(12 * 2000)
    whole = Stream.native("a", "fog", 1).integers(-3, 4, (7000,))
    counts = np.bincount(whole + 3, minlength=7)
    assert len(counts) == 7 and ((counts - 1000) ** 2 / 1000).sum() < 30  # chi square with 6 degrees of freedom
    legacy, stream = np.random.RandomState(9), Stream.identical(9)
    assert stream.uniform(-45, 45) == legacy.uniform(-45, 45)
    assert np.array_equal(stream.integers(-2, 2, (5, 2)), legacy.randint(-2, 2, size=(5, 2)))


def test_the_streams_of_today_are_those_of_tomorrow() -> None:
    """Raw words of numpy's SFC64 and whole hashes: fixed by their definition, on every platform."""
    assert Stream.native("digits-7", "fog", 3, 0).raw(2).tolist() == [10996605074634367651, 3824159637169977442]
