"""The HTML page: what stands in it, that it is safe, and that it works in a browser."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensemble_bench.cli import main
from ensemble_bench.records import Predictions, Record, Results
from ensemble_bench.report.page import figures
from ensemble_bench.report.page import html as page_of

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "results" / "baseline"
EVIL = "<script>alert(1)</script>\"'&$x^2$"


@pytest.fixture(scope="module")
def page() -> str:
    """The report of the reference results."""
    return page_of([Results(BASELINE, must_exist=True)], thumbnails=2)


def test_the_page_stands_alone(page: str) -> None:
    assert len(page.encode()) < 8e6
    sources = re.findall(r"""(?:src|href)=["']?([^"'\s>]*)""", page)
    assert sources and all(one.startswith(("data:", "#")) for one in sources)
    assert "@import" not in page and "url(" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_every_part_is_there(page: str) -> None:
    for part in ("board", "tasks", "charts", "together", "images", "origin"):
        assert f'<section id="{part}"' in page
    for says in ("Oracle gap per task", "Mean ranks over 11 tasks", "On the front, from cheap to dear", "Reliability:"):
        assert says in page
    assert page.count("data:image/jpeg") > 20
    assert "ensemble-bench run" in page


def test_every_picture_says_what_it_shows(page: str) -> None:
    pictures = re.findall(r"<img [^>]*>", page)
    assert pictures and all(re.search(r'alt="[^"]{5,}"', picture) for picture in pictures)


def test_numbers_are_those_of_the_board(page: str) -> None:
    rows = {
        html.unescape(name): [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", cells)]
        for name, cells in re.findall(r'<tr data-family="\w+" data-condition="clean"><th[^>]*>(.*?)</th>(.*?)</tr>', page, re.S)
    }
    records = [record for record in Results(BASELINE).records if record.strategy == "oracle"]
    mean = np.mean([record.metrics["acc1"]["value"] for record in records])
    assert rows["oracle"][2] == f"{100 * mean:.1f}"
    assert len(rows) == 19


def evil(folder: Path) -> Results:
    """Results whose names are markup."""
    results = Results(folder)
    for strategy, right in (("single:" + EVIL, [1, 0, 1, 1]), ("single:b", [0, 1, 1, 0]), ("log-avg", [1, 1, 1, 0])):
        truth = np.array([right], bool)
        name = "cell-" + str(sum(map(ord, strategy)))
        value = float(truth.mean())
        record = Record(
            task=EVIL,
            task_version=1,
            condition="clean",
            pool=(EVIL, "b"),
            strategy=strategy,
            family="static",
            shots=0,
            draw=None,
            draws=0,
            seed=0,
            limit=None,
            n=4,
            ids="ids",
            labels=0,
            metrics={"acc1": {"value": value, "ci_low": None, "ci_high": None, "direction": "up", "low": 0.0, "high": 1.0}},
            cost={"gflops": 1.0, "parameters": 1, "backbones": 1},
            provenance={"commit": EVIL},
            key=name,
            cell=name,
        )
        ids, labels = np.array([f"{EVIL}{n}" for n in range(4)]), np.array([0, 1, 0, 1])
        decisions = np.where(truth, labels, 1 - labels)
        results.append([record], Predictions(ids=ids, labels=labels, draws=np.array([-1]), decisions=decisions))
    (folder / "config.toml").write_text('tasks = ["<script>alert(2)</script>"]\n')
    return results


def test_a_name_cannot_run_script(tmp_path: Path) -> None:
    page = page_of([evil(tmp_path)], thumbnails=2)
    assert len(re.findall(r"<script", page)) == 1  # our own
    assert "&lt;script&gt;alert(1)" in page and "&lt;script&gt;alert(2)" in page
    assert "the images are not at hand: no task is called" in html.unescape(page)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil(tmp_path / "out")
    target = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "out"), "-o", str(target), "--thumbnails", "0"]) == 0
    assert target.read_text().startswith("<!doctype html>") and "MB" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["report", str(tmp_path / "out"), "-o", str(tmp_path / "no" / "page.html")]) == 2
    assert main(["report", str(tmp_path / "out"), "--thumbnails", "-1"]) == 2


