"""Cubes of a finished run, from the store, where everything of them is still there; nothing is encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ensemble_bench import fewshot, prompts
from ensemble_bench.condition import Condition
from ensemble_bench.embed import Embedder, View
from ensemble_bench.errors import BadStore, BenchError, Lacking
from ensemble_bench.plan import Plan, completed, planned
from ensemble_bench.records import Record, Results
from ensemble_bench.request import Request, read
from ensemble_bench.sources.base import checked
from ensemble_bench.store import Store
from ensemble_bench.task import Task

if TYPE_CHECKING:
    from ensemble_bench.cube import Cube

CONFIG = "config.toml"


class Stored:
    """What the store still holds of the runs in some results folders.

    ``cube`` gives labelled samples, or raises ``Lacking`` with what is not at hand.
    """

    def __init__(self, results: Sequence[Results]) -> None:
        self.results = results
        self._plans: dict[int, tuple[Plan, Embedder] | str] = {}

    @cached_property
    def _records(self) -> dict[tuple[str, str], tuple[int, Record]]:
        """Folder and one record of every task and condition."""
        return {
            (record.task, record.condition): (place, record)
            for place, one in enumerate(self.results)
            for record in one.records
            if record.status == "done"
        }

    def cube(self, task: str, condition: str, ids: Sequence[str], labels: Sequence[int]) -> Cube:
        """The cube of these samples, whose labels are those of the records."""
        place, record = self._records[task, condition]
        plan, embedder = self._plan(place, record)
        card = next((one for one in plan.tasks if one.name == task), None)
        shown = next((one for one in plan.conditions if str(one) == condition), None)
        if card is None or card.version != record.task_version:
            raise Lacking(f"{task} is not the task that was run")
        if shown is None:
            raise Lacking(f"the condition {condition} is not in {CONFIG}")
        try:
            return _cube(plan, embedder, card, shown, dict(zip(ids, labels, strict=True)))
        except BadStore:
            raise
        except BenchError as error:
            raise Lacking(str(error)) from None

    def _plan(self, place: int, record: Record) -> tuple[Plan, Embedder]:
        if place not in self._plans:
            self._plans[place] = self._made(self.results[place], record)
        found = self._plans[place]
        if isinstance(found, str):
            raise Lacking(found)
        return found

    def _made(self, results: Results, record: Record) -> tuple[Plan, Embedder] | str:
        path = results.folder / CONFIG
        if not path.is_file():
            return f"{results.folder} has no {CONFIG}"
        try:
            values = {name: value for name, value in read(path).items() if name not in ("strategies", "plugins")}
            plan = planned(Request(**values, strategies=("oracle",)))
            weights = {backbone.id: backbone.weights() for backbone in plan.backbones}
            if weights != record.provenance.get("weights"):
                return "the weights of the pool are no longer those of the records"
            device = str(record.provenance.get("device") or "cpu")
            return plan, Embedder(plan.backbones, Store(), device, plan.request.precision)
        except BenchError as error:
            return str(error)


def _cube(plan: Plan, embedder: Embedder, task: Task, condition: Condition, labels: Mapping[str, int]) -> Cube:
    source = completed(task)
    task = source.task
    test = checked(source, "test")
    ids = [test.ids[place] for place in fewshot.limited(test.ids, plan.request.limit)]
    if set(ids) != set(labels):
        raise Lacking(f"the images of {task.name} are no longer those of the records")
    said = plan.said(source, "test", condition)
    absent = sum(embedder.missing(task, "test", ids, condition, said).values())
    said_heads = prompts.digest_of(tuple(task.classes), tuple(task.templates))
    heads = [one.id for one in plan.backbones if not embedder.store.has("heads", embedder.head_key(one, said_heads))]
    if absent or heads:
        raise Lacking("features are not in the store" if absent else "class embeddings are not in the store")
    view = View(condition, _never if condition.suite else None, said)
    cube = embedder.cube(task, source, "test", ids, labels=[labels[name] for name in ids], view=view)
    place = {name: row for row, name in enumerate(ids)}
    return cube.by_backbone().take([place[name] for name in labels])


def _never(name: str, picture: Any) -> Any:
    raise AssertionError(f"{name}: nothing is missing, so nothing is corrupted")
