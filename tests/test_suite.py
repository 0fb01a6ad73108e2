"""Suites of corruptions: strict cards, what they stand for, and functions that give the same bytes whenever they run."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from ensemble_bench import cli, listing, pictures, sheet
from ensemble_bench.condition import CLEAN, Condition
from ensemble_bench.corrupt import registry, suite
from ensemble_bench.corrupt.reference import corrupted
from ensemble_bench.errors import BadCard, BadData, BadOption, BadPlugin, UnknownName
from ensemble_bench.pictures import Picture
from ensemble_bench.plan import planned
from ensemble_bench.request import Request

GOOD = """
name = "mine"
version = 1
title = "Mine"
engine = "native"
source = "here"
licence = "MIT"
provenance = "made up"
[amounts]
contrast = [0.4, 0.3, 0.2, 0.1, 0.05]
"""
PAPER = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow"),
    *("frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")


def card(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / "corruptions" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def photograph() -> Picture:
    return sheet.photograph(64)


@pytest.mark.parametrize(
    ("name", "count", "conditions"),
    [
        ("imagenet-c", 15, 75),
        ("imagenet-c-extra", 4, 20),
        ("imagenet-c-full", 19, 95),
        ("cifar-c", 19, 95),
        ("mini-c", 3, 6),
        ("imagenet-c-disk", 15, 75),
        ("transforms", 11, 55),
    ],
)
def test_the_suites_there_are(name: str, count: int, conditions: int) -> None:
    one = suite.read(suite.suites()[name], name)
    assert len(one.amounts) == count and len(one.conditions(name)) == conditions


def test_the_paper_and_its_extras() -> None:
    found = {name: suite.read(suite.suites()[name], name) for name in ("imagenet-c", "imagenet-c-extra", "imagenet-c-full")}
    assert tuple(found["imagenet-c"].amounts) == PAPER and tuple(found["imagenet-c-extra"].amounts) == EXTRA
    assert found["imagenet-c-full"].amounts == {**found["imagenet-c"].amounts, **found["imagenet-c-extra"].amounts}
    mini = suite.read(suite.suites()["mini-c"], "mini-c")
    assert all(mini.amounts[name] == found["imagenet-c"].amounts[name] for name in mini.amounts)


@pytest.mark.parametrize(
    ("name", "severity", "amount"),
    [("gaussian_noise", 3, (0.18,)), ("contrast", 5, (0.05,)), ("fog", 2, (2.0, 2)), ("pixelate", 1, (0.6,))],
)
def test_amounts_of_the_library(name: str, severity: int, amount: tuple[float, ...]) -> None:
    assert suite.read(suite.suites()["imagenet-c-full"], "imagenet-c-full").amounts[name][severity - 1] == amount


def test_zoom_factors_are_the_library_s_to_the_last_bit() -> None:
    ranges = [(1, 1.11, 0.01), (1, 1.16, 0.01), (1, 1.21, 0.02), (1, 1.26, 0.02), (1, 1.31, 0.03)]
    amounts = suite.read(suite.suites()["imagenet-c"], "imagenet-c").amounts["zoom_blur"]
    assert [list(amount) for amount in amounts] == [np.arange(*one).tolist() for one in ranges]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('title = "Mine"', 'titel = "Mine"', r"mine.toml: 'title' is missing"),
        ('title = "Mine"', 'title = "Mine"\nsde = 32', r"mine.toml: unknown key 'sde'. Did you mean side\?"),
        ('"mine"', '"yours"', r"'name' must be 'mine', as the file is called"),
        ('"native"', '"natural"', r"'engine' must be one of native, identical, imagecorruptions, disk, not 'natural'"),
        ("contrast =", "contrst =", r"mine.toml: 'amounts.contrst' is no corruption. Did you mean contrast\?"),
        (", 0.05]", "]", r"mine.toml: 'amounts.contrast' must hold five amounts, one a severity; there are 4"),
        ("[0.4,", '["0.4",', r"'amounts.contrast' must hold numbers, or lists of numbers, not '0.4'"),
        ("[0.4,", "[true,", r"'amounts.contrast' must hold numbers, or lists of numbers, not True"),
        ("[0.4,", "[nan,", r"must hold numbers, or lists of numbers, not nan"),
        ("[0.4,", "[[0.4, 1],", r"'amounts.contrast' must hold five amounts of the same length"),
        ("[0.4, 0.3, 0.2, 0.1, 0.05]", "0.4", r"'amounts.contrast' must be a list of five amounts"),
        ("contrast = [0.4, 0.3, 0.2, 0.1, 0.05]", "", r"'amounts' must name at least one corruption"),
        ("[amounts]", "[amount]", r"'amounts' is missing; it must be a table"),
        ("version = 1", "version = 0", r"'version' must be at least 1"),
        ("version = 1", "version = 1\nside = 0", r"'side' must be at least 1"),
        ("version = 1", "version = 1\njpeg = 101", r"'jpeg' must be a quality from 1 to 100"),
        ("version = 1", "version = 1\nseverities = [0]", r"'severities' must be whole numbers from 1 to 5"),
        ("version = 1", "version = 1\nseverities = [2, 2]", r"'severities' must hold different whole numbers"),
    ],
)
def test_a_wrong_card_is_one_sentence(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = card(tmp_path, GOOD.replace(before, after, 1))
    with pytest.raises(BadCard, match=said) as caught:
        suite.read(path, "mine")
    assert str(path) in str(caught.value)


def test_the_library_knows_its_own_amounts_only(tmp_path: Path) -> None:
    text = GOOD.replace('"native"', '"imagecorruptions"').replace("0.05]", "0.04]")
    assert _read(tmp_path, "imagecorruptions").engine == "imagecorruptions"
    with pytest.raises(BadCard, match=r"'amounts.contrast' must be those of imagenet-c-full"):
        suite.read(card(tmp_path, text), "mine")


def test_a_suite_on_disk_has_names_and_nothing_else(tmp_path: Path) -> None:
    text = GOOD.partition("[amounts]")[0].replace('"native"', '"disk"') + 'corruptions = ["fog", "my_own"]\n'
    one = suite.read(card(tmp_path, text), "mine")
    assert list(one.amounts) == ["fog", "my_own"] and one.on_disk
    with pytest.raises(BadCard, match="'side' has no meaning"):
        suite.read(card(tmp_path, "side = 3\n" + text), "mine")
    with pytest.raises(BadOption, match="it cannot corrupt others"):
        one.alter(one.conditions("mine:fog:1")[0])


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["mini-c:fog:3"], ["mini-c:fog:3"]),
        (["mini-c:fog"], ["mini-c:fog:2", "mini-c:fog:4"]),
        (["mini-c:*:1"], ["mini-c:gaussian_noise:1", "mini-c:defocus_blur:1", "mini-c:fog:1"]),
        (["mini-c:fog:3,mini-c:*_blur:5", "mini-c:fog:3"], ["mini-c:fog:3", "mini-c:defocus_blur:5"]),
        (["imagenet-c:[gs]*_noise:2"], ["imagenet-c:gaussian_noise:2", "imagenet-c:shot_noise:2"]),
        (["imagenet-c*:spatter:1"], ["imagenet-c-extra:spatter:1", "imagenet-c-full:spatter:1"]),
        (["clean"], []),
    ],
)
def test_what_a_text_stands_for(texts: list[str], wanted: list[str]) -> None:
    assert [str(condition) for condition in suite.chosen(texts)[1]] == wanted
    plan = planned(Request(corruptions=tuple(texts), seed=3))
    assert plan.conditions == (CLEAN, *(Condition.parse(text, 3) for text in wanted))


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("mini-d", UnknownName, "no corruption suite is called 'mini-d'. Did you mean mini-c"),
        ("mini-c:fogg", UnknownName, "the suite mini-c has no corruption 'fogg'. Did you mean fog"),
        ("mini-c:snow", UnknownName, "the suite mini-c has no corruption 'snow'. There are: defocus_blur, fog, gaussian_noise"),
        ("mini-c:fog:0", BadOption, "a severity is a whole number from 1 to 5, not '0'"),
        ("mini-c:fog:6", BadOption, "a severity is a whole number from 1 to 5, not '6'"),
        ("mini-c:fog:1:2", BadOption, r"asked for as SUITE\[:CORRUPTION"),
        ("*-c:nothing", UnknownName, "has no corruption 'nothing'"),
        (",", BadOption, "no condition was chosen"),
    ],
)
def test_what_stands_for_nothing(text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        planned(Request(corruptions=(text,)))


# Functions -----------------------------------------------------------------------------------------------------------


def _read(tmp_path: Path, engine: str, more: str = "", amounts: str = "") -> suite.Suite:
    text = GOOD.replace('"native"', f'"{engine}"').replace("[amounts]", f"{more}\n[amounts]\n{amounts}")
    return suite.read(card(tmp_path, text), "mine")


NOISE = "gaussian_noise = [0.08, 0.12, 0.18, 0.26, 0.38]"


@pytest.mark.parametrize("engine", ["native", "identical", "imagecorruptions"])
def test_bytes_depend_on_sample_condition_and_seed_alone(tmp_path: Path, photograph: Picture, engine: str) -> None:
    one = _read(tmp_path, engine, amounts=NOISE)
    alter = one.alter(Condition("mine", "gaussian_noise", 2, 0))
    ids = [f"sample-{number}" for number in range(12)]
    alone = {name: alter(name, photograph).tobytes() for name in ids}
    assert len(set(alone.values())) == len(ids), "every sample has draws of its own"
    with ThreadPoolExecutor(8) as pool:
        together = dict(
            zip(reversed(ids), pool.map(lambda name: alter(name, photograph).tobytes(), reversed(ids)), strict=True)
        )
    assert together == alone
    for other in (Condition("mine", "gaussian_noise", 3, 0), Condition("mine", "gaussian_noise", 2, 1)):
        assert one.alter(other)("sample-0", photograph).tobytes() != alone["sample-0"]
    same = Condition("another suite", "gaussian_noise", 2, 0)
    assert one.alter(same)("sample-0", photograph).tobytes() == alone["sample-0"]


@pytest.mark.parametrize("name", ["gaussian_noise", "contrast"])
def test_engines_that_draw_alike_agree(tmp_path: Path, photograph: Picture, name: str) -> None:
    condition = Condition("mine", name, 4)
    made = [
        _read(tmp_path, engine, amounts=NOISE).alter(condition)("s", photograph) for engine in ("identical", "imagecorruptions")
    ]
    assert np.array_equal(*made)
    assert np.array_equal(made[0], corrupted(photograph, name, 4, suite.legacy_seed("s", condition)))


def test_amounts_below_a_pixel_are_those_of_make_cifar_c() -> None:
    """defocus_blur with the formula of the published script, its radii of half a pixel included."""
    import cv2

    one, small = suite.read(suite.suites()["cifar-c"], "cifar-c"), sheet.photograph(32)
    for condition, (radius, softness) in zip(one.conditions("cifar-c:defocus_blur"), one.amounts["defocus_blur"], strict=True):
        down, right = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9))
        disk = np.array(down**2 + right**2 <= radius**2, dtype=np.float32)
        kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=(3, 3), sigmaX=softness)
        blurred = np.stack([cv2.filter2D(small[..., c] / 255.0, -1, kernel) for c in range(3)], axis=2)
        wanted = np.uint8(np.clip(blurred, 0, 1) * 255)
        assert np.abs(one.alter(condition)("s", small).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", ["imagenet-c-full", "cifar-c", "transforms"])
def test_odd_pictures_survive_every_corruption(name: str) -> None:
    one = suite.read(suite.suites()[name], name)
    whole = sheet.photograph(64)
    odd = [whole[:1, :1], whole[:2], whole[:5, :7], np.zeros((33, 40, 3), np.uint8), whole]
    for condition in one.conditions(f"{name}:*:1") + one.conditions(f"{name}:*:5"):
        alter = dataclasses.replace(one, side=None).alter(condition)
        for picture in odd:
            shown = np.ascontiguousarray(picture)
            before = shown.copy()
            made = alter("s", shown)
            assert made.dtype == np.uint8 and made.shape == shown.shape, condition
            assert np.array_equal(shown, before), f"{condition} writes into the picture it is given"


def test_the_reference_says_what_it_cannot_do(tmp_path: Path, photograph: Picture) -> None:
    alter = _read(tmp_path, "imagecorruptions").alter(Condition("mine", "contrast", 1))
    with pytest.raises(BadData, match=r"^tiny under mine:contrast:1: imagecorruptions takes pictures of at least 32 pixels"):
        alter("tiny", photograph[:20])


def test_resolution_and_round_trip(tmp_path: Path) -> None:
    wide = sheet.photograph(96)[:64]
    condition = Condition("mine", "contrast", 1)
    small = _read(tmp_path, "native", "side = 32").alter(condition)("s", wide)
    assert small.shape == (32, 32, 3)
    whole = _read(tmp_path, "native").alter(condition)("s", wide)
    assert whole.shape == wide.shape
    again = _read(tmp_path, "native", "jpeg = 85").alter(condition)
    assert np.array_equal(again("s", wide), pictures.decoded(pictures.encoded(whole, 85), "s"))
    assert not np.array_equal(again("s", wide), whole)
    assert np.array_equal(_read(tmp_path, "native", "jpeg = 85").alter(condition, jpeg=False)("s", wide), whole)


def test_cropping_keeps_the_middle() -> None:
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[:, 30:70] = 200
    assert (pictures.cropped(picture, 40) == 200).all()
    assert (pictures.cropped(picture, 20)[:, 1:-1] == 200).all()  # the outer columns mix with what was cut off
    assert pictures.cropped(picture[:1, :1], 8).shape == (8, 8, 3)
    assert pictures.cropped(np.zeros((2, 3000, 3), np.uint8), 16).shape == (16, 16, 3)


def test_keys_know_what_changes_the_pictures(tmp_path: Path) -> None:
    condition = Condition("mine", "contrast", 1)
    said = [
        json.dumps(one.said(condition))
        for one in (
            _read(tmp_path, "native"),
            _read(tmp_path, "identical"),
            _read(tmp_path, "native", "side = 32"),
            _read(tmp_path, "native", "jpeg = 85"),
            suite.read(card(tmp_path, GOOD.replace("version = 1", "version = 2")), "mine"),
            suite.read(card(tmp_path, GOOD.replace("0.4", "0.5")), "mine"),
        )
    ]
    assert len(set(said)) == len(said)
    other = suite.read(card(tmp_path, GOOD.replace("Mine", "My own").replace("0.05", "0.04")), "mine")
    assert json.dumps(other.said(condition)) == said[0], "neither titles nor other severities do"


# Plug-ins ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[ModuleType]:
    """A module with a corruption of somebody else's."""
    import importlib.util

    path = tmp_path / "strange_corruption.py"
    path.write_text("def darker(picture, amount, draws):\n    picture //= 2\n    return RESULT\nRESULT = None\n")
    spec = importlib.util.spec_from_file_location("strange_corruption", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    registry.add("darker", module.darker)
    yield module
    registry._added.pop("darker")


def test_a_plugin_is_held_to_its_word(tmp_path: Path, plugin: ModuleType, photograph: Picture) -> None:
    one = _read(tmp_path, "native", amounts="darker = [1, 2, 3, 4, 5]")
    alter = one.alter(Condition("mine", "darker", 1))
    before = photograph.copy()
    for result, said in ((None, "must return uint8"), (photograph[:3], "must return uint8"), (photograph / 2, "must return")):
        plugin.RESULT = result
        with pytest.raises(BadPlugin, match=said):
            alter("s", photograph)
    del plugin.RESULT
    with pytest.raises(BadPlugin, match="the corruption 'darker' fails: NameError"):
        alter("s", photograph)
    plugin.RESULT = photograph
    assert np.array_equal(alter("s", photograph), photograph) and np.array_equal(photograph, before)
    digest = one.said(Condition("mine", "darker", 1))
    Path(str(plugin.__file__)).write_text("# edited\n")
    assert one.said(Condition("mine", "darker", 1)) != digest


# Listing -------------------------------------------------------------------------------------------------------------


def test_listing_says_engine_version_and_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ls", "corruptions", "--json"]) == 0
    found = {thing["name"]: thing for thing in json.loads(capsys.readouterr().out)}
    assert found["imagenet-c"]["corruptions"] == 15 and found["imagenet-c"]["engine"] == "native"
    assert found["mini-c"]["conditions"] == 6 and found["mini-c"]["version"] == 1


def test_show_prints_a_card_or_a_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "corruption", "mini-c"]) == 0
    out = capsys.readouterr().out
    assert "gaussian_noise  0.08 | 0.12 | 0.18 | 0.26 | 0.38" in out and "severities   2 4" in out
    assert cli.main(["show", "corruption", "gaussian_noise", "--json"]) == 0
    thing = json.loads(capsys.readouterr().out)
    assert thing["defined in"] == "ensemble_bench.corrupt.noise:gaussian_noise" and thing["documentation"]
    assert {line.split()[0] for line in thing["amounts"]} >= {"imagenet-c", "imagenet-c-full", "cifar-c", "mini-c"}
    assert cli.main(["show", "corruption", "gausian_noise"]) == 2
    assert "no suite or corruption is called 'gausian_noise'. Did you mean gaussian_noise" in capsys.readouterr().err


