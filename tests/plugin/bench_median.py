from dataclasses import dataclass

from ensemble_bench.strategies.base import Strategy


@dataclass(eq=False)
class Median(Strategy):
    """Each class gets the median of its probabilities over the backbones."""

    family = "static"
    gives = "votes"

    def predict(self, query):
        return query.probabilities.median(0).values
