"""The dataset door: our tasks and corruptions as the host's datasets, and its own webdatasets shielded."""

from __future__ import annotations

import gc
import io
import json
import pickle
import socket
import tarfile
import warnings
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

from ensemble_bench import shards, sources
from ensemble_bench.errors import BadData, BadOption, UnknownName
from ensemble_bench.host.running import RUNNING
from ensemble_bench.pictures import encoded
from ensemble_bench.task import Catalogue

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the host's reader leaves its shards open

GREY = np.full((8, 8, 3), 99, dtype=np.uint8)


@pytest.fixture(autouse=True)
def _shards_are_closed() -> Iterator[None]:
    """What the host's reader left open is closed here, and not in another test."""
    yield
    gc.collect()


def build(name: str, **options: Any) -> Any:
    from clip_benchmark.datasets import builder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return builder.build_dataset(name, **options)


@pytest.mark.parametrize("name", ["eb/mini/faces", "eb/mini/faces@mini-c:fog:3"])
def test_the_pictures_are_the_runners(host: Any, name: str) -> None:
    made = build(name, transform=np.asarray)
    task, condition, suite = shards.named(name.removeprefix("eb/"))
    source = sources.of(task)
    index = source.index("test")
    alter = suite.alter(condition) if suite else (lambda sample, picture: picture)
    places = [0, 7, 81, 159]
    wanted = source.pictures("test", [index.ids[n] for n in places])
    for place, picture, (shown, label) in zip(places, wanted, made.__getitems__(places), strict=True):
        assert np.array_equal(shown, alter(index.ids[place], picture)) and label == index.labels[place]
        assert np.array_equal(made[place][0], shown)
    assert len(made) == 160 and made.classes == list(task.classes) and made.templates == list(task.templates)
    assert len(build(name, split="train")) == 40


def test_it_can_be_handed_to_another_process(host: Any) -> None:
    made = build("eb/mini/faces@mini-c:fog:3")
    first = np.asarray(made[3][0])  # the corruption is bound now
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(made))[3][0]), first)


def test_every_module_of_the_host_builds_ours(host: Any) -> None:
    import clip_benchmark.cli
    import clip_benchmark.webdataset_builder

    for module in (clip_benchmark.cli, clip_benchmark.webdataset_builder):
        assert len(module.build_dataset(dataset_name="eb/mini/faces", root="", transform=None, split="test")) == 160
    assert clip_benchmark.cli.dataset_collection["eb/mini"] == [f"eb/{task}" for task in Catalogue().collections["mini"]]


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("eb/mini/facets", {}, UnknownName, "no task is called 'mini/facets'. Did you mean mini/faces"),
        ("eb/mini/faces@mini-c", {}, BadOption, "stands for 6"),
        ("eb/mini/faces", {"split": "val"}, BadOption, "mini/faces has no split 'val', only train and test"),
        ("eb/mini/faces", {"language": "it"}, BadOption, "English; --language it changes nothing"),
        ("cifar10", {"language": "zh"}, BadOption, "templates for --language zh, only for ar, cn, en, it, jp"),
        ("wds/x", {"root": "nowhere"}, BadData, r"there is no folder nowhere.test"),
        ("wds/x", {"root": "https://example.org/a'b"}, BadData, "has a quote, a space or a sign of the shell's"),
    ],
)
def test_bad_names(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, str], error: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("clip_benchmark.datasets.builder.CIFAR10", lambda **options: pytest.fail("it went for the pictures"))
    with pytest.raises(error, match=said):
        build(name, **options)