def test_ranks_need_something_to_rank() -> None:
    assert figures.ranks(["a", "b"], [[1, 2], [2, 1]]) is None
    assert figures.ranks(["a", "b", "c"], [[1, 2, 3]]) is None
    chart = figures.ranks(["a", "b", "c"], [[3, 2, 1], [3, 2, 1], [3, 2, 1]])
    assert chart is not None and chart.says.startswith("Mean ranks over 3 tasks: a 1.00, b 2.00, c 3.00.")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that the system brings."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'browser')")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium on the PATH (on Debian: apt-get install chromium)")
    with playwright.sync_playwright() as run:
        opened = run.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.filterwarnings("default")
def test_in_a_browser(browser: Any, page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    for width in (1200, 390):
        tab = browser.new_page(viewport={"width": width, "height": 900})
        said: list[str] = []
        tab.on("console", lambda message, said=said: said.append(message.text))
        tab.on("pageerror", lambda error, said=said: said.append(str(error)))
        tab.on("requestfailed", lambda request, said=said: said.append(request.url[:80]))
        tab.goto(path.as_uri())
        assert said == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")

        def column(number: int, tab: Any = tab) -> list[str]:
            rows = "[...document.querySelectorAll('#board-table tbody tr:not([hidden])')]"
            return list(tab.evaluate(f"n => {rows}.map(row => row.cells[n].textContent)", number))

        before = column(0)
        button = tab.locator("#board-table thead button", has_text="acc1 %")
        button.press("Enter")  # by keyboard
        values = [float(text) for text in column(3)]
        assert values == sorted(values, reverse=True) and column(0) != before
        assert tab.locator("#board-table th[aria-sort=descending]").count() == 1
        button.click()
        assert [float(text) for text in column(3)] == sorted(values)
        button.click()
        assert column(0) == before
        tab.fill("#find", "NLC")
        assert column(0) == ["nlc", "nlc:form=weight"] and tab.locator("#count").text_content() == "2 lines"
        tab.fill("#find", "")
        tab.uncheck("input.family[value=oracle]")
        assert "oracle" not in column(0)
        tab.close()


def test_names_and_pictures_that_come_with_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a data set without a card, and of one whose card leaves the names to its download."""
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for place in range(12):
        path = tmp_path / "pets" / ("guinea_pig", "wolf")[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    card = tmp_path / "cards" / "tasks" / "mine" / "pets.toml"
    card.parent.mkdir(parents=True)
    card.write_text(
        'name = "mine/pets"\nversion = 1\ntitle = "Pets"\nclasses_from = "source"\ntemplates = ["a {c}"]\nlicence = "MIT"\n'
        'provenance = "a test"\n[source]\nkind = "folder"\nroot = "pets"\n[counts]\ntest = 12\nclasses = 2\n'
    )
    for text in ("folder:pets", "mine/pets"):
        words = [
            "-t",
            text,
            "-b",
            "mini/vit-16",
            "mini/vit-8",
            "-s",
            "single",
            "-o",
            text.replace(":", "-"),
            "--cards",
            "cards",
        ]
        assert main(["run", *words]) == 0
        made = page_of([Results(tmp_path / text.replace(":", "-"))], thumbnails=3, cards=(tmp_path / "cards",))
        assert made.count("data:image/jpeg") >= 3 and "guinea pig" in made and "not at hand" not in made
        (tmp_path / "pets").rename(tmp_path / "away")
        gone = page_of([Results(tmp_path / text.replace(":", "-"))], thumbnails=3, cards=(tmp_path / "cards",))
        assert "the images are not at hand" in gone and "pets is not a folder" in gone and "class 0" in gone
        (tmp_path / "away").rename(tmp_path / "pets")
