"""KNORA-E, KNORA-U and OLA against DESlib, which needs an older scikit-learn: ``tox -e des-oracle``."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble_bench.cube import Cube
from ensemble_bench.metrics import decide
from ensemble_bench.strategies.build import named
from ensemble_bench.strategies.heads import unit
from ensemble_bench.testing.toy import toy

deslib = pytest.importorskip("deslib", reason="DESlib is not here: run tox -e des-oracle")

from deslib.dcs.ola import OLA  # noqa: E402 - it may be absent
from deslib.des.knora_e import KNORAE  # noqa: E402 - it may be absent
from deslib.des.knora_u import KNORAU  # noqa: E402 - it may be absent

THEIRS = {"knora-e": KNORAE, "knora-u": KNORAU, "ola": OLA}


class Told:
    """A classifier that knows its answer to every row by heart."""

    def __init__(self, cubes: tuple[Cube, ...], backbone: int, classes: int) -> None:
        self.classes_ = np.arange(classes)
        self.answers = {
            row.tobytes(): int(one) for cube in cubes for row, one in zip(flat(cube), cube.decisions[backbone], strict=True)
        }

    def fit(self, x: NDArray[Any], y: NDArray[Any]) -> Told:
        return self  # scikit-learn asks for the method and never calls it

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.array([self.answers[row.tobytes()] for row in x])


def flat(cube: Cube) -> NDArray[Any]:
    return np.asarray(unit(cube).double())


def told(samples: int, seed: int, noise: float, backbones: int = 4) -> Cube:
    """The toy's features with decisions only, some of which are replaced at random, so that backbones disagree often."""
    cube = toy(samples, seed, backbones=backbones)
    draw = torch.Generator().manual_seed(seed)
    guess = torch.randint(0, 6, cube.decisions.shape, generator=draw)
    blurred = torch.rand(cube.decisions.shape, generator=draw) < noise
    return Cube(
        backbones=cube.backbones,
        classes=cube.classes,
        ids=cube.ids,
        decisions=torch.where(blurred, guess, cube.decisions),
        features=cube.features,
        labels=cube.labels,
    )


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize(("samples", "k", "noise"), [(60, 7, 0.3), (60, 2, 0.5), (24, 3, 0.6), (12, 7, 0.8), (9, 8, 0.9)])
def test_the_same_answers(name: str, samples: int, k: int, noise: float) -> None:
    """Equal votes go to the lower class in DESlib, and here on a cube of bare decisions."""
    support, query = told(samples, 1, noise), told(300, 2, noise)
    pool = [Told((support, query), b, 6) for b in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scikit-learn 1.6 announces what 1.7 takes away from DESlib
        theirs = THEIRS[name](pool, k=k, n_jobs=1).fit(flat(support), support.labels.numpy())
    ours = named(f"{name}:k={k}").fit(support)
    near = ours.right_near(query)  # type: ignore[attr-defined]
    _, region = theirs.get_competence_region(flat(query))
    assert np.array_equal(near.numpy(), theirs.DSEL_processed_[region])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # knora-u divides by a sum of no votes
        wanted = theirs.predict(flat(query))
    found = decide(ours.predict(query), query).numpy()
    differ = (query.decisions != query.decisions[0]).any(0).numpy()
    assert differ.sum() > 100
    hopeless = (~near.any(2).any(1)).numpy() & differ
    if name == "knora-u":  # there DESlib answers the first class, and we let everyone vote once, as it does for knora-e
        assert (wanted[hopeless] == 0).all()
        wanted, found = wanted[~hopeless], found[~hopeless]
    assert np.array_equal(found, wanted)


def test_some_cases_are_hopeless() -> None:
    """The comparison above meets samples near which no backbone is right."""
    support, query = told(60, 2, 0.5), told(300, 2, 0.5)
    near = named("knora-e:k=1").fit(support).right_near(query)  # type: ignore[attr-defined]
    assert int((~near.any(2).any(1)).sum()) > 10


class Drawn:
    """A classifier whose answer stands in a column of the row itself."""

    def __init__(self, column: int, classes: int) -> None:
        self.classes_ = np.arange(classes)
        self.column = column

    def fit(self, x: NDArray[Any], y: NDArray[Any]) -> Drawn:
        return self

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.rint(x[:, self.column] * 1e9).astype(np.int64)


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_ours_is_not_slower(name: str) -> None:
    """10,000 samples, 2,000 of support, ten backbones of width 64, 1,000 classes: the best of three, in this process's time."""
    draw = torch.Generator().manual_seed(0)

    def cube(ids: str, samples: int, labels: torch.Tensor | None) -> Cube:
        return Cube(
            backbones=[f"b{number}" for number in range(10)],
            classes=[str(number) for number in range(1000)],
            ids=[f"{ids}{number:05d}" for number in range(samples)],
            decisions=torch.randint(0, 1000, (10, samples), generator=draw),
            features=[torch.randn(samples, 64, generator=draw) for _ in range(10)],
            labels=labels,
        )

    def rows(one: Cube) -> NDArray[Any]:
        """Features, then the decisions, too small to move a neighbour."""
        return np.concatenate([flat(one), one.decisions.T.numpy() * 1e-9], axis=1)

    def best(task: Any) -> float:
        took = []
        for _ in range(3):
            start = time.process_time()
            task()
            took.append(time.process_time() - start)
        return min(took)

    support, query = cube("s", 2000, torch.arange(2000) % 1000), cube("q", 10_000, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = THEIRS[name]([Drawn(640 + b, 1000) for b in range(10)], k=7, n_jobs=1).fit(
            rows(support), support.labels.numpy()
        )
        asked = rows(query)
        peer = best(lambda: theirs.predict(asked))
    ours = named(name).fit(support)
    own = best(lambda: decide(ours.predict(query), query))
    print(f"\n{name}: {own:.2f} s, DESlib {peer:.2f} s")  # with -s
    assert own < 1.1 * peer