def test_a_sheet_has_a_row_a_corruption_and_a_column_a_severity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sheet.png"
    assert cli.main(["show", "corruption", "mini-c", "--sheet", str(path)]) == 0
    with Image.open(path) as drawn:
        image = np.array(drawn)
    cell = sheet.SHOWN + 2
    assert image.shape == (3 * cell, sheet._TEXT + 6 * cell, 3)
    tiles = [
        image[r * cell : (r + 1) * cell - 2, sheet._TEXT + c * cell :][:, : sheet.SHOWN] for r in range(3) for c in range(6)
    ]
    assert len({tile.tobytes() for tile in tiles}) == 16, "three times the clean one, fifteen that differ"
    far = [np.abs(tile.astype(int) - tiles[0]).mean() for tile in tiles[1:6]]
    assert far == sorted(far), "noise grows with severity"
    assert cli.main(["show", "corruption", "imagenet-c-disk", "--sheet", str(path)]) == 2
    capsys.readouterr()


def test_telling_loads_nothing_heavy() -> None:
    text = (
        "import sys; from ensemble_bench import cli; cli.main(sys.argv[1:]); "
        "sys.exit(str({'torch', 'cv2', 'numba', 'skimage', 'scipy'} & set(sys.modules) or '') or 0)"
    )
    root = str(Path(listing.__file__).parents[1])
    for words in (["ls", "corruptions"], ["show", "corruption", "imagenet-c"], ["show", "corruption", "glass_blur"]):
        done = subprocess.run([sys.executable, "-c", text, *words], capture_output=True, text=True, env={"PYTHONPATH": root})
        assert done.returncode == 0 and done.stdout, done.stderr
