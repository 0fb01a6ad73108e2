"""What backbones add to each other, from records: the pool, its pairs and its members, by task, condition and class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensemble_bench import diversity, leaderboard, shapley, shift
from ensemble_bench.diversity import MEASURES, RESCUES, Joint
from ensemble_bench.errors import BadOption, BadRecord, Lacking
from ensemble_bench.leaderboard import Found, Row
from ensemble_bench.records import Results
from ensemble_bench.registry import near
from ensemble_bench.request import read
from ensemble_bench.shift import Line
from ensemble_bench.statistics import FEWEST_TASKS, Floats, Resamples, intervals, ratio, spearman, t_interval
from ensemble_bench.task import Catalogue

if TYPE_CHECKING:
    from ensemble_bench.cka import Alike
    from ensemble_bench.cube import Cube
    from ensemble_bench.stored import Stored

SINGLE = "single:"
CORRELATED = ("complementarity", "oracle_gap", *MEASURES)
UNDEFINED = dict.fromkeys(("complementarity", "rescued", "rescued_independent"), "the best single backbone makes no errors")
UNDEFINED |= {"rescue": "the first makes no errors"}
CHUNK = 4096
CONFIG = "config.toml"
LOG_AVG = ("shapley_log_avg", "leave_one_out_log_avg")

Sums = dict[str, Floats]
"""Numbers that may be averaged over tasks and conditions, [1 + resamples, ...], what was seen first."""


def rows(
    results: Sequence[Results],
    *,
    tasks: Sequence[str] = (),
    condition: str | None = None,
    per_class: bool = False,
    stored: Stored | None = None,
) -> list[Row]:
    """One row per number, in a stated order: ``subject`` is pool, pair, backbone, curve or correlation, ``measure`` the number.

    Rows have ``task`` (also ``mean(COLLECTION)``), ``condition`` (also means over a suite), ``class`` (only with ``per_class``:
    rows of the images of one class), and as far as they apply ``backbone``, ``other``, ``k`` (place on a curve), ``strategy``.
    ``value`` is null where it is not defined or not known, with ``status`` and ``reason``; intervals are those of the board,
    from the same resamples. ``tasks`` (empty: all, and the means over them) and ``condition`` choose. ``stored`` is where
    features are read for CKA and what backbones are worth to log-avg; without it these are missing.
    """
    pool = _Pool(results, stored)
    known = [*pool.means, *pool.tasks]
    for name in tasks:
        if name not in known:
            raise BadOption(f"there is nothing of the task {name!r} in these results.{near(name, known)}")
    if condition is not None and condition not in pool.places:
        there = near(condition, pool.places) or f" There are: {', '.join(pool.places)}."
        raise BadOption(f"there is nothing under the condition {condition!r} in these results.{there}")
    where = list(pool.places) if condition is None else [condition]
    return _Rows(pool, where, [*tasks] or known, _class_names(results) if per_class else None).all()


def _class_names(results: Sequence[Results]) -> dict[str, tuple[str, ...]]:
    """Names of the classes by task, where the card that was run is at hand."""
    folders: list[Path] = []
    for one in results:
        if (one.folder / CONFIG).is_file():
            folders += [path for path in read(one.folder / CONFIG).get("cards", ()) if path.is_dir()]
    catalogue = Catalogue(tuple(dict.fromkeys(folders)))
    versions = {record.task: record.task_version for one in results for record in one.records}
    cards = {name: catalogue.task(name) for name in versions if name in catalogue.paths}
    return {name: card.classes for name, card in cards.items() if card.version == versions[name]}


@dataclass(frozen=True, eq=False)
class Answered:
    """What all single backbones answered to the images of one task under one condition: decisions int [b, s]."""

    decisions: NDArray[Any]
    labels: NDArray[Any]
    ids: tuple[str, ...]


class _Pool:
    """The answers of the single backbones in some results folders, and what the store holds of their features."""

    def __init__(self, results: Sequence[Results], stored: Stored | None) -> None:
        self.found: Found = leaderboard.gathered(results)
        conditions = {condition for _, _, condition in self.found}
        self.places = shift.places(conditions)
        self.usual = shift.usual(conditions)
        self.pairing = leaderboard.pairing(self.found, shift.suites(conditions))
        records = [record for _, (_, records) in self.found.items() for record in records]
        self.backbones = tuple(sorted(records[0].pool)) if records else ()
        self.tasks = sorted({task for _, task, _ in self.found})
        self.means = leaderboard.collections(self.tasks, records)
        self.limit = records[0].limit if records else None
        self.images = {record.task: record.n for record in records if record.status == "done"}
        self._stored = stored
        self._features: dict[tuple[str, str], Features | str] = {}

    def answered(self, task: str, condition: str) -> Answered | tuple[str, str]:
        """The answers, or status and reason where there are none."""
        if len(self.backbones) < 2:
            return "not-applicable", "a pool of one backbone has nobody to rescue it"
        said = []
        absent = []
        for name in self.backbones:
            folder, records = self.found.get(((SINGLE + name, 0), task, condition), (None, []))
            if folder is None:
                absent.append(SINGLE + name)
            elif records[0].status != "done":
                return records[0].status, records[0].reason or "no reason was recorded"
            else:
                said.append(folder.predictions(records[0].cell).by_id())
        if absent:
            return "missing", f"needs {', '.join(absent)} in the same results"
        first = said[0]
        for name, one in zip(self.backbones, said, strict=True):
            if not np.array_equal(one.ids, first.ids) or not np.array_equal(one.labels, first.labels):
                raise BadRecord(f"the stored predictions of {name} on {task} are of other images than the others'.")
        return Answered(np.stack([one.decisions[0] for one in said]), first.labels, tuple(first.ids.tolist()))

    def resamples(self, task: str, condition: str, images: int, more: str = "") -> Resamples:
        return Resamples(images, f"{task}\n{self.pairing(task, condition)}{more}")

    def looked_up(self, task: str, condition: str, answered: Answered) -> Features | str:
        """What the stored features say, read once, or why they say nothing."""
        if self._stored is None:
            return "features were not asked for"
        place = task, condition
        if place not in self._features:
            try:
                cube = self._stored.cube(task, condition, answered.ids, answered.labels.tolist())
                self._features[place] = _read(cube)
            except Lacking as error:
                self._features[place] = f"not at hand: {str(error).rstrip('.')}"
        return self._features[place]


@dataclass(frozen=True, eq=False)
class Features:
    """What is kept of features: how alike they are; whose log-average is right (bits along subsets; None for large pools)."""

    alike: Alike | None
    packed: NDArray[np.uint8] | None
    classes: int

    def right(self, backbones: int) -> NDArray[np.bool_]:
        """Whether the log-average of each subset is right, bool [2^b, s]."""
        assert self.packed is not None
        return np.unpackbits(self.packed, axis=0, count=1 << backbones).astype(bool)


def _read(cube: Cube) -> Features:
    from ensemble_bench.cka import FEWEST, LinearCKA
    from ensemble_bench.metrics import log_posteriors

    b = len(cube.backbones)
    sums, table = LinearCKA(b), []
    for part in cube.chunks(CHUNK):
        sums.add(part.features)
        if b <= shapley.ENUMERATED:
            table.append(shapley.log_average_right(log_posteriors(part).numpy(), part.labels.numpy()))
    packed = np.packbits(np.concatenate(table, axis=1), axis=0) if table else None
    return Features(sums.alike() if len(cube) >= FEWEST else None, packed, len(cube.classes))


def _columns(joint: Joint, classes: int) -> Sums:
    """All that is averaged over tasks and conditions, but what depends on an order of backbones."""
    errors, rescued, independent = diversity.rescues(joint.accuracy, joint.oracle(), joint.best)
    found = {
        "errors": errors,
        "rescued": rescued,
        "rescued_independent": independent,
        "oracle": joint.oracle(),
        "oracle_independent": joint.independent(),
        "oracle_guessing": np.full_like(errors, diversity.guessing(joint.backbones, classes)),
        "acc1": joint.accuracy,
        "unique_correct": joint.unique,
        "shapley_oracle": joint.shapley,
    }
    for measure in (*MEASURES.values(), *RESCUES.values()):
        found[f"{measure.name} above"], found[f"{measure.name} below"] = measure.parts(joint.cells)
    return found


def _curve(joint: Joint, order: Sequence[int]) -> Floats:
    """The oracle of the first k backbones of an order, [..., b]."""
    return np.stack([joint.oracle(subset) for subset in shapley.prefixes(order)], axis=-1)


def _worths(features: Features, backbones: int, order: Sequence[int], resamples: Resamples) -> Sums:
    """What each backbone is worth to the log-average, and the curve of an order; a pool of none guesses."""
    right = features.right(backbones)
    parts: dict[str, list[Floats]] = {name: [] for name in LOG_AVG}
    for start in range(0, right.shape[1], CHUNK):
        worths = right[:, start : start + CHUNK].astype(np.float64)
        worths[0] = 1 / features.classes
        parts["shapley_log_avg"].append(shapley.shapley(worths))
        parts["leave_one_out_log_avg"].append(shapley.leave_one_out(worths))
    values = {name: np.concatenate(part, axis=1) for name, part in parts.items()}
    values["curve_log_avg"] = right[shapley.prefixes(order)].astype(np.float64)
    return {name: np.vstack([value.mean(1), resamples.means([row[None] for row in value])]) for name, value in values.items()}


@dataclass
class _Total:
    """Sums over the tasks and conditions of one row's place, and why the row, or what features say in it, is not there."""

    members: int = 0
    sums: Sums = field(default_factory=dict)
    features: Sums = field(default_factory=dict)
    alike: dict[str, list[Alike]] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)
    lacks: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, columns: Sums) -> None:
        _add(self.sums, columns)
        self.members += 1

    def mean(self, sums: Sums) -> Sums:
        return {name: value / self.members for name, value in sums.items()}


