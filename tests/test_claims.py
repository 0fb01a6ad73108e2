"""Each claim on results made so that it holds, does not hold, cannot be told, or cannot be tested; and on the reference run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ensemble_bench import claims, report
from ensemble_bench.claims import CLAIMS, FAILS, HOLDS, OPEN, UNTESTABLE, VERDICTS, Evidence
from ensemble_bench.cli import main
from ensemble_bench.errors import BadRecord
from ensemble_bench.records import Results

BASELINE = Path(__file__).resolve().parents[1] / "results" / "baseline"
Written = Callable[..., Results]
CLEAN = "clean"
A, B = "single:p/a", "single:p/b"
N = 100


def right(*counts: int, start: int = 0) -> list[list[int]]:
    """Decisions of N images, a row a draw: so many right, from place ``start`` on; all labels are 0."""
    return [[0 if start <= place < start + count else 1 for place in range(N)] for count in counts]


def folder(written: Written, name: str, cells: Mapping[Any, Any], **more: Any) -> Results:
    return written(name, cells, {task: [0] * N for task, *_ in cells}, **more)


def verdicts(*results: Results, **more: Any) -> dict[str, dict[str, Any]]:
    return {row["claim"]: row for row in claims.rows(results, **more)}


def test_no_backbone_is_best_everywhere(written: Written) -> None:
    """The other is better on y by 20 images, or by none, or by three."""
    for name, second, verdict, value in (("holds", 70, HOLDS, 0.1), ("fails", 40, FAILS, 0.0), ("open", 53, OPEN, 0.015)):
        cells = {
            ("x", CLEAN, A, 0): right(80),
            ("x", CLEAN, B, 0): right(60),
            ("y", CLEAN, A, 0): right(50),
            ("y", CLEAN, B, 0): right(second),
        }
        found = verdicts(folder(written, name, cells))["accuracy"]
        assert (found["verdict"], found["value"]) == (verdict, pytest.approx(value)), name
        assert found["ci_low"] <= found["value"] <= found["ci_high"] and "less p/a" in found["reason"]


def test_backbones_bend_differently(written: Written) -> None:
    """Both have 80 of 100 right on clean images; under fog 70 and 40, 70 and 70, 60 and 58."""
    for name, one, two, verdict in (("holds", 70, 40, HOLDS), ("fails", 70, 70, FAILS), ("open", 60, 58, OPEN)):
        cells = {("x", CLEAN, A, 0): right(80), ("x", CLEAN, B, 0): right(80)}
        cells |= {("x", "c:fog:1", A, 0): right(one), ("x", "c:fog:1", B, 0): right(two)}
        found = verdicts(folder(written, name, cells))["robustness"]
        assert (found["verdict"], found["value"]) == (verdict, pytest.approx((one - two) / 80)), name
    turned = {("x", CLEAN, A, 0): right(80), ("x", CLEAN, B, 0): right(80)}
    turned |= {("x", "c:fog:1", A, 0): right(40), ("x", "c:fog:1", B, 0): right(70)}
    found = verdicts(folder(written, "turned", turned))["robustness"]
    assert found["value"] == pytest.approx(30 / 80) and found["ci_low"] > 0 and "p/b less p/a" in found["reason"]


@pytest.mark.parametrize(("oracle", "verdict"), [(95, HOLDS), (60, FAILS), (82, OPEN)])
def test_an_oracle_gains_over_forty_points(written: Written, oracle: int, verdict: str) -> None:
    cells = {(task, CLEAN, "oracle-best-single", 0): right(40) for task in "xy"}
    cells |= {("x", CLEAN, "oracle", 0): right(oracle), ("y", CLEAN, "oracle", 0): right(45)}
    found = verdicts(folder(written, "out", cells))["oracle-gain"]
    assert (found["verdict"], found["value"]) == (verdict, pytest.approx((oracle - 40) / N))
    assert "on x; mean over tasks" in found["reason"] and found["published"] == "43.5 at most"


def adaptive(nlc: Sequence[int], best: int = 50, **more: int) -> dict[Any, Any]:
    """One task on which nlc has so many right in its draws; others by name."""
    cells: dict[Any, Any] = {("x", CLEAN, "nlc", 1): right(*nlc), ("x", CLEAN, "oracle-best-single", 0): right(best)}
    shots = {"super_learner": 1, "best_single": 1}
    return cells | {
        ("x", CLEAN, name.replace("_", "-"), shots.get(name, 0)): right(*[count] * (len(nlc) if name in shots else 1))
        for name, count in more.items()
    }


@pytest.mark.parametrize(
    ("nlc", "verdict", "largest"),
    [((70, 72), HOLDS, HOLDS), ((30, 31), FAILS, FAILS), ((49, 53), OPEN, OPEN)],
)
def test_one_shot_gains(written: Written, nlc: Sequence[int], verdict: str, largest: str) -> None:
    found = verdicts(folder(written, "out", adaptive(nlc, best_single=45)))
    mean, most = found["adaptive-gain"], found["adaptive-gain-largest"]
    assert mean["value"] == most["value"] == pytest.approx(sum(nlc) / 2 / N - 0.5)
    assert (mean["verdict"], most["verdict"]) == (verdict, largest)
    assert f"{sum(nlc) / 2 - 45:+.1f} over the one chosen on the same support" in mean["reason"]


@pytest.mark.parametrize(
    ("rivals", "verdict", "value"),
    [
        ({"log_avg": 50, "super_learner": 60}, HOLDS, 0.11),
        ({"log_avg": 90, "super_learner": 60}, FAILS, -0.19),
        ({"log_avg": 50, "super_learner": 70}, OPEN, 0.01),
    ],
)
def test_beyond_other_ensembles(written: Written, rivals: dict[str, int], verdict: str, value: float) -> None:
    found = verdicts(folder(written, "out", adaptive((71, 71), **rivals)))["beyond-ensembles"]
    assert (found["verdict"], found["value"]) == (verdict, pytest.approx(value))
    rival = max(rivals, key=rivals.__getitem__).replace("_", "-")
    assert f"over {rival}, the best of 2" in found["reason"]
    assert ("over super-learner" in found["reason"].partition(";")[2]) == (rival != "super-learner")


@pytest.mark.parametrize(("more", "verdict"), [(60, HOLDS), (75, FAILS), (62, OPEN)])
def test_more_shots(written: Written, more: int, verdict: str) -> None:
    """The 60 images of the first are among those of the second, or turn places with others."""
    one = folder(written, "one", {("x", CLEAN, "nlc", 1): right(60, 60)})
    answers = right(more, more, start=0 if verdict != OPEN else 6)
    four = folder(written, "four", {("x", CLEAN, "nlc", 4): answers})
    found = verdicts(one, four)["more-shots"]
    assert (found["verdict"], found["value"]) == (verdict, pytest.approx((more - 60) / N)) and "4 shots less 1" in found[
        "reason"
    ]
    alone = verdicts(one)["more-shots"]
    assert alone["verdict"] == UNTESTABLE and "only 1-shot results are here" in alone["reason"]


@pytest.mark.parametrize(("sign", "verdict"), [(1, HOLDS), (-1, FAILS)])
def test_gains_and_diversity(written: Written, sign: int, verdict: str) -> None:
    """On task k the second backbone has k images right that the first has not; nlc gains as many, or loses them."""
    cells: dict[Any, Any] = {}
    for k in range(7):
        cells |= {(f"t{k}", CLEAN, A, 0): right(50), (f"t{k}", CLEAN, B, 0): right(50 + k)}
        cells |= {(f"t{k}", CLEAN, "nlc", 1): right(50 + k + sign * k)}
    found = verdicts(folder(written, "out", cells))["gain-with-diversity"]
    assert (found["verdict"], found["value"]) == (verdict, pytest.approx(sign)) and found["unit"] == "rank correlation"
    few = {key: said for key, said in cells.items() if key[0] < "t4"}
    found = verdicts(folder(written, "few", few))["gain-with-diversity"]
    assert (found["verdict"], found["reason"]) == (UNTESTABLE, "fewer than 5 tasks")


POOL = tuple(f"p/{name}" for name in "abcde")
COSTS = {f"single:{name}": cost for name, cost in zip(POOL, (1.0, 2.0, 3.0, 4.0, 300.0), strict=True)}


@pytest.mark.parametrize(
    ("nlc", "costs", "verdict"),
    [
        (85, COSTS, HOLDS),
        (60, COSTS, FAILS),
        (82, COSTS, OPEN),
        (85, {**COSTS, "single:p/e": 9.0}, FAILS),
    ],
)
def test_the_four_cheapest(written: Written, nlc: int, costs: dict[str, float], verdict: str) -> None:
    whole = {("x", CLEAN, f"single:{name}", 0): right(80 if name == "p/e" else 40) for name in POOL}
    large = folder(written, "large", whole, pool=POOL, gflops=costs)
    answers = right(nlc, nlc, start=0 if verdict != OPEN else 8)
    small = folder(written, "small", {("x", CLEAN, "nlc", 1): answers}, pool=POOL[:4])
    for results in ((large, small), (small, large)):
        found = verdicts(*results)["cheapest-four"]
        assert (found["verdict"], found["value"]) == (verdict, pytest.approx(nlc / N - 0.8))
        saved = costs["single:p/e"] - 10
        assert f"{abs(saved):.3g} GFLOPs an image {'less' if saved > 0 else 'more'}" in found["reason"]
    alone = verdicts(large)["cheapest-four"]
    assert alone["verdict"] == UNTESTABLE and "run -b p/a p/b p/c p/d -s nlc" in alone["reason"]


def test_what_is_not_here_is_not_testable(written: Written) -> None:
    found = verdicts(folder(written, "out", {("x", CLEAN, "log-avg", 0): right(50)}))
    assert list(found) == list(CLAIMS) and {row["verdict"] for row in found.values()} == {UNTESTABLE}
    for row in found.values():
        assert row["value"] is row["ci_low"] is row["ci_high"] is None
        assert "needs" in row["reason"] and row["published"] and row["rule"]


def test_empty_folders_are_refused(written: Written, tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="holds no records"):
        claims.rows([Results(tmp_path / "empty")])


def test_every_claim_is_told_in_full() -> None:
    assert len({claim.brief for claim in CLAIMS.values()}) == len(CLAIMS)
    for name, claim in CLAIMS.items():
        assert claim.name == name and claim.statement.endswith(".") and len(claim.brief) <= 45


# The reference run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def baseline() -> Results:
    if not BASELINE.is_dir():
        pytest.skip(f"the reference results are not here: {BASELINE}")
    return Results(BASELINE)


def test_the_reference_run(baseline: Results, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = claims.rows([baseline])
    assert [row["claim"] for row in rows] == list(CLAIMS) and {row["verdict"] for row in rows} <= set(VERDICTS)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    found = {row["claim"]: row for row in rows}
    assert found["accuracy"]["verdict"] == HOLDS and found["representation"]["verdict"] == UNTESTABLE
    assert found["robustness"]["verdict"] == found["more-shots"]["verdict"] == UNTESTABLE
    for row in rows:
        assert row["value"] is None or row["ci_low"] <= row["value"] <= row["ci_high"]
    assert main(["claims", str(BASELINE), "--no-features"]) == 0
    said = capsys.readouterr().out
    assert "no backbone is best on every task" in said and max(map(len, said.splitlines())) <= 120
    assert main(["claims", str(BASELINE), "--no-features", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    target = tmp_path / "claims.md"
    assert main(["claims", str(BASELINE), "--no-features", "--format", "markdown", "-o", str(target)]) == 0
    assert target.read_text() == report.judged(rows, "markdown", caption=said.partition("\n\n")[0])


def test_likeness_needs_features_only(baseline: Results) -> None:
    """A store that knows: two backbones with the same features are alike, unrelated ones are not."""
    import torch

    from ensemble_bench.cube import Cube

    class Known:
        def __init__(self, same: bool) -> None:
            self.same = same

        def cube(self, task: str, condition: str, ids: Sequence[str], labels: Sequence[int]) -> Cube:
            generator = torch.Generator().manual_seed(0)
            pool = sorted(baseline.records[0].pool)
            first = torch.randn(len(ids), 6, generator=generator)
            features = [first if self.same else torch.randn(len(ids), 6, generator=generator) for _ in pool]
            classes = [str(label) for label in range(max(labels) + 1)]
            heads = [torch.eye(6)[torch.arange(len(classes)) % 6] for _ in pool]
            return Cube(backbones=pool, classes=classes, ids=ids, features=features, heads=heads, labels=torch.tensor(labels))

    for same, verdict in ((True, FAILS), (False, HOLDS)):
        evidence = Evidence([baseline], lambda results, same=same: Known(same))  # type: ignore[arg-type, return-value, misc]
        found = CLAIMS["representation"].check(evidence)
        assert found.verdict == verdict and found.value == pytest.approx(float(same), abs=0.02)