def test_pictures_of_ones_own_are_a_data_set(host: Any, tmp_path: Path) -> None:
    for place, name in enumerate(("cat", "dog", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name / f"{place}.png").write_bytes(encoded(GREY + place))
    made = build(f"eb/folder:{tmp_path}/pets")
    assert made.classes == ["cat", "dog"] and made.templates == ["a photo of a {c}."]
    assert [(int(np.asarray(picture)[0, 0, 0]), label) for picture, label in made] == [(99, 0), (100, 1), (101, 1)]
    foggy = build(f"eb/folder:{tmp_path}/pets@mini-c:fog:3")
    assert not np.array_equal(np.asarray(foggy[0][0]), np.asarray(made[0][0]))


def test_own_prompts_and_names_count(host: Any, tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"mini/faces": ["one", "two"]}))
    made = build("eb/mini/faces@mini-c:fog:1", custom_template_file=str(file), custom_classname_file=str(file))
    assert made.templates == made.classes == ["one", "two"]
    file.write_text(json.dumps({"eb/mini/faces": ["one"]}))
    with pytest.raises(BadOption, match="2 classes, and the class name file has 1"):
        build("eb/mini/faces", custom_classname_file=str(file))
    with pytest.raises(BadOption, match="has none of eb/mini/digits, mini/digits"):
        build("eb/mini/digits", custom_classname_file=str(file))


# Webdatasets of others ----------------------------------------------------------------------------------------------------