def _add(total: Sums, more: Sums) -> None:
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value


class _Rows:
    """The rows of some targets (tasks and means over tasks) in some places (conditions and means over conditions)."""

    def __init__(
        self,
        pool: _Pool,
        places: Sequence[str],
        targets: Sequence[str],
        classes: Mapping[str, Sequence[str]] | None,
    ) -> None:
        self.pool, self.places, self.classes = pool, places, classes
        self.targets = {name: pool.means.get(name, (name,)) for name in targets}
        self.tasks = sorted({task for members in self.targets.values() for task in members})
        there = {condition for place in places for condition in pool.places[place]}
        self.conditions = [name for name, members in pool.places.items() if members == (name,) and name in there]
        self.joints: dict[tuple[str, str], Joint] = {}
        self.rights: dict[tuple[str, str], Floats] = {}
        self.totals = {(target, place): _Total() for target in self.targets for place in places}
        self.orders: dict[tuple[str, str, str], list[int]] = {}

    def all(self) -> list[Row]:
        """Every row, by place, then target, then subject."""
        for task in self.tasks:
            for condition in self.conditions:
                self._look(task, condition)
        for task in self.tasks:
            for condition in self.conditions:
                if (task, condition) in self.joints:
                    self._count(task, condition)
        made: list[Row] = []
        for place in self.places:
            for target in self.targets:
                made += self._emitted(target, place, self.totals[target, place])
            if self.classes is not None:
                for task in self.targets:
                    made += self._by_class(task, place) if task in self.pool.tasks else []
            made += self._correlations(place, made)
        return made

    def _homes(self, task: str, condition: str) -> list[tuple[str, str]]:
        """Targets and places to which a task and a condition belong."""
        places = [place for place in self.places if condition in self.pool.places[place]]
        return [(target, place) for place in places for target, members in self.targets.items() if task in members]

    def _look(self, task: str, condition: str) -> None:
        """Count once without resamples, from which orders of backbones follow; note what is not there."""
        answered = self.pool.answered(task, condition)
        name = ", ".join([task, *([condition] if len(self.conditions) > 1 else [])])
        if not isinstance(answered, Answered):
            for home in self._homes(task, condition):
                self.totals[home].lacks[name] = answered
            return
        self.joints[task, condition] = Joint.of(answered.decisions, answered.labels)
        features = self.pool.looked_up(task, condition, answered)
        if isinstance(features, str):
            for home in self._homes(task, condition):
                self.totals[home].without[name] = features
        elif features.packed is not None:
            self.rights[task, condition] = features.right(len(self.pool.backbones)).mean(1)

    def _count(self, task: str, condition: str) -> None:
        """Count with resamples, for every row that this task and condition have a part in."""
        answered = self.pool.answered(task, condition)
        assert isinstance(answered, Answered)
        resamples = self.pool.resamples(task, condition, len(answered.labels))
        joint = Joint.of(answered.decisions, answered.labels, resamples)
        columns = _columns(joint, len(np.unique(answered.labels)))
        features = self.pool.looked_up(task, condition, answered)
        for target, place in self._homes(task, condition):
            total = self.totals[target, place]
            if total.lacks:
                continue
            total.add({**columns, "curve_oracle": _curve(joint, self._order("oracle", target, place))})
            if isinstance(features, Features) and not total.without:
                if features.alike is not None:
                    total.alike.setdefault(task, []).append(features.alike)
                if features.packed is not None:
                    order = self._order("log_avg", target, place)
                    _add(total.features, _worths(features, len(self.pool.backbones), order, resamples))

    def _order(self, what: str, target: str, place: str) -> list[int]:
        """Backbones in the order in which each adds most, over all tasks and conditions of a row."""
        key = what, target, place
        if key not in self.orders:
            members = [(task, one) for task in self.targets[target] for one in self.pool.places[place]]

            def worth(subset: int) -> float:
                if what == "oracle":
                    return fmean(float(self.joints[one].oracle(subset)) for one in members)
                return fmean(float(self.rights[one][subset]) for one in members)

            self.orders[key] = shapley.greedy(worth, len(self.pool.backbones))
        return self.orders[key]

    def _size(self, target: str, place: str) -> int:
        return len(self.targets[target]) * len(self.pool.places[place])

    # Rows -------------------------------------------------------------------------------------------------------------

    def _about(self, target: str, place: str, subject: str, **more: Any) -> Row:
        images = sum(self.pool.images.get(task, 0) for task in self.pool.means.get(target, (target,)))
        row: Row = {"task": target, "condition": place, "class": None, "subject": subject, "measure": ""}
        row |= dict.fromkeys(("backbone", "other", "k", "strategy", "shots"))
        row |= {"n": images, "value": None, "ci_low": None, "ci_high": None, "limit": self.pool.limit}
        return {**row, "status": "done", "reason": "", **more}

    def _emitted(self, target: str, place: str, total: _Total) -> list[Row]:
        """Every row of one target and place."""
        about = partial(self._about, target, place)
        if total.lacks:
            statuses = {status for status, _ in total.lacks.values()}
            status = next(one for one in ("missing", "failed", "not-applicable") if one in statuses)
            reason = _reasons(total.lacks, self._size(target, place))
            return [about("pool", measure="complementarity", status=status, reason=reason)]
        sums = total.mean(total.sums)
        made = self._counted(about, sums)
        made += self._curves(about, "oracle", sums["curve_oracle"], self._order("oracle", target, place))
        if total.without:
            reason = _reasons({name: ("missing", why) for name, why in total.without.items()}, self._size(target, place))
            return made + [about("pool", measure=name, status="missing", reason=reason) for name in ("cka", *LOG_AVG)]
        made += self._cka(about, total.alike, total.members)
        if not total.features:
            reason = f"more than {shapley.ENUMERATED} backbones have too many subsets"
            return made + [about("pool", measure=name, status="not-applicable", reason=reason) for name in LOG_AVG]
        worths = total.mean(total.features)
        for name in LOG_AVG:
            made += self._members(about, name, worths[name])
        return made + self._curves(about, "log_avg", worths["curve_log_avg"], self._order("log_avg", target, place))

    def _counted(self, about: Callable[..., Row], sums: Sums) -> list[Row]:
        """Rows of the pool, of its pairs and of its members, from who was right together."""
        errors = sums["errors"]
        shares = [ratio(sums[name], errors) for name in ("rescued", "rescued_independent")]
        pairs = {
            name: ratio(sums[f"{name} above"], sums[f"{name} below"]) for name in (*MEASURES, *RESCUES)
        }  # [1 + resamples, pairs]
        pool = {
            "complementarity": diversity.complementarity(*shares),
            "rescued": shares[0],
            "rescued_independent": shares[1],
            "best_single": 1 - errors,
            "oracle": sums["oracle"],
            "oracle_gap": sums["oracle"] - (1 - errors),
            "oracle_independent": sums["oracle_independent"],
            "oracle_guessing": sums["oracle_guessing"],
            **{name: pairs[name].mean(-1) for name in MEASURES},
        }
        made = _valued([about("pool", measure=name) for name in pool], np.stack(list(pool.values()), axis=1))
        names = self.pool.backbones
        for name in MEASURES:
            some = [about("pair", measure=name, backbone=names[i], other=names[j]) for i, j in diversity.pairs(len(names))]
            made += _valued(some, pairs[name])
        for name, way in (("rescue", 1), ("rescued", -1)):
            places = [pair[::way] for pair in diversity.pairs(len(names))]
            some = [about("pair", measure="rescue", backbone=names[i], other=names[j]) for i, j in places]
            made += _valued(some, pairs[name])
        for name in ("acc1", "unique_correct", "shapley_oracle"):
            made += self._members(about, name, sums[name])
        return made + self._members(about, "leave_one_out_oracle", sums["unique_correct"])

    def _members(self, about: Callable[..., Row], measure: str, columns: Floats) -> list[Row]:
        return _valued([about("backbone", measure=measure, backbone=name) for name in self.pool.backbones], columns)

    def _curves(self, about: Callable[..., Row], measure: str, columns: Floats, order: Sequence[int]) -> list[Row]:
        names = self.pool.backbones
        some = [about("curve", measure=measure, k=k, backbone=names[member]) for k, member in enumerate(order, 1)]
        return _valued(some, columns)

    def _cka(self, about: Callable[..., Row], alike: Mapping[str, Sequence[Alike]], members: int) -> list[Row]:
        """Mean CKA over conditions, then tasks: errors of tasks are independent, those of conditions are taken as if equal."""
        if not alike or sum(map(len, alike.values())) < members:
            return [about("pool", measure="cka", status="not-applicable", reason="too few images")]
        value = np.mean([np.mean([one.debiased for one in own], axis=0) for own in alike.values()], axis=0)
        errors = [np.mean([one.error for one in own], axis=0) for own in alike.values()]
        freedom = sum(min(one.batches for one in own) - 1 for own in alike.values())
        low, high = t_interval(value, np.sqrt(np.sum(np.square(errors), axis=0)) / len(alike), freedom)
        names = self.pool.backbones
        made = []
        for i, j in diversity.pairs(len(names)):
            known = bool(np.isfinite(value[i, j]))
            row = about("pair", measure="cka", backbone=names[i], other=names[j])
            row |= {"value": float(value[i, j])} if known else {"status": "not-applicable", "reason": "features do not vary"}
            if known and np.isfinite(low[i, j]):
                row |= {"ci_low": round(float(low[i, j]), 6), "ci_high": round(float(high[i, j]), 6)}
            made.append(row)
        values = [row["value"] for row in made]
        whole = about("pool", measure="cka")
        if None in values:
            whole |= {"status": "not-applicable", "reason": "not defined for every pair"}
        else:
            whole["value"] = fmean(values)
        return [whole, *made]

    def _by_class(self, task: str, place: str) -> list[Row]:
        """The rows of one task's classes, each from the images of that class alone."""
        members = self.pool.places[place]
        answers = {one: self.pool.answered(task, one) for one in members}
        there = {one: said for one, said in answers.items() if isinstance(said, Answered)}
        if len(there) < len(members):
            return []  # the rows of the whole task say why
        labels = sorted({int(label) for said in there.values() for label in np.unique(said.labels)})
        names = (self.classes or {}).get(task, ())
        made = []
        for label in labels:
            total = _Total()
            images: set[str] = set()
            for condition, said in there.items():
                own = said.labels == label
                if not own.any():
                    continue
                images |= {name for name, mine in zip(said.ids, own.tolist(), strict=True) if mine}
                resamples = self.pool.resamples(task, condition, int(own.sum()), f"\nclass {label}")
                joint = Joint.of(said.decisions[:, own], said.labels[own], resamples)
                total.add(_columns(joint, len(labels)))
            name = names[label] if label < len(names) else str(label)
            about = partial(self._about, task, place, **{"class": name}, n=len(images))
            made += self._counted(about, total.mean(total.sums))
        return made

    def _correlations(self, place: str, rows: Sequence[Row]) -> list[Row]:
        """Over tasks: rank correlation of each measure of diversity with each line's gain over the best single backbone."""
        tasks = [name for name in self.targets if name in self.pool.tasks]
        name = next((mean for mean, members in self.pool.means.items() if list(members) == tasks), None)
        if name is None:
            return []
        pool = {
            (row["task"], row["measure"]): row["value"]
            for row in rows
            if row["subject"] == "pool" and row["condition"] == place and row["class"] is None
        }
        made = []
        for line in sorted({line for line, _, _ in self.pool.found}):
            family = next(records[0].family for (one, _, _), (_, records) in self.pool.found.items() if one == line)
            if family == "oracle" or line[0].startswith(SINGLE):
                continue
            gains = [self._gain(line, task, place, pool.get((task, "best_single"))) for task in tasks]
            for measure in CORRELATED:
                row = self._about(name, place, "correlation", measure=measure, strategy=line[0], shots=line[1], n=len(tasks))
                made.append({**row, **_correlated([pool.get((task, measure)) for task in tasks], gains)})
        return made

    def _gain(self, line: Line, task: str, place: str, best: float | None) -> float | None:
        """Mean accuracy of a line over the conditions of a place, less that of the best single backbone."""
        values = []
        for condition in self.pool.places[place]:
            _, records = self.pool.found.get((line, task, condition), (None, []))
            values += [record.metrics.get("acc1", {}).get("value") for record in records] or [None]
        known = [value for value in values if value is not None]
        return None if best is None or len(known) < len(values) else fmean(known) - best


