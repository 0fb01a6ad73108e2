"""Webdatasets on a server: fetched whole or not at all, gone on with, verified, never executed; and none of it offline."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import socket
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pytest

from ensemble_bench import cli, fewshot, pictures, runner, sources
from ensemble_bench.errors import BadCard, BadData, BadStore, Missing, TooFew
from ensemble_bench.progress import Progress
from ensemble_bench.request import Request
from ensemble_bench.sources import hub, own
from ensemble_bench.sources.base import Fetched, Wanted
from ensemble_bench.sources.remote import MANIFEST
from ensemble_bench.task import Support, Task

NAMES = ["cat", "dog", "newt"]


@dataclass
class Served:
    """Files below ``folder`` at ``url``. What is set here by path makes the server misbehave; ``seen`` is what it was asked."""

    folder: Path
    url: str = ""
    cuts: dict[str, list[int]] = field(default_factory=dict)  # break off after so many bytes, one answer each
    refusals: dict[str, list[int]] = field(default_factory=dict)  # answer with these statuses, one answer each
    announced: dict[str, int] = field(default_factory=dict)  # lie about the length
    linked: dict[str, str] = field(default_factory=dict)  # redirect, naming this sha256
    ranges: bool = True
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def gets(self, name: str) -> list[str | None]:
        """The ranges in which a file was asked for."""
        return [asked for method, path, asked in self.seen if method == "GET" and path == name]


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A server of a folder while the block runs."""
    served = Served(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def _empty(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": "0", **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()

        def _answer(self, body: bool) -> None:
            name = unquote(urlsplit(self.path).path).lstrip("/")
            served.seen.append((self.command, name, self.headers.get("Range")))
            served.headers.append(dict(self.headers))
            if name in served.linked and not name.startswith("elsewhere/"):
                about = {"X_Linked_Etag": f'"{served.linked[name]}"', "X_Repo_Commit": "c0ffee"}
                about["X_Linked_Size"] = str((served.folder / name).stat().st_size)
                self._empty(302, Location=f"/elsewhere/{quote(name)}", **about)
                return
            if name.startswith("elsewhere/") and not body:
                self._empty(403)  # as the stores behind the hub do
                return
            name = name.removeprefix("elsewhere/")
            if body and served.refusals.get(name):
                self._empty(served.refusals[name].pop(0))
                return
            path = served.folder / name
            if not path.is_file():
                self._empty(404)
                return
            data = path.read_bytes()
            mark = f'"{hashlib.md5(data).hexdigest()}"'
            start, asked = 0, self.headers.get("Range")
            if served.ranges and asked and self.headers.get("If-Range") in (None, mark):
                start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start > len(data):
                self._empty(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("ETag", mark)
            self.send_header("Content-Length", str(served.announced.get(name, len(data)) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if not body:
                return
            stop = served.cuts[name].pop(0) if served.cuts.get(name) else None
            self.wfile.write(data[start:stop])
            if stop is not None or name in served.announced:
                self.close_connection = True

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no news."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# A data set on it ----------------------------------------------------------------------------------------------------


def picture(number: int) -> pictures.Picture:
    return np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def sample(number: int, label: int) -> dict[str, bytes]:
    return {f"s{number:04d}.png": pictures.encoded(picture(number)), f"s{number:04d}.cls": str(label).encode()}


def shard(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def data_set(root: Path, train: int = 8) -> None:
    """Two test shards of 6 samples, ``train`` shards of 9, three classes in turn; names and templates."""
    for number in range(2):
        shard(root / "test" / f"{number}.tar", {k: v for n in range(6) for k, v in sample(6 * number + n, n % 3).items()})
    for number in range(train):
        samples = (sample(100 + 9 * number + n, n % 3) for n in range(9))
        shard(root / "train" / f"{number}.tar", {k: v for one in samples for k, v in one.items()})
    (root / "test" / "nshards.txt").write_text("2\n")
    if train:
        (root / "train" / "nshards.txt").write_text(f"{train}\n")
    (root / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    (root / "zeroshot_classification_templates.txt").write_text("a {c}\na photo of a {c}.\n")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "PAUSE", 0.01)
    monkeypatch.setattr(hub, "PIECE", 500)
    monkeypatch.setattr(hub, "_silent", {})
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT", "ENSEMBLE_BENCH_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "srv").mkdir()
    data_set(tmp_path / "srv" / "pets")
    with serving(tmp_path / "srv") as served:
        yield served


@contextmanager
def no_network() -> Iterator[None]:
    """Every attempt to open a connection fails the test."""

    def refused(*args: object, **kwargs: object) -> None:
        pytest.fail("a network call was made")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        patch.setattr(socket.socket, "connect_ex", refused)
        patch.setattr(socket, "getaddrinfo", refused)
        yield


def task(server: Served, name: str = "pets") -> Task:
    return own.read(f"wds:{server.url}/{name}")


def fetched(one: Task, **wanted: object) -> Fetched:
    return sources.of(one).fetch(Wanted(**wanted), Progress())  # type: ignore[arg-type]


def folder() -> Path:
    (found,) = Path("store", "datasets").iterdir()
    return found


# Fetching ------------------------------------------------------------------------------------------------------------


def test_what_is_fetched_is_what_is_served(server: Served) -> None:
    done = fetched(task(server), whole=True)
    assert (
        done.files == 2 + 2 + 2 + 8 and done.kept == 0 and done.where == str(Path("store/datasets").absolute() / folder().name)
    )
    listed = json.loads((folder() / MANIFEST).read_text())["files"]
    for path in (server.folder / "pets").rglob("*.*"):
        name = path.relative_to(server.folder / "pets").as_posix()
        data = path.read_bytes()
        assert (folder() / name).read_bytes() == data
        assert listed[name]["sha256"] == hashlib.sha256(data).hexdigest() and listed[name]["size"] == len(data)
    assert not list(folder().rglob("*.part*"))
    source = sources.named(sources.of(task(server)))
    assert source.task.classes == tuple(NAMES) and source.task.templates == ("a {c}", "a photo of a {c}.")
    assert source.index("test").ids == tuple(f"s{n:04d}" for n in range(12))
    assert source.index("test").labels == (0, 1, 2) * 4
    for name, shown in zip(("s0011", "s0003"), source.pictures("test", ["s0011", "s0003"]), strict=True):
        assert np.array_equal(shown, picture(int(name[1:])))


def test_again_asks_nothing(server: Served) -> None:
    fetched(task(server), whole=True)
    server.seen.clear()
    again = fetched(task(server), whole=True)
    assert (again.files, again.kept) == (0, 15) and server.seen == []


def test_a_connection_that_breaks_is_gone_on_with(server: Served) -> None:
    name = "pets/test/1.tar"
    size = (server.folder / name).stat().st_size
    server.cuts[name] = [3000, 7000]
    fetched(task(server), shots=0)
    assert server.gets(name) == [None, "bytes=3000-", "bytes=7000-"]
    assert (folder() / "test" / "1.tar").stat().st_size == size


def test_a_broken_download_is_gone_on_with_by_the_next_call(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "pets/test/0.tar"
    server.cuts[name] = [1000 * n for n in range(1, 6)]
    with pytest.raises(
        Missing, match=r"0\.tar: 127\.0\.0\.1:\d+ failed 5 times.*the connection broke after 5,000 bytes.* what came is kept"
    ):
        fetched(task(server), shots=0)
    assert not (folder() / "test" / "0.tar").exists() and (folder() / "test" / "0.tar.part").stat().st_size == 5000
    with pytest.raises(Missing, match=r"of its test split are not fetched: run 'ensemble-bench fetch -t wds:http"):
        sources.of(task(server)).index("test")
    server.seen.clear()
    fetched(task(server), shots=0)
    assert server.gets(name) == ["bytes=5000-"]
    assert len(sources.of(task(server)).index("test").ids) == 12


def test_what_changed_meanwhile_is_fetched_from_the_start(server: Served) -> None:
    name = "pets/test/0.tar"
    server.cuts[name] = [1000] * 5
    with pytest.raises(Missing):
        fetched(task(server), shots=0)
    shard(server.folder / name, {k: v for n in range(6) for k, v in sample(50 + n, n % 3).items()})
    fetched(task(server), shots=0)
    assert (folder() / "test" / "0.tar").read_bytes() == (server.folder / name).read_bytes()


def test_a_server_without_ranges(server: Served) -> None:
    server.ranges = False
    server.cuts["pets/test/0.tar"] = [2000, 4000]
    fetched(task(server), shots=0)
    assert (folder() / "test" / "0.tar").read_bytes() == (server.folder / "pets/test/0.tar").read_bytes()


@pytest.mark.parametrize("more", [700, -20000])
def test_a_wrong_length(server: Served, more: int) -> None:
    name = "pets/test/0.tar"
    server.announced[name] = (server.folder / name).stat().st_size + more
    with pytest.raises((Missing, BadData), match=r"0\.tar(: .* failed 5 times| is cut off| is no whole tar)"):
        fetched(task(server), shots=0)
    assert not (folder() / "test" / "0.tar").exists()
    assert "test/0.tar" not in json.loads((folder() / MANIFEST).read_text())["files"]


def test_a_busy_server_is_asked_again(server: Served) -> None:
    server.refusals = {"pets/classnames.txt": [503, 429], "pets/test/0.tar": [500, 502, 504]}
    assert fetched(task(server), shots=0).files == 6
    server.refusals = {"pets/train/0.tar": [503] * 5}
    with pytest.raises(Missing, match=r"0.tar: .* failed 5 times, the last time because it answers 503"):
        fetched(task(server), whole=True)


@pytest.mark.parametrize(("status", "said"), [(401, "set HF_TOKEN"), (403, "set HF_TOKEN"), (418, "answers 418")])
def test_a_server_that_refuses(server: Served, status: int, said: str) -> None:
    server.refusals = {"pets/test/0.tar": [status]}
    with pytest.raises(Missing, match=said):
        fetched(task(server), shots=0)


def test_a_hub_that_does_not_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/pets"
        with pytest.raises(Missing, match=r"failed 5 times, the last time because it refuses connections"):
            fetched(own.read(f"wds:{address}"))
        with no_network(), pytest.raises(Missing, match=r"could not be reached a moment ago: it refuses connections"):
            fetched(own.read(f"wds:{address}/other"))


def test_the_digest_that_the_hub_names_is_held(server: Served) -> None:
    name = "pets/test/0.tar"
    server.linked[name] = hashlib.sha256((server.folder / name).read_bytes()).hexdigest()
    assert hub.size(f"{server.url}/{name}") == (server.folder / name).stat().st_size
    fetched(task(server), shots=0)
    assert json.loads((folder() / MANIFEST).read_text())["files"]["test/0.tar"]["revision"] == "c0ffee"
    server.linked["pets/test/1.tar"] = "0" * 64
    (folder() / "test" / "1.tar").unlink()
    with pytest.raises(BadData, match=r"1\.tar came with the sha256 .*, the hub says 000000000000"):
        fetched(task(server), shots=0)
    assert not list((folder() / "test").glob("1.tar*"))


def test_what_changes_on_the_disk_is_noticed(server: Served) -> None:
    fetched(task(server), shots=0)
    path = folder() / "test" / "1.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadStore, match=r"1\.tar is not what was fetched .*: remove it and run 'ensemble-bench fetch"):
        sources.of(task(server)).index("test")
    path.unlink()
    assert fetched(task(server), shots=0).files == 1
    assert len(sources.of(task(server)).index("test").ids) == 12
    (folder() / MANIFEST).write_text("{")
    with pytest.raises(BadStore, match=r"manifest\.json is damaged"):
        sources.of(task(server)).index("test")


class Bomb:
    """Would leave a file behind if it were ever unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


def _spoil(root: Path, what: str) -> None:
    import pickle

    path = root / "test" / "1.tar"
    good = {k: v for n in range(6, 12) for k, v in sample(n, n % 3).items()}
    if what == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "pickle":
        shard(path, {**good, "s0006.pkl": pickle.dumps(Bomb())})
    elif what == "climbs":
        shard(path, {**good, "../../../climbs.png": b"x"})
    elif what == "no number":
        shard(path, {**good, "s0099.png": good["s0006.png"], "s0099.cls": b"cat"})
    elif what == "out of range":
        shard(path, {**good, "s0011.cls": b"3"})
    elif what == "claims more":
        (root / "test" / "nshards.txt").write_text("5")
    elif what == "claims less":
        (root / "test" / "nshards.txt").write_text("1")
    elif what == "no claim":
        (root / "test" / "nshards.txt").write_text("many")
    elif what == "gone":
        shutil.rmtree(root)
    elif what == "seven for six":
        (root / "classnames.txt").write_text("cat\ndog\n")
    elif what == "twins":
        (root / "classnames.txt").write_text("cat\ndog\ncat\n")
    elif what == "no names":
        (root / "classnames.txt").unlink()
    elif what == "no placeholder":
        (root / "zeroshot_classification_templates.txt").write_text("a photo")
    elif what == "retrieval":
        (root / "dataset_type.txt").write_text("retrieval\n")


BAD = {
    "cut": r"test/1\.tar is (cut off|no whole tar)",
    "pickle": r"holds 's0006\.pkl': a pickle.*Nothing was executed",
    "climbs": r"holds '\.\./\.\./\.\./climbs\.png': its name leads out of the archive",
    "no number": r"the class of s0099 is 'cat', no number",
    "out of range": r"the test split has the label 3 .* there are 3 classes",
    "claims more": r"nshards\.txt says 5 shards, and .*/test/2\.tar is not there \(404\)",
    "claims less": r"nshards\.txt says 1 shards, and there is a 1\.tar too",
    "no claim": r"nshards\.txt must hold a number of shards, .* not 'many'",
    "gone": r"nshards\.txt is not there: no such split, or no webdataset",
    "seven for six": r"the test split has the label 2 .* there are 2 classes",
    "twins": r"'cat' is number 1 and 3",
    "no names": r"no class names come with the images",
    "no placeholder": r"a template that came with it lacks \"\{c\}\": 'a photo'",
    "retrieval": r"dataset_type.txt says 'retrieval'",
}


ON_DISK = BAD | {
    "claims more": r"nshards\.txt says 5 shards, and there are 2",
    "claims less": r"nshards\.txt says 1 shards, and there are 2",
    "gone": r"bad is not a folder",
}


def _one_is_broken(bad: str, pets: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the whole road: a sentence in its row, exit 2, nothing executed; the other set is measured."""
    words = ["run", "-t", bad, pets, "-b", "mini/vit-16", "-s", "single", "log-avg", "-o", "out"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(said)
    assert said.splitlines()[-1] == "ensemble-bench: 2 cells failed; the others are finished." and "Traceback" not in said
    assert cli.main(["board", "out", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    failed = [row for row in rows if row["task"] == own.read(bad).name]
    assert failed and all(row["value"] is None and row["status"] == "failed" and row["reason"] for row in failed)
    done = [row for row in rows if row["task"] == own.read(pets).name and row["metric"] == "acc1"]
    assert len(done) == 2 and all(row["value"] is not None and row["n"] == 12 for row in done)
    assert not Path("exploded").exists() and not list(Path().resolve().parent.rglob("climbs.png"))


def _nothing_is_half_kept() -> None:
    for place in Path("store", "datasets").iterdir():
        listed = json.loads((place / MANIFEST).read_text())["files"] if (place / MANIFEST).exists() else {}
        for path in place.rglob("*.tar*"):
            data = path.read_bytes()
            assert hashlib.sha256(data).hexdigest() == listed[path.relative_to(place).as_posix()]["sha256"]


@pytest.mark.parametrize("what", BAD)
def test_a_broken_data_set_is_a_row_and_the_others_go_on(server: Served, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(server.folder / "pets", server.folder / "bad")
    _spoil(server.folder / "bad", what)
    _one_is_broken(f"wds:{server.url}/bad", f"wds:{server.url}/pets", BAD[what], capsys)
    _nothing_is_half_kept()


@pytest.mark.parametrize("what", ON_DISK)
def test_a_broken_data_set_on_the_disk_too(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bad", "pets"):
        data_set(Path(name), train=0)
    _spoil(Path("bad"), what)
    with no_network():
        _one_is_broken("wds:bad", "wds:pets", ON_DISK[what], capsys)
    assert not Path("store", "datasets").exists()


def test_a_hub_that_does_not_answer_is_a_row_and_the_others_go_on(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the address would mean something to a shell."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        silent = f'wds:http://127.0.0.1:{taken.getsockname()[1]}/it\'s"; touch exploded; "'
        reason = r"failed 5 times, the last time because it refuses connections.*what came is kept"
        _one_is_broken(silent, f"wds:{server.url}/pets", reason, capsys)
    _nothing_is_half_kept()
    kept = [path.name for place in Path("store", "datasets").iterdir() if "touch" in place.name for path in place.rglob("*")]
    assert set(kept) <= {".lock"}


def test_the_only_data_set_broken_writes_nothing(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "-t", f"wds:{server.url}/nothing", "-b", "mini/vit-16", "-s", "log-avg", "-o", "out"]) == 2
    assert "nshards.txt is not there" in capsys.readouterr().err and not Path("out").exists()


def test_an_address_with_quotes_in_it(server: Served) -> None:
    """No shell ever sees it, and no folder is made that it could climb out to."""
    name = 'it\'s "quoted" $(touch exploded) `x` ; & ü'
    shutil.copytree(server.folder / "pets", server.folder / name)
    for text in (name, quote(name)):
        one = own.read(f"wds:{server.url}/{text}")
        assert fetched(one, shots=0).files == 6
        assert len(sources.named(sources.of(one)).index("test").ids) == 12
    assert not Path("exploded").exists()
    for path in Path("store", "datasets").iterdir():
        assert not set("'\"$`;& ") & set(path.name)


@pytest.mark.parametrize("text", ["ftp://x/y", "file:///etc", "https://", "https://[x/y", "s3://bucket/x"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(BadCard, match="must begin with https:// or http://"):
        fetched(own.read(f"wds:{text}"))


# Names of repositories, mirrors, tokens ------------------------------------------------------------------------------


def carded(**options: object) -> Task:
    """A task with a card that names a repository of the hub."""
    return dataclasses.replace(
        own.read("wds:x"),
        name="vtab/pets",
        options={"repository": "clip-benchmark/wds_pets", **options},
        counts={"train": 72, "test": 12},
        card_digest="1",
    )


def test_a_repository_of_the_hub_and_its_mirrors(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    place = server.folder / "datasets" / "clip-benchmark" / "wds_pets" / "resolve"
    shutil.copytree(server.folder / "pets", place / "main")
    shutil.copytree(server.folder / "pets", place / "c0ffee")
    server.linked = {
        f"datasets/clip-benchmark/wds_pets/resolve/{at}/test/0.tar": hashlib.sha256(
            (place / "main/test/0.tar").read_bytes()
        ).hexdigest()
        for at in ("main", "c0ffee")
    }
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    fetched(carded(), shots=0)
    assert folder().name == "clip-benchmark--wds_pets"
    server.seen.clear()
    fetched(carded())
    asked = {name for _, name, _ in server.seen}
    assert asked and all("/resolve/c0ffee/train/" in name for name in asked), "what comes later is of the same revision"
    shutil.rmtree("store")
    shutil.copytree(server.folder / "pets", server.folder / "mirror" / "wds_pets")
    monkeypatch.setenv("ENSEMBLE_BENCH_MIRROR", f"{server.url}/mirror/")
    server.seen.clear()
    assert fetched(carded(), whole=True).files == 14
    assert all(name.startswith("mirror/wds_pets/") for _, name, _ in server.seen)
    assert folder().name == "clip-benchmark--wds_pets"
    assert len(sources.named(sources.of(carded())).index("test").ids) == 12


def test_the_address_that_the_host_takes(server: Served) -> None:
    shutil.copytree(server.folder / "pets", server.folder / "datasets" / "me" / "pets" / "resolve" / "main")
    one = own.read(f"wds:{server.url}/datasets/me/pets/tree/main")
    assert fetched(one, shots=0).files == 6


@pytest.mark.parametrize("bad", ["pets", "a/b/c", "../x", "a/b;c"])
def test_what_is_no_repository(bad: str) -> None:
    with pytest.raises(BadCard, match=r"must be OWNER/NAME, not"):
        fetched(carded(repository=bad))


def test_the_token_goes_to_the_hub_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert "Authorization" not in hub._headers("https://huggingface.co/datasets/x")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_stored\n")
    assert hub._headers("https://huggingface.co/datasets/x")["Authorization"] == "Bearer hf_stored"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert hub._headers("https://huggingface.co/datasets/x")["Authorization"] == "Bearer hf_secret"
    for other in ("https://mirror.org/x", "http://huggingface.co/x", "https://huggingface.co.evil.org/x"):
        assert "Authorization" not in hub._headers(other)


# Large train splits --------------------------------------------------------------------------------------------------


def by_hand(count: int, seed: int, need: int) -> list[int]:
    """The shards of 9 samples, 3 a class, that give every class ``need`` candidates."""
    return fewshot.ordered(count, seed)[: min(count, -(-need // 3))]


@pytest.mark.parametrize(("shots", "need"), [(1, 4), (2, 8), (3, 16), (4, 16)])
def test_no_more_shards_are_fetched_than_the_shots_need(server: Served, shots: int, need: int) -> None:
    fetched(task(server), shots=shots, seed=5)
    wanted = by_hand(8, 5, need)
    there = {int(path.stem) for path in (folder() / "train").glob("*.tar")}
    assert there == set(wanted)
    candidates = sources.named(sources.of(task(server))).candidates(shots, 5)
    assert candidates.about["shards"] == wanted and candidates.about["of"] == 8
    assert Counter(candidates.index.labels) == dict.fromkeys(range(3), 3 * len(wanted))


@pytest.mark.parametrize("remote", [True, False])
def test_no_more_pictures_are_read_and_encoded_than_the_draws_hold(
    server: Served, remote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 72 train pictures those alone that some draw holds, each once, wherever the split lies."""
    shown: list[str] = []
    original = pictures.decoded

    def decoded(data: bytes, where: str) -> pictures.Picture:
        shown.append(where.rpartition(": ")[2])
        return original(data, where)

    monkeypatch.setattr("ensemble_bench.sources.webdataset.decoded", decoded)
    root = f"wds:{server.url}/pets" if remote else f"wds:{server.folder}/pets"
    asked = Request(
        tasks=(root,), backbones=("mini/vit-16",), strategies=("single", "best-single"), shots=1, draws=3, output=Path("out")
    )
    found = runner.run(asked)
    assert found.failures == []
    supports = json.loads(Path("out", "supports", f"{own.read(root).name}.json").read_text())
    drawn = {name for draw in supports["draws"] for name in draw["ids"]}
    assert sorted(shown) == sorted([*(f"s{n:04d}" for n in range(12)), *drawn]) and len(drawn) < 10
    assert found.work["encodes"] == len(shown)
    if remote:
        there = {int(path.stem) for path in (folder() / "train").glob("*.tar")}
        assert there == set(supports["shards"]) == set(by_hand(8, 0, 4)) and len(there) == 2


def test_to_have_all_of_a_train_split_is_asked_for_by_its_flag(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """An export wants it whole; ``fetch`` without the flag brings what one shot needs, and would never end the sentence."""
    words = ["export", "task", f"wds:{server.url}/pets", "out", "-q"]
    assert cli.main(["fetch", "-t", f"wds:{server.url}/pets", "-q"]) == 0
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "6 of 8 shards of its train split are not fetched: run 'ensemble-bench fetch -t wds:http" in said
    assert "/pets --whole' first." in said and not Path("out").exists()
    assert cli.main([*words, "--test-only"]) == 0
    assert cli.main(["fetch", "-t", f"wds:{server.url}/pets", "--whole", "-q"]) == 0
    assert cli.main([*words[:3], "whole", "-q"]) == 0
    capsys.readouterr()


def test_a_draw_does_not_depend_on_what_happens_to_be_fetched(server: Served) -> None:
    def draws(shots: int) -> list[list[str]]:
        source = sources.named(sources.of(task(server)))
        found = source.candidates(shots, 0)
        return [
            [
                found.index.ids[place]
                for place in fewshot.draw(*found.index, NAMES, shots, seed=0, number=n, stages=found.stages)
            ]
            for n in range(4)
        ]

    fetched(task(server), shots=2)
    two, one = draws(2), draws(1)
    with pytest.raises(Missing, match="of its train split are not fetched"):
        draws(4)
    fetched(task(server), whole=True)
    assert draws(2) == two and draws(1) == one, "more shards at hand change nothing"
    for few, many in zip(two, draws(4), strict=True):
        for label in range(3):
            assert many[4 * label : 4 * label + 2] == few[2 * label : 2 * label + 2], (
                "the support of more shots holds the other"
            )
    for few, many in zip(one, two, strict=True):
        assert few == many[::2]
    assert len({tuple(draw) for draw in one}) > 1


def test_borrowed_examples_are_fetched_with_the_task_that_borrows_them(server: Served) -> None:
    """Only the shards of the lender that the borrowed classes need; what goes wrong there names both."""
    lender = dataclasses.replace(task(server), name="mine/lender", card_digest="1", counts={"train": 72, "test": 12})
    lender = dataclasses.replace(lender, splits=("train", "test"))
    (server.folder / "alone" / "test").mkdir(parents=True)
    for name in ("test/0.tar", "test/1.tar", "test/nshards.txt", "classnames.txt"):
        shutil.copy(server.folder / "pets" / name, server.folder / "alone" / name)
    borrower = dataclasses.replace(task(server, "alone"), name="mine/alone", support=Support("mine/lender", ((2,), (0,), (1,))))
    catalogue = SimpleNamespace(task=lambda name: {"mine/lender": lender}[name])
    done = sources.fetch(borrower, Wanted(shots=1), catalogue, Progress())  # type: ignore[arg-type]
    came = {name for method, name, _ in server.seen if method == "GET" and name.startswith("pets/") and name.endswith(".tar")}
    assert came == {f"pets/train/{number}.tar" for number in by_hand(8, 0, 4)} and done.files >= 4
    shutil.rmtree("store")
    shutil.rmtree(server.folder / "pets")
    with pytest.raises(BadData, match=r"the examples that mine/lender lends mine/alone: .*nshards\.txt is not there"):
        sources.fetch(borrower, Wanted(shots=1), catalogue, Progress())  # type: ignore[arg-type]


def test_small_classes_need_every_shard_and_too_few_are_said(server: Served) -> None:
    fetched(task(server), shots=16)
    assert len(list((folder() / "train").glob("*.tar"))) == 8
    source = sources.named(sources.of(task(server)))
    found = source.candidates(16, 0)
    assert len(fewshot.draw(*found.index, NAMES, 16, seed=0, number=0, stages=found.stages)) == 48
    with pytest.raises(TooFew, match="has 24 training examples, fewer than --shots 25"):
        fewshot.draw(*found.index, NAMES, 25, seed=0, number=0, stages=found.stages)


def test_no_train_split_is_no_support(server: Served) -> None:
    shutil.rmtree(server.folder / "pets" / "train")
    words = ["run", "-t", f"wds:{server.url}/pets", "-b", "mini/vit-16", "-s", "log-avg", "best-single", "-o", "out"]
    assert cli.main(words) == 0
    records = runner.Results(Path("out")).records
    assert {(record.strategy, record.status) for record in records} == {("log-avg", "done"), ("best-single", "not-applicable")}
    assert "no train split to draw them from" in next(r.reason for r in records if r.strategy == "best-single")


# Verbs ---------------------------------------------------------------------------------------------------------------


def test_fetch_then_offline(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """After fetch a run makes no network call at all; what was not fetched is a sentence that says how."""
    one = f"wds:{server.url}/pets"
    assert cli.main(["fetch", "-t", one, "mini/digits", "--shots", "2"]) == 0
    out = capsys.readouterr().out
    assert f"{task(server).name}: 7 files came" in out or "files came" in out
    assert "mini/digits: nothing to fetch" in out
    words = ["run", "-t", one, "-b", "mini/vit-16,mini/vit-8", "-s", "single", "best-single", "--draws", "2", "--offline"]
    with no_network():
        assert cli.main([*words, "--shots", "2", "-o", "out"]) == 0
        supports = json.loads(Path("out", "supports", f"{task(server).name}.json").read_text())
        assert supports["shards"] == by_hand(8, 0, 8) and supports["of"] == 8 and supports["shots"] == 2
        records = runner.Results(Path("out")).records
        digests = {record.support for record in records if record.draw is not None}
        assert (
            digests == {fewshot.digest(draw["ids"]) for draw in supports["draws"]} == {d["digest"] for d in supports["draws"]}
        )
        capsys.readouterr()
        assert cli.main([*words, "--shots", "8", "-o", "more"]) == 2
        assert "of its train split are not fetched: run 'ensemble-bench fetch -t" in capsys.readouterr().err
        assert cli.main(["run", "-t", f"wds:{server.url}/other", "-s", "log-avg", "--offline", "-o", "other"]) == 2
        assert "is not fetched: run 'ensemble-bench fetch -t wds:http" in capsys.readouterr().err
        assert cli.main(["fetch", "-t", f"wds:{server.url}/other", "--offline"]) == 2
        assert "--offline (HF_HUB_OFFLINE) forbids to fetch it" in capsys.readouterr().err


def test_run_fetches_by_itself(server: Served) -> None:
    asked = Request(tasks=(f"wds:{server.url}/pets",), backbones=("mini/vit-16",), strategies=("single",), output=Path("out"))
    found = runner.run(asked)
    assert found.failures == [] and {record.n for record in found.results.records} == {12}
    assert not list((folder() / "train").glob("*.tar")), "no strategy learns, so no train image is needed"
    server.seen.clear()
    assert runner.run(asked).made == 0 and server.seen == []


def test_fetching_parts(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    one = f"wds:{server.url}/pets"

    def there(split: str) -> int:
        return len(list((folder() / split).glob("*.tar")))

    assert cli.main(["fetch", "-t", one, "--support-only"]) == 0
    assert (there("test"), there("train")) == (0, 2)
    assert cli.main(["fetch", "-t", one, "--test-only"]) == 0
    assert (there("test"), there("train")) == (2, 2)
    assert cli.main(["fetch", "-t", one, "--whole"]) == 0
    assert (there("test"), there("train")) == (2, 8)
    assert cli.main(["fetch", "-t", one, f"wds:{server.url}/nowhere"]) == 2
    said = capsys.readouterr()
    assert "0 files came (0.0 MB), 9 were there" in said.out
    assert said.err.splitlines()[-1] == "ensemble-bench: 1 of 2 data sets could not be fetched."
    assert cli.main(["fetch", "-t", one, "--shots", "0"]) == 2


def test_no_more_downloads_at_once_than_shards(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            pools.append(workers)
            super().__init__(workers)

    monkeypatch.setattr("ensemble_bench.sources.remote.ThreadPoolExecutor", Pool)
    fetched(task(server), whole=True)
    assert pools == [2, 4], "two shards of the test split, eight of the other"


def test_the_order_of_downloads_changes_nothing(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker or four, from the last shard or the first: the same samples in the same order."""
    found = []
    for workers in (1, 4):
        monkeypatch.setattr("ensemble_bench.sources.remote.WORKERS", workers)
        fetched(task(server), whole=True)
        source = sources.named(sources.of(task(server)))
        found.append((source.index("test"), source.index("train"), source.said("train")))
        shutil.rmtree("store")
    assert found[0] == found[1]


def test_two_at_once_wait_for_each_other(server: Served) -> None:
    done: list[Fetched] = []
    threads = [threading.Thread(target=lambda: done.append(fetched(task(server), whole=True))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.files for one in done) == [0, 0, 14]
    assert len([name for method, name, _ in server.seen if method == "GET" and name.endswith(".tar")]) == 10