def webdataset(folder: Path, members: list[list[tuple[str, bytes]]], count: str | None = None) -> Path:
    """A webdataset of two classes, one shard a list of members."""
    (folder / "test").mkdir(parents=True)
    for number, own in enumerate(members):
        with tarfile.open(folder / "test" / f"{number}.tar", "w") as tar:
            for name, data in own:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (folder / "test" / "nshards.txt").write_text(count or str(len(members)))
    (folder / "classnames.txt").write_text("cat\ndog\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    return folder


def sample(name: str, label: int = 0) -> list[tuple[str, bytes]]:
    return [(f"{name}.png", encoded(GREY)), (f"{name}.cls", str(label).encode())]


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("ending", ["pkl", "pyd", "pickle", "pth", "extra.pkl"])
def test_a_pickle_is_refused_and_never_run(host: Any, tmp_path: Path, ending: str) -> None:
    trace = tmp_path / "trace"
    shard = [*sample("a"), *sample("b"), (f"b.{ending}", pickle.dumps(Bomb(trace)))]
    made = build("wds/x", root=str(webdataset(tmp_path / "set", [shard])))
    with pytest.raises(BadData, match=r"0\.tar: the sample 'b' has a pickle .*code in data is never run"):
        list(made)
    assert not trace.exists()


def test_workers_are_never_more_than_shards(host: Any, tmp_path: Path) -> None:
    root = webdataset(tmp_path / "set", [sample("a"), sample("b", 1)])
    token = RUNNING.set(args := Namespace(num_workers=4))
    try:
        assert [label for _, label in build("wds/x", root=str(root))] == [0, 1]
    finally:
        RUNNING.reset(token)
    assert args.num_workers == 2


@pytest.mark.parametrize(("count", "said"), [("3", "says '3' shards, and there are 1"), ("many", "says 'many'"), ("0", "'0'")])
def test_a_count_that_lies(host: Any, tmp_path: Path, count: str, said: str) -> None:
    with pytest.raises(BadData, match=said):
        build("wds/x", root=str(webdataset(tmp_path / "set", [sample("a")], count)))


def spoilt(folder: Path, how: str) -> Path:
    if how == "cut":
        root = webdataset(folder, [[*sample("a"), *sample("b")]])
        shard = root / "test" / "0.tar"
        shard.write_bytes(shard.read_bytes()[:1700])
        return root
    if how == "label":
        return webdataset(folder, [[*sample("a"), ("b.png", encoded(GREY)), ("b.cls", b"two")]])
    if how == "seven":
        return webdataset(folder, [[*sample("a"), *sample("b", 7)]])
    if how == "pickle":
        return webdataset(folder, [[*sample("a"), ("a.pkl", pickle.dumps(1))]])
    if how == "climbs":
        return webdataset(folder, [[*sample("a"), *sample("../../outside")]])
    if how in ("more", "less"):
        return webdataset(folder, [sample("a"), sample("b")], "3" if how == "more" else "1")
    return webdataset(folder, [[("a.png", b"no picture"), ("a.cls", b"0")]])


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_spoilt_one_is_a_sentence_and_the_others_go_on(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    bad = ("cut", "label", "seven", "pickle", "climbs", "more", "less", "picture")
    for how in bad:
        spoilt(tmp_path / how, how)
    webdataset(tmp_path / "whole", [[*sample("a"), *sample("b", 1)]])
    words = ["eval", "--model_type", "ensemble_bench", "--model", "single:mini/convnext", "--pretrained", "mini", "--dataset"]
    words += [f"wds/{how}" for how in (*bad, "absent", "whole")]
    words += ["--dataset_root", f"{tmp_path}/{{dataset}}", "--output", f"{tmp_path}/out/{{dataset}}.json", "--quiet"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert host.main([*words, "--num_workers", workers]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ensemble-bench: ")]
    for how, text in (
        ("cut", "unexpected end of data"),
        ("label", "invalid literal"),
        ("seven", "the data have the label 7, but there are 2 class names"),
        ("pickle", "code in data is never run"),
        ("climbs", "the name of the sample '../../outside' leads out of the archive"),
        ("more", "nshards.txt says '3' shards, and there are 2"),
        ("less", "nshards.txt says '1' shards, and there are 2"),
        ("picture", "cannot identify image file"),
        ("absent", "there is no folder"),
    ):
        (line,) = [line for line in said if line.startswith(f"ensemble-bench: wds/{how}: ")]
        assert text in line
    assert said[-1] == "ensemble-bench: 9 of 10 evaluations failed; the others are finished."
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole.json"]
    assert not list(tmp_path.parent.rglob("outside*"))


def silent() -> tuple[socket.socket, str]:
    """A taken port on which nobody listens, and the address of a data set there."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken, f"http://127.0.0.1:{taken.getsockname()[1]}/x"


def test_what_cannot_be_reached_is_a_sentence_and_the_others_go_on(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hub that does not answer, an address with quotes in it, and a download of the host's own that fails."""

    def unreachable(**options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("clip_benchmark.datasets.builder.CIFAR10", unreachable)
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    taken, address = silent()
    with taken:
        for root, said in (
            (address, f"wds/x: Failed to retreive data: is --dataset_root {address} right, and can it be reached?"),
            (f"{address}'; touch exploded; '", "has a quote, a space or a sign of the shell's"),
            (str(tmp_path / "pictures"), "cifar10: CLIP_benchmark cannot fetch or read it: <urlopen error Name or service"),
        ):
            asked = "cifar10" if said.startswith("cifar10") else "wds/x"
            words = ["eval", "--model_type", "ensemble_bench", "--model", "single:mini/convnext", "--pretrained", "mini"]
            words += ["--dataset", asked, "eb/mini/faces", "--dataset_root", root, "--num_workers", "0", "--quiet"]
            assert host.main([*words, "--output", "out/{dataset}.json"]) == 2
            err = capsys.readouterr().err
            assert said in err and err.count("wds/x: wds/x") == 0
            assert "1 of 2 evaluations failed; the others are finished." in err
            assert [path.name for path in Path("out").iterdir()] == ["eb_mini_faces.json"]
    assert not list(tmp_path.rglob("exploded"))


def test_a_language_that_the_host_has_not_is_a_sentence(host: Any, tmp_path: Path) -> None:
    """Else a result would be called Klingon whose prompts are English."""
    root = webdataset(tmp_path / "set", [sample("a"), sample("b", 1)])
    with pytest.raises(
        BadOption, match="wds/x: CLIP_benchmark has no class names and templates for --language tlh, only for ar"
    ):
        build("wds/x", root=str(root), language="tlh")
    assert build("wds/x", root=str(root), language="it").classes == ["cat", "dog"]