def _correlated(measure: Sequence[float | None], gains: Sequence[float | None]) -> Row:
    """Value, interval, status and reason of one correlation."""
    if None in measure or None in gains:
        what = "measure" if None in measure else "gain"
        return {"status": "missing", "reason": f"the {what} is not known on every task"}
    found = spearman([one for one in measure if one is not None], [one for one in gains if one is not None])
    if found is None:
        few = len(gains) < FEWEST_TASKS
        return {"status": "not-applicable", "reason": f"fewer than {FEWEST_TASKS} tasks" if few else "nothing varies"}
    return {"value": found[0], "ci_low": round(found[1], 6), "ci_high": round(found[2], 6)}


def _valued(rows: list[Row], columns: Floats) -> list[Row]:
    """The rows with values and intervals from columns [1 + resamples, rows], what was seen first."""
    for row, value, bounds in zip(rows, columns[0], intervals(columns[1:]), strict=True):
        if np.isnan(value):
            row |= {"status": "not-applicable", "reason": UNDEFINED.get(row["measure"], "a backbone is always right or wrong")}
            continue
        row["value"] = float(value)
        if bounds is not None:
            row |= {"ci_low": round(bounds[0], 6), "ci_high": round(bounds[1], 6)}
    return rows


def _reasons(lacks: Mapping[str, tuple[str, str]], members: int) -> str:
    """What lacks, grouped by why; without names where it is everything, for one reason."""
    by: dict[str, list[str]] = {}
    for name, (_, reason) in lacks.items():
        by.setdefault(reason, []).append(name)
    said = []
    for reason, names in by.items():
        some = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}"
        said.append(reason if len(names) == members else f"{some}: {reason}")
    return "; ".join(said)
