"""The same from Python: ``import ensemble_bench as eb``; every function returns something pandas can show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench.errors import BadOption
from ensemble_bench.registry import near
from ensemble_bench.request import NAMES, Request

if TYPE_CHECKING:
    import pandas as pd

    from ensemble_bench.cube import Cube
    from ensemble_bench.strategies.base import Strategy


def _request(**options: Any) -> Request:
    """A request from keyword arguments; one name may stand for a list of one."""
    for name in options:
        if name not in NAMES:
            raise BadOption(f"run has no option {name!r}.{near(name, NAMES)}")
    defaults = Request()
    values: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(getattr(defaults, name), tuple):
            value = (value,) if isinstance(value, (str, Path)) else tuple(value)
            if name in ("cards", "plugins"):
                value = tuple(Path(item) for item in value)
        elif name == "output" and value is not None:
            value = Path(value)
        values[name] = value
    return Request(**values)


def run(**options: Any) -> pd.DataFrame:
    """The board of a run, one row per (strategy, task, metric, condition, shots); columns as in ``board --format json``.

    Options are those of the command line by their long names: ``run(tasks="mini/digits", strategies=["nlc", "oracle"])``.
    The results folder stands in ``.attrs["output"]``, the sentences of failed cells in ``.attrs["failures"]``.
    """
    import pandas as pd

    from ensemble_bench import leaderboard, runner
    from ensemble_bench.progress import watched

    outcome = runner.run(_request(**options), watched())
    table = pd.DataFrame(leaderboard.rows([outcome.results]))
    table.attrs.update(output=str(outcome.results.folder), failures=list(outcome.failures))
    return table


def load_cube(task: str, pool: str = "mini", *, split: str = "test", draw: int = 0, **options: Any) -> Cube:
    """The labelled cube of one task: of its test images, or with ``split="train"`` the support of one draw.

    ``options`` are those of ``run`` that say what is shown: shots, seed, limit, device, precision, cards.
    """
    from ensemble_bench import runner

    return runner.cube(_request(tasks=task, backbones=pool, **options), split=split, draw=draw)


def evaluate(strategy: str | Strategy, cube: Cube, support: Cube | None = None) -> pd.Series[Any]:
    """Every metric of one strategy on a labelled cube, by name; a strategy that learns is fitted on ``support`` first."""
    import pandas as pd

    from ensemble_bench import runner

    values, name = runner.measure(strategy, cube, support)
    return pd.Series(values, name=name, dtype=float)
