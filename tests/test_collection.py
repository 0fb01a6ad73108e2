"""The cards of data sets that are fetched: whole, as CLIP_benchmark has them, and with numbers that others confirm."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from ensemble_bench import listing, shipped
from ensemble_bench.cli import ls
from ensemble_bench.task import Catalogue, Task

CATALOGUE = Catalogue()
OURS = [name for name in CATALOGUE.paths if not name.startswith("mini/")]
WEBDATASETS = [
    "imagenet1k",
    "imagenetv2",
    "imagenet_sketch",
    "imagenet-a",
    "imagenet-r",
    "imagenet-o",
    "objectnet",
    "fer2013",
    "voc2007",
    "voc2007_multilabel",
    "sun397",
    "cars",
    "fgvc_aircraft",
    "mnist",
    "stl10",
    "gtsrb",
    "country211",
    "renderedsst2",
    "vtab/caltech101",
    "vtab/cifar10",
    "vtab/cifar100",
    "vtab/clevr_count_all",
    "vtab/clevr_closest_object_distance",
    "vtab/diabetic_retinopathy",
    "vtab/dmlab",
    "vtab/dsprites_label_orientation",
    "vtab/dsprites_label_x_position",
    "vtab/dsprites_label_y_position",
    "vtab/dtd",
    "vtab/eurosat",
    "vtab/kitti_closest_vehicle_distance",
    "vtab/flowers",
    "vtab/pets",
    "vtab/pcam",
    "vtab/resisc45",
    "vtab/smallnorb_label_azimuth",
    "vtab/smallnorb_label_elevation",
    "vtab/svhn",
]


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


@pytest.fixture(scope="module")
def host() -> str:
    """The source of CLIP_benchmark's builder."""
    return (_package("clip_benchmark") / "datasets" / "builder.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def collections(host: str) -> dict[str, list[str]]:
    """The collections of CLIP_benchmark."""
    for node in ast.parse(host).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "dataset_collection":
            found: dict[str, list[str]] = ast.literal_eval(node.value)
            return found
    raise AssertionError("clip_benchmark has no dataset_collection any more")


def _synsets(host: str, name: str) -> list[str]:
    match = re.search(rf"\b{name} = [\[{{](.*?)[\]}}]", host)
    assert match is not None
    return re.findall(r"n\d{8}", match[1])


def test_there_are_enough() -> None:
    assert len(OURS) >= 45
    assert set(WEBDATASETS) <= set(OURS) and len(WEBDATASETS) == 38
    assert {
        "food101",
        "vtab/cub",
        "imagenet-w",
        "fashion-mnist",
        "kmnist",
        "qmnist",
        "usps",
        "imagenette",
        "lfw-people",
    } <= set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_every_card_is_whole(name: str) -> None:
    task = CATALOGUE.task(name)
    assert task.trouble == "", "the names that CLIP_benchmark ships are not those of the card"
    assert not task.verified, "nobody has fetched it yet"
    assert task.citation and task.licence and task.provenance.endswith(".")
    assert task.counts["test"] > 0 and task.class_count >= 2
    assert task.chance == (None if task.kind == "multilabel" else 1 / task.class_count)
    assert not {"card", "host"} & {task.classes_from} or len(task.classes) == task.class_count
    assert set(task.splits) == {*task.counts, *task.unknown}
    assert "train" in task.splits or task.support or task.unsupported, "it must say where its support is from"
    for what in ("classes", "templates"):
        if getattr(task, f"{what}_from") == "host":
            assert task.names[what] == shipped.digest(getattr(task, what))


@pytest.mark.parametrize("name", WEBDATASETS)
def test_a_webdataset_lies_where_the_host_looks_for_it(name: str) -> None:
    task = CATALOGUE.task(name)
    assert (task.host, task.source) == (name, "webdataset")
    assert task.options["repository"] == f"clip-benchmark/wds_{name.replace('/', '-')}"


def test_the_collections_are_the_hosts(collections: dict[str, list[str]]) -> None:
    ours = CATALOGUE.collections
    assert list(ours["vtab"]) == collections["vtab"] and len(ours["vtab"]) == 19
    assert list(ours["vtab+"]) == collections["vtab+"]
    assert list(ours["imagenet-robustness"]) == collections["imagenet_robustness"]
    groups = [set(ours[name]) for name in ("natural", "specialized", "structured")]
    assert [len(group) for group in groups] == [7, 4, 8] and set.union(*groups) == set(ours["vtab"])
    assert len(set(ours["synergy-21"])) == 21 and "econstruct" in CATALOGUE.groups["synergy-21"].provenance


def test_every_collection_says_what_it_is() -> None:
    for name, collection in CATALOGUE.groups.items():
        assert collection.title, name
        assert collection.provenance or name == "mini", name


def test_a_mean_over_vtab_plus_leaves_out_the_task_with_several_answers() -> None:
    assert CATALOGUE.belongs("vtab/eurosat") == {"specialized": 4, "synergy-21": 21, "vtab": 19, "vtab+": 35}
    assert CATALOGUE.belongs("voc2007_multilabel") == {}


@pytest.mark.parametrize("name", [name for name in OURS if CATALOGUE.task(name).host])
def test_prompts_are_those_that_the_host_would_choose(name: str) -> None:
    """The host looks for its data set's name, then for the name without its prefix, then takes those of ImageNet."""
    task = CATALOGUE.task(name)
    templates = shipped.lists(shipped.TEMPLATES)
    keys = [task.host, *([task.host.partition("/")[2]] if "/" in task.host else []), "imagenet1k"]
    chosen = next(templates[key] for key in keys if key in templates)
    assert (task.templates == chosen) == (name != "vtab/cub")  # its fall-back on ImageNet's is no prompt for birds


@pytest.mark.parametrize("letter", ["a", "r", "o"])
def test_subsets_of_imagenet_are_the_hosts(letter: str, host: str) -> None:
    task = CATALOGUE.task(f"imagenet-{letter}")
    every, some = _synsets(host, "all_imagenet_wordnet_ids"), set(_synsets(host, f"imagenet_{letter}_wnids"))
    names = shipped.lists(shipped.CLASSES)["imagenet1k"]
    assert len(every) == 1000 and len(some) == 200 == task.class_count
    assert task.classes == tuple(name for name, synset in zip(names, every, strict=True) if synset in some)


@pytest.mark.parametrize("letter", ["a", "r"])
def test_support_of_the_subsets_is_where_timm_has_these_classes(letter: str) -> None:
    support = CATALOGUE.task(f"imagenet-{letter}").support
    assert support is not None and support.task == "imagenet1k" and support.classes is not None
    places = (_package("timm") / "data" / "_info" / f"imagenet_{letter}_indices.txt").read_text(encoding="utf-8").split()
    assert [place for (place,) in support.classes] == list(map(int, places))


def test_support_of_imagenettes_ten_classes_is_its_own() -> None:
    task = CATALOGUE.task("imagenette")
    assert task.classes[:3] == ("tench", "English Springer Spaniel", "cassette player") and "train" in task.splits


def test_support_of_objectnet_is_what_its_names_say() -> None:
    task = CATALOGUE.task("objectnet")
    assert task.support is not None and task.support.classes is not None
    imagenet = CATALOGUE.task("imagenet1k").classes
    theirs = {
        ours: [imagenet[place] for place in places] for ours, places in zip(task.classes, task.support.classes, strict=True)
    }
    assert theirs["banana"] == ["banana"] and theirs["tie"] == ["bow tie", "Windsor tie"]
    assert sorted(theirs["bicycle"]) == ["mountain bike", "tandem bicycle"]
    assert theirs["tv"] == ["television"] and theirs["monitor"] == ["monitor"] and theirs["wok"] == ["wok"]
    assert sum(map(len, theirs.values())) == 125 and len(theirs) == 113


def test_the_same_classes_are_lent_as_they_are() -> None:
    for name in ("imagenetv2", "imagenet_sketch", "imagenet-w"):
        task, lender = CATALOGUE.task(name), CATALOGUE.task("imagenet1k")
        assert task.support is not None and task.support.task == "imagenet1k" and task.support.classes is None
        assert task.classes == lender.classes and "train" in lender.splits


@pytest.mark.parametrize(
    ("name", "test", "classes"),
    [
        ("sun397", 108754, 397),
        ("vtab/pcam", 32768, 2),
        ("country211", 21100, 211),
        ("vtab/kitti_closest_vehicle_distance", 711, 4),
    ],
)
def test_sizes_that_everybody_quotes(name: str, test: int, classes: int) -> None:
    task = CATALOGUE.task(name)
    assert (task.counts["test"], task.class_count) == (test, classes)


def test_sizes_follow_from_one_another() -> None:
    def task(name: str) -> Task:
        return CATALOGUE.task(name)

    assert task("country211").counts["train"] == 150 * 211 and task("country211").counts["test"] == 100 * 211
    assert task("food101").counts == {"train": 750 * 101, "test": 250 * 101}
    assert sum(task("vtab/dsprites_label_orientation").counts.values()) == 737280 * 9 // 10  # the rest is for validation
    assert task("voc2007_multilabel").counts["test"] == 4952 and task("voc2007").counts["test"] == 14976
    assert sum(task("vtab/eurosat").counts.values()) == 27000 * 4 // 5


def test_traps_are_stated() -> None:
    for name, word in [("vtab/eurosat", "wording"), ("vtab/svhn", "rompts"), ("cars", "404"), ("imagenet1k", "missile")]:
        assert any(word in trap for trap in CATALOGUE.task(name).traps), name


def test_what_the_traps_say_of_names_is_so() -> None:
    names = shipped.lists(shipped.CLASSES)
    imagenet = names["imagenet1k"]
    assert (imagenet[657], imagenet[836]) == (imagenet[744], imagenet[837]) == ("missile", "sunglasses")
    assert len(set(imagenet)) == 998
    assert names["clevr_closest_object_distance"][3] == ""


def test_the_docs_hold_the_table() -> None:
    docs = Path(__file__).resolve().parents[1] / "docs" / "datasets.md"
    if not docs.is_file():
        pytest.skip("the docs are not part of an sdist")
    text = docs.read_text(encoding="utf-8")
    for kind in ("tasks", "collections"):
        table = "\n".join(ls.lines(kind, listing.things(kind), markdown=True))
        assert table in text, f"run 'ensemble-bench ls {kind} --format markdown' and put it into docs/datasets.md"
