"""Prediction archives: every form of them is the same archive, and what is wrong with one is said in a sentence."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.lib import format as npy
from numpy.typing import NDArray

from ensemble_bench import archive
from ensemble_bench.archive import Archive
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadArchive, BadData, BadOption, UnknownName

Parts = dict[str, NDArray[Any]]
ODD = ["NaN", "0.10", "true", "1e3", "0x1", "null"]  # names that are no numbers


def parts(form: str = "logits", **changes: Any) -> Parts:
    """The arrays of an archive of three backbones (not in the order of their names), six samples and four classes."""
    draw = np.random.default_rng(3)
    logits = draw.standard_normal((3, 6, 4)).astype(np.float32)
    size = np.exp(logits)
    forms = {"logits": logits, "probabilities": size / size.sum(-1, keepdims=True), "decisions": logits.argmax(-1)}
    made: Parts = {
        "labels": np.array([0, 1, 2, 3, 0, 1]),
        "classes": np.array(["cat", "dog", "ant", "bee"]),
        "backbones": np.array(["z/big", "a/small", "m"]),
        "ids": np.array([f"s{number}" for number in (5, 3, 1, 0, 2, 4)]),
        form: forms[form],
    }
    return {name: np.asarray(array) for name, array in {**made, **changes}.items() if array is not None}


def zipped(path: Path, arrays: Parts, packed: bool = False) -> Path:
    (np.savez_compressed if packed else np.savez)(path, allow_pickle=True, **arrays)
    return path


def folder(path: Path, arrays: Parts, card: str = "schema = 1\n") -> Path:
    path.mkdir()
    for name, array in arrays.items():
        file = path / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)
    (path / "archive.toml").write_text(card, encoding="utf-8")
    return path


def same(one: Archive, other: Archive) -> None:
    """Both hold the same, whether in memory or on disk."""
    a, b = one.cube, other.cube
    assert (a.backbones, a.classes, a.ids, a.has) == (b.backbones, b.classes, b.ids, b.has)
    assert torch.equal(a.labels, b.labels) and torch.equal(a.decisions, b.decisions)
    for form in ("logits", "probabilities"):
        if form in a.has:
            assert torch.equal(getattr(a, form), getattr(b, form))
    if "features" in a.has:
        assert all(torch.equal(x, y) for x, y in zip(a.features, b.features, strict=True))
    for name in ("condition", "split"):
        x, y = getattr(one, name), getattr(other, name)
        assert (x is None) == (y is None) and (x is None or x.tolist() == y.tolist())


FULL = {
    "features/z/big": np.arange(12, dtype=np.float32).reshape(6, 2),
    "features/a/small": np.ones((6, 3), np.float32),
    "features/m": np.zeros((6, 1), np.float16),
    "condition": np.array(ODD),
    "split": np.array(["train", "test", "train", "test", "test", "train"]),
}


@pytest.mark.parametrize("form", archive.FORMS)
def test_what_is_read_is_what_was_saved(form: str, tmp_path: Path) -> None:
    made = parts(form, **FULL)
    found = archive.read(zipped(tmp_path / "mine.npz", made))
    assert found.name == "mine"
    assert found.cube.backbones == ("a/small", "m", "z/big") and found.cube.classes == ("cat", "dog", "ant", "bee")
    assert found.cube.ids == tuple(made["ids"].tolist()) and found.cube.labels.tolist() == made["labels"].tolist()
    assert np.array_equal(getattr(found.cube, form).numpy(), made[form][[1, 2, 0]])
    assert [part.shape[1] for part in found.cube.features] == [3, 1, 2]
    assert found.condition is not None and found.condition.tolist() == ODD
    assert found.query.tolist() == [1, 3, 4]


@pytest.mark.parametrize("form", archive.FORMS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_all_ways_of_saving_are_the_same_archive(
    form: str, on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = parts(form, **FULL)
    first = archive.read(zipped(tmp_path / "mine.npz", made))
    monkeypatch.setattr(archive, "HELD", 0 if on_disk else archive.HELD)
    lists = "classes = ['cat', 'dog', 'ant', 'bee']\ncondition = " + json.dumps(ODD) + "\nnote = 3\n[more]\nx = [1]\n"
    short = {name: array for name, array in made.items() if name not in ("classes", "condition")}
    for path in (
        zipped(tmp_path / "packed.npz", made, packed=True),
        zipped(tmp_path / "loose.npz", made),
        folder(tmp_path / "folder", made),
        folder(tmp_path / "with-card", short, lists),
    ):
        found = archive.read(path)
        lies = found.cube._on_disk is not None
        assert lies == (on_disk and form != "decisions" and path.stem != "packed")
        same(first, found)
    for out in (tmp_path / "again.npz", tmp_path / "again"):
        archive.write(found, out)
        same(first, archive.read(out))


def test_types_and_orders_of_bytes_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = archive.read(zipped(tmp_path / "a.npz", parts("decisions")))
    for number, kind in enumerate(("i1", "u2", ">i4")):
        made = parts("decisions")
        made = {name: array.astype(kind) if array.dtype.kind in "iu" else array for name, array in made.items()}
        made["decisions"] = np.asfortranarray(made["decisions"])
        same(first, archive.read(zipped(tmp_path / f"b{number}.npz", made)))
    logits = parts()["logits"]
    monkeypatch.setattr(archive, "HELD", 0)
    for number, kind in enumerate(("f2", ">f4", "f8")):
        found = archive.read(folder(tmp_path / f"c{number}", parts(logits=logits.astype(kind))))
        assert found.cube._on_disk is not None and found.cube.logits.dtype == torch.float32
        assert np.allclose(found.cube.logits.numpy(), logits[[1, 2, 0]], atol=0.01 if kind == "f2" else 0)
    found = archive.read(folder(tmp_path / "d", parts(logits=np.asfortranarray(logits))))
    assert found.cube._on_disk is None and np.array_equal(found.cube.logits.numpy(), logits[[1, 2, 0]])
    precise = parts("probabilities")["probabilities"].astype(np.float64)
    assert archive.read(folder(tmp_path / "e", parts("probabilities", probabilities=precise))).cube.probabilities.dtype == (
        torch.float64
    )


@pytest.mark.parametrize("rows", [[], [2], [0, 1, 2], [5, 0, 1, 3], [4, 3, 2]])
def test_any_samples_in_any_order_are_read_from_disk(
    rows: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = archive.read(folder(tmp_path / "a", parts(**FULL))).cube
    monkeypatch.setattr(archive, "HELD", 0)
    lazy = archive.read(tmp_path / "a").cube
    assert lazy._on_disk is not None and "logits" in lazy.has
    for one in (lazy.take(rows), lazy.take([3, 2, 1, 0, 5, 4]).take([{3: 0, 2: 1, 1: 2, 0: 3, 5: 4, 4: 5}[r] for r in rows])):
        other = dense.take(rows)
        assert one.ids == other.ids and torch.equal(one.logits, other.logits)
        assert all(torch.equal(x, y) for x, y in zip(one.features, other.features, strict=True))
    two = ["z/big", "a/small"]
    assert torch.equal(lazy.only(two).take(rows).logits, dense.only(two).take(rows).logits)
    assert torch.equal(lazy.take(rows).dense().logits, dense.take(rows).logits)
    pieces = list(lazy.chunks(4))
    assert [len(piece) for piece in pieces] == [4, 2]
    assert torch.equal(torch.cat([piece.logits for piece in pieces], 1), dense.logits)
    assert [piece.decisions.tolist() for piece in lazy.chunks(4, reuse=True)] == [p.decisions.tolist() for p in pieces]


# What is wrong -------------------------------------------------------------------------------------------------------

NAN = parts()["logits"].copy()
NAN[1, 2, 3] = np.nan
WRONG: dict[str, tuple[Parts, str]] = {
    "not a number": (parts(logits=NAN), "logits must be finite; some are NaN or infinite, as those of a/small on 's1'"),
    "infinite": (parts(logits=np.where(np.isnan(NAN), -np.inf, NAN)), "logits must be finite"),
    "too large for float32": (parts(logits=np.where(np.isnan(NAN), 1e300, NAN.astype(np.float64))), "logits must be finite"),
    "negative": (parts("probabilities", probabilities=-parts("probabilities")["probabilities"]), "must lie between 0 and 1"),
    "logits as probabilities": (parts("probabilities", probabilities=parts()["logits"]), "give logits as logits"),
    "all zero": (parts("probabilities", probabilities=np.zeros((3, 6, 4), np.float32)), "must not all be 0 for a sample"),
    "label too high": (parts(labels=np.array([0, 1, 2, 4, 0, 1])), "0 to 3; that of 's0' is 4"),
    "label below": (parts(labels=np.array([0, 1, -1, 3, 0, 1])), "0 to 3; that of 's1' is -1"),
    "decision too high": (parts("decisions", decisions=np.full((3, 6), 4)), "0 to 3, or -1 for no answer; that of 's5' is 4"),
    "decision below": (parts("decisions", decisions=np.full((3, 6), -2)), "or -1 for no answer; that of 's5' is -2"),
    "decisions as floats": (parts("decisions", decisions=np.zeros((3, 6))), "decisions must be whole numbers"),
    "decisions as text": (parts("decisions", decisions=np.full((3, 6), "cat")), "decisions must be whole numbers.*<U3"),
    "labels as text": (parts(labels=np.array(["cat"] * 6)), "labels must be whole numbers"),
    "logits as integers": (parts(logits=np.zeros((3, 6, 4), int)), "logits must be floating point numbers, not int64"),
    "logits as text": (parts(logits=np.full((3, 6, 4), "1.0")), "logits must be floating point numbers, not <U3"),
    "ids as numbers": (parts(ids=np.arange(6)), r"ids must be text \(numpy's str_\), not int64"),
    "ids twice": (parts(ids=np.array(["a", "b", "c", "b", "d", "e"])), "ids must differ from one another; 'b' comes more than"),
    "backbones twice": (parts(backbones=np.array(["a", "b", "a"])), "backbones must differ from one another; 'a'"),
    "classes twice": (parts(classes=np.array(["a", "b", "a", "c"])), "classes must differ from one another; 'a'"),
    "an empty name": (parts(backbones=np.array(["a", "", "b"])), "backbones must be printable and not empty; one is ''"),
    "a bell": (parts(ids=np.array(["a\x07", *"bcdef"])), r"ids must be printable and not empty; one is 'a\\x07'"),
    "a list of lists": (parts(ids=np.array([["a"] * 6])), r"ids must be a list of texts, not an array of shape \[1, 6\]"),
    "objects": (parts(ids=np.array(list("abcdef"), dtype=object)), "ids.npy holds Python objects, which are never read"),
    "a table": (parts(labels=np.zeros(6, [("a", "i4")])), "labels.npy must hold plain numbers or text"),
    "other samples": (parts(labels=np.zeros(5, int)), r"labels must be \[s\] = \[6\], not \[5\]"),
    "other shape": (parts(logits=np.zeros((6, 3, 4), np.float32)), r"logits must be \[b, s, c\] = \[3, 6, 4\], not \[6, 3, 4\]"),
    "flat decisions": (parts("decisions", decisions=np.zeros(18, int)), r"decisions must be \[b, s\] = \[3, 6\], not \[18\]"),
    "both forms": (parts(decisions=np.zeros((3, 6), int)), "exactly one of .*; it has logits and decisions"),
    "no form": (parts(logits=None), "exactly one of decisions, probabilities and logits; it has none of them"),
    "no labels": (parts(labels=None), "it has no labels; an archive needs"),
    "no labels, no ids": (parts(labels=None, ids=None), "it has no labels and no ids"),
    "misspelt": (parts(condtion=np.array(ODD)), "unknown array 'condtion'. Did you mean condition"),
    "nothing": (parts(labels=np.zeros(0, int), ids=np.array([], "U1"), logits=np.zeros((3, 0, 4), "f4")), "at least one backbone"),
    "a condition called all": (parts(condition=np.array(["all"] * 6)), "no condition may be called 'all'"),
    "a mean": (parts(condition=np.array(["mean(x)"] * 6)), r"no condition may begin with 'mean\('"),
    "conditions as numbers": (parts(condition=np.arange(6) / 10), "condition must be text"),
    "a third split": (parts(split=np.array(["train", "test", "val"] * 2)), "split must be train or test, not 'val'"),
    "only train": (parts(split=np.array(["train"] * 6)), "none is left to ask"),
    "confidence above 1": (parts("decisions", confidence=np.full((3, 6), 1.5)), "confidence must lie between 0 and 1"),
    "confidence nan": (parts("decisions", confidence=np.full((3, 6), np.nan)), "confidence must lie between 0 and 1"),
    "confidence of one": (parts("decisions", confidence=np.ones(6)), r"confidence must be \[b, s\] = \[3, 6\], not \[6\]"),
    "features of one": (parts(**{"features/m": np.ones((6, 2), "f4")}), "features of m and none of z/big"),
    "features of nobody": (parts(**{"features/n": np.ones((6, 2), "f4")}), "features/n is of no backbone"),
    "features of others": (parts(**{**FULL, "features/m": np.ones((5, 2), "f4")}), r"features/m must be \[s, d\] = \[6, d\]"),
    "nan features": (parts(**{**FULL, "features/m": np.full((6, 2), np.nan)}), "features.* hold NaN or infinite"),
}


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_a_sentence(
    case: str, as_folder: bool, on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, sentence = WRONG[case]
    monkeypatch.setattr(archive, "HELD", 0 if on_disk else archive.HELD)
    path = folder(tmp_path / "mine", made) if as_folder else zipped(tmp_path / "mine.npz", made)
    with pytest.raises(BadArchive, match=sentence) as caught:
        cube = archive.read(path).cube
        _ = cube.logits if "logits" in cube.has else cube.probabilities  # on disk, values are looked at when they are read
        _ = cube.features
    said = str(caught.value)
    assert str(path) in said and said[-1] in ".?" and "\n" not in said


def bomb(path: Path, name: str, array: bytes, *, packed: bool = True, claim: int | None = None) -> Path:
    """An .npz in which a member ``name`` has these bytes; ``claim`` is what the list says of its size."""
    zipped(path, {key: value for key, value in parts().items() if key != name})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        file.writestr(f"{name}.npy", array)
    if claim is not None:
        data = bytearray(path.read_bytes())
        true = struct.pack("<I", len(array))
        for start in (data.rindex(b"PK\x01\x02") + 24, data.rindex(b"PK\x03\x04") + 22):
            assert data[start : start + 4] == true
            data[start : start + 4] = struct.pack("<I", claim)
        path.write_bytes(data)
    return path


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
    return out.getvalue()


TEN_GB = (3, 6, 150_000_000)
SIZES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "10 GB in a file of 1 KB": (
        lambda path: _with_file(path, "logits.npy", header(TEN_GB) + bytes(800)),
        r"claims 10,800,000,000 bytes of values \(\[3, 6, 150000000\] float32\), and there are 800",
    ),
    "10 GB in a member of 1 KB": (
        lambda path: bomb(path / "a.npz", "logits", header(TEN_GB) + bytes(800), packed=False),
        "claims 10,800,000,000 bytes of values",
    ),
    "10 GB in a packed member": (
        lambda path: bomb(path / "a.npz", "logits", header(TEN_GB) + bytes(800)),
        "claims 10,800,000,000 bytes of values",
    ),
    "4 GB in the list of a packed member": (
        lambda path: bomb(path / "a.npz", "logits", header((3, 6, 4)) + bytes(288), claim=2**32 - 2),
        "claims 4,294,967,294 bytes, which cannot be in a file of",
    ),
    "4 GB in the list of a loose member": (
        lambda path: bomb(path / "a.npz", "logits", header((3, 6, 4)) + bytes(288), packed=False, claim=2**32 - 2),
        "claims 4,294,967,294 bytes, which cannot be in a file of",
    ),
    "a bomb": (
        lambda path: bomb(path / "a.npz", "logits", header((3, 6, 100_000_000 // 72)) + bytes(99_999_936)),
        "has more than 1 MB of packed arrays, which cannot be read in parts",
    ),
    "more than it says": (
        lambda path: _with_file(path, "logits.npy", header((3, 6, 4)) + bytes(289)),
        "claims 288 bytes of values .*, and there are 289",
    ),
    "less than it says": (
        lambda path: _with_file(path, "logits.npy", header((3, 6, 4)) + bytes(287)),
        "claims 288 bytes of values .*, and there are 287",
    ),
    "a negative shape": (lambda path: _with_file(path, "logits.npy", header((3, -6, 4))), "claims the shape"),
    "overflowing": (lambda path: _with_file(path, "logits.npy", header((2**40, 2**40, 4)) + bytes(800)), "claims"),
    "no header": (lambda path: _with_file(path, "logits.npy", b"none"), "logits.npy cannot be read"),
    "an empty file": (lambda path: _with_file(path, "labels.npy", b""), "labels.npy cannot be read"),
    "code in the header": (
        lambda path: _with_file(path, "labels.npy", header((6,)).replace(b"'<f4'", b"exit ")),
        "labels.npy cannot be read",
    ),
    "another version": (lambda path: _with_file(path, "labels.npy", b"\x93NUMPY\x09\x00" + bytes(99)), "version 9.0"),
    "text in the zip": (lambda path: _with_member(path, "readme.txt"), "readme.txt is no array"),
    "one member twice": (lambda path: _twice(path), "comes more than once"),
    "no zip": (lambda path: _written(path / "a.npz", b"PK\x03\x04 and nothing"), "cannot be read: File is not a zip file"),
    "a torn zip": (lambda path: _torn(path), "cannot be read"),
}


def _with_file(path: Path, name: str, data: bytes) -> Path:
    made = folder(path / "a", parts())
    (made / name).write_bytes(data)
    return made


def _with_member(path: Path, name: str) -> Path:
    made = zipped(path / "a.npz", parts())
    with zipfile.ZipFile(made, "a") as file:
        file.writestr(name, b"hello")
    return made


def _twice(path: Path) -> Path:
    made = zipped(path / "a.npz", parts())
    with zipfile.ZipFile(made, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("labels.npy", header((6,), "<i8") + bytes(48))
    return made


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _torn(path: Path) -> Path:
    made = zipped(path / "a.npz", parts(), packed=True)
    data = bytearray(made.read_bytes())
    data[data.index(b"labels.npy") + 30 :][:20] = bytes(20)
    with zipfile.ZipFile(made) as file:
        info = file.getinfo("labels.npy")
    data[info.header_offset + 60 : info.header_offset + 70] = b"\xff" * 10
    made.write_bytes(data)
    return made


@pytest.mark.parametrize("case", SIZES)
def test_what_a_file_claims_is_not_believed(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, sentence = SIZES[case]
    monkeypatch.setattr(archive.arrays, "UNPACKED", 1 << 20)
    path = make(tmp_path)
    with pytest.raises(BadArchive, match=sentence) as caught:
        archive.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_nothing_is_allocated_for_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence comes before the memory is asked for, and before anything is unpacked."""
    largest = 0
    empty = np.empty

    def watched(shape: Any, *more: Any, **others: Any) -> NDArray[Any]:
        nonlocal largest
        largest = max(largest, int(np.prod(shape, dtype=object)))
        return empty(shape, *more, **others)

    monkeypatch.setattr(np, "empty", watched)
    unpacked = 0
    decompress = zlib.decompressobj

    class Counted:
        def __init__(self, *words: Any) -> None:
            self.inner = decompress(*words)

        def decompress(self, *words: Any) -> bytes:
            nonlocal unpacked
            data = self.inner.decompress(*words)
            unpacked += len(data)
            return data

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Counted)
    monkeypatch.setattr(archive.arrays, "UNPACKED", 1 << 26)
    huge = header((3, 6, 1 << 20)) + bytes(3 * 6 * (1 << 20) * 4)
    path = bomb(tmp_path / "a.npz", "logits", huge)
    assert path.stat().st_size < 1 << 20 and len(huge) > 72 << 20
    unpacked = largest = 0
    with pytest.raises(BadArchive, match="packed arrays"):
        archive.read(path)
    assert largest < 1 << 20 and unpacked < 16 << 20


@settings(deadline=None, max_examples=80)
@given(data=some.binary(max_size=400), place=some.floats(0, 1))
def test_a_spoilt_file_is_a_sentence_or_an_archive(tmp_path_factory: pytest.TempPathFactory, data: bytes, place: float) -> None:
    path = zipped(tmp_path_factory.mktemp("spoilt") / "a.npz", parts("decisions"))
    whole = bytearray(path.read_bytes())
    start = int(place * len(whole))
    whole[start : start + len(data)] = data
    path.write_bytes(whole)
    try:
        archive.read(path)
    except BadArchive as error:
        assert "\n" not in str(error)


def test_a_file_that_shrinks_meanwhile_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "HELD", 0)
    cube = archive.read(folder(tmp_path / "a", parts())).cube
    file = tmp_path / "a" / "logits.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(BadArchive, match=r"logits.npy cannot be read: it ends after"):
        _ = cube.logits


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ("schema = 2", "is of schema 2, and this version reads schema 1"),
        ("schema =", "is no valid TOML"),
        ("condition = [0.10, 0.2]", "'condition' must be a list of texts, in quotes; one entry is 0.1"),
        ("condition = [true]", "'condition' must be a list of texts, in quotes; one entry is True"),
        ("clases = ['a']", "unknown list 'clases'. Did you mean classes"),
        ("ids = ['a']", "'ids' stands both in archive.toml and in ids.npy"),
        ("x = " + "[" * 3000 + "]" * 3000, "is no valid TOML"),
    ],
)
def test_a_card_that_cannot_be_used(card: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match=sentence):
        archive.read(folder(tmp_path / "a", parts(), card))


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("hello")
    for name, sentence in (("empty", "it has no archive.toml"), ("a.txt", "must be a folder"), ("none.npz", "is not there")):
        with pytest.raises(BadArchive, match=sentence):
            archive.read(tmp_path / name)


# CSV -----------------------------------------------------------------------------------------------------------------

LINES = """id,label,backbone,prediction,confidence,condition
s2,dog,z,cat,0.5,NaN
s1,cat,z,cat,1,0.10
s1,cat,a,,0,0.10
s2,dog,a,dog,0.25,NaN
"""


def text(path: Path, lines: str) -> Path:
    path.write_text(lines, encoding="utf-8")
    return path


def test_a_table_is_an_archive(tmp_path: Path) -> None:
    found = archive.read(text(tmp_path / "mine.csv", LINES))
    assert found.cube.backbones == ("a", "z") and found.cube.classes == ("cat", "dog") and found.cube.ids == ("s2", "s1")
    assert found.cube.decisions.tolist() == [[1, -1], [0, 0]] and found.cube.labels.tolist() == [1, 0]
    assert found.cube.confidence.tolist() == [[0.25, 0], [0.5, 1]]
    assert found.condition is not None and found.condition.tolist() == ["NaN", "0.10"]
    archive.write(found, tmp_path / "folder")
    same(found, archive.read(tmp_path / "folder"))


def test_classes_that_are_numbers_come_in_their_order(tmp_path: Path) -> None:
    lines = "\ufeffbackbone,id,prediction,label\nb,x,10,9\nb,y,-1,10\nb,z,2,2\n"
    found = archive.read(text(tmp_path / "mine.csv", lines))
    assert found.cube.classes == ("2", "9", "10")
    assert found.cube.labels.tolist() == [1, 2, 0] and found.cube.decisions.tolist() == [[2, -1, 0]]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "it has no column 'id'; the first line must name id, label, backbone, prediction"),
        ("id,label,backbone\n", "it has no column 'prediction'"),
        ("id,label,backbone,prediction,weight\n", "the column 'weight' is unknown"),
        ("id,label,backbone,prediction,id\n", "the column 'id' comes twice"),
        ("id,label,backbone,prediction\n", "it has no row"),
        ("id,label,backbone,prediction\na,x,b\n", "line 2: 3 fields, and the first line names 4 columns"),
        ("id,label,backbone,prediction\na,x,b,x\na,y,c,x\n", "line 3: the label of 'a' is 'y' here and 'x' before"),
        (LINES.replace("s1,cat,a,,0,0.10", "s1,cat,a,,0,0.1"), "the condition of 's1' is '0.1' here and '0.10' before"),
        ("id,label,backbone,prediction\na,x,b,x\na,x,b,y\n", "line 3: 'b' answers 'a' a second time"),
        (LINES + "s3,cat,a,cat,1,NaN\n", "must answer the same samples, and 'z' has 2 of 3: 's3' is not among them"),
        ("id,label,backbone,prediction\na,,b,x\n", "a label is empty or -1"),
        ("id,label,backbone,prediction\na,-1,b,0\n", "a label is empty or -1"),
        (LINES.replace("0.25", "high"), "line 5: the confidence 'high' is no number"),
        (LINES.replace("0.25", "nan"), "confidence must lie between 0 and 1"),
        (LINES.replace("0.25", "7"), "confidence must lie between 0 and 1"),
        (LINES.replace("NaN", ""), "condition must be printable and not empty"),
        (LINES.replace("s2", '"s2'), "is no CSV file"),
    ],
)
def test_a_table_that_cannot_be_used(lines: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match=sentence) as caught:
        archive.read(text(tmp_path / "mine.csv", lines))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_table_in_another_encoding_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(LINES.encode("utf-16"))
    with pytest.raises(BadArchive, match="is no UTF-8 text"):
        archive.read(tmp_path / "a.csv")


# Samples, names ------------------------------------------------------------------------------------------------------


def test_conditions_come_in_natural_order(tmp_path: Path) -> None:
    made = parts("decisions", condition=np.array(["0.10", "inf", "0.9", "c10", "c9", "inf"]))
    found = archive.read(zipped(tmp_path / "a.npz", made))
    assert {name: rows.tolist() for name, rows in found.conditions().items()} == {
        **{"0.10": [0], "0.9": [2]},
        **{"c9": [4], "c10": [3], "inf": [1, 5]},
    }
    assert list(found.conditions()) == ["0.10", "0.9", "c9", "c10", "inf"]


def test_the_support_is_drawn_from_train(tmp_path: Path) -> None:
    made = parts(**{**FULL, "labels": np.array([0, 1, 1, 2, 3, 2]), "split": np.array(["train"] * 4 + ["test"] * 2)})
    found = archive.read(zipped(tmp_path / "a.npz", made))
    with pytest.raises(BadData, match="a: the class 'bee' has 0 training examples"):
        found.supports(1, 5, 0)
    made["labels"] = np.array([3, 1, 0, 2, 3, 2])
    found = archive.read(zipped(tmp_path / "b.npz", made))
    supports = found.supports(1, 3, 0)
    assert [sorted(cube.ids) for cube in supports] == [sorted(made["ids"][:4])] * 3
    assert supports[0].labels.tolist() == [0, 1, 2, 3] and found.query.tolist() == [4, 5]
    with pytest.raises(BadOption, match="--shots must be at least 1"):
        found.supports(0, 1, 0)
    assert archive.read(zipped(tmp_path / "c.npz", parts())).supports(1, 5, 0) == []


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store" / "archives"


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("form", archive.FORMS)
def test_what_is_imported_is_found_by_name(
    form: str, on_disk: bool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "HELD", 0 if on_disk else archive.HELD)
    path = zipped(tmp_path / "mine.npz", parts(form, **FULL))
    assert archive.names() == []
    assert archive.keep(path, "my-clips") == store / "my-clips"
    assert archive.names() == ["my-clips"]
    found = archive.find("my-clips")
    assert found.name == "my-clips"
    same(archive.read(path), found)
    assert sorted(entry.name for entry in store.iterdir()) == ["my-clips"]
    with pytest.raises(BadArchive, match=r"there is already an archive 'my-clips': take another name, or remove .*my-clips"):
        archive.keep(path, "my-clips")
    with pytest.raises(UnknownName, match="'my-clip'. Did you mean my-clips"):
        archive.find("my-clip")
    for name in ("../up", "Mine", "", "a/b"):
        with pytest.raises(BadArchive, match="lower case letters, digits and hyphens"):
            archive.keep(path, name)


def test_an_imported_name_wins_over_a_file(store: Path, tmp_path: Path) -> None:
    archive.keep(zipped(tmp_path / "a.npz", parts()), "mine")
    folder(tmp_path / "mine", parts("decisions"))
    assert "logits" in archive.find("mine").cube.has
    assert "logits" not in archive.find("./mine").cube.has


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_bad_archive_is_not_imported(on_disk: bool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "HELD", 0 if on_disk else archive.HELD)
    path = zipped(tmp_path / "a.npz", parts(logits=NAN))
    with pytest.raises(BadArchive, match="must be finite"):
        archive.keep(path, "mine")
    assert archive.names() == [] and (not store.exists() or not list(store.iterdir()))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    found = archive.read(zipped(tmp_path / "a.npz", parts()))
    for name in ("a.npz", "b"):
        (tmp_path / "b").mkdir(exist_ok=True)
        with pytest.raises(BadArchive, match="is already there"):
            archive.write(found, tmp_path / name)


@pytest.mark.parametrize("name", ["../up", "/root", "a//b", "a/../b"])
def test_a_name_that_would_lead_elsewhere_is_not_written(name: str, tmp_path: Path) -> None:
    features = [torch.ones(2, 2)]
    cube = Cube(
        backbones=[name],
        classes=["x", "y"],
        ids=["1", "2"],
        logits=torch.zeros(1, 2, 2),
        labels=torch.tensor([0, 1]),
        features=features,
    )
    with pytest.raises(BadArchive, match="cannot be written to a file of that name"):
        archive.write(Archive("mine", cube), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_splits_are_joined(tmp_path: Path) -> None:
    cube = archive.read(zipped(tmp_path / "a.npz", parts(**FULL))).cube
    found = archive.joined("mine", {"test": cube.take([1, 3]), "train": cube.take([0, 2, 4])})
    assert found.cube.ids == tuple(cube.ids[row] for row in (1, 3, 0, 2, 4))
    assert found.split is not None and found.split.tolist() == ["test"] * 2 + ["train"] * 3
    archive.write(found, tmp_path / "out.npz")
    same(found, archive.read(tmp_path / "out.npz"))
    assert archive.joined("mine", {"test": cube}).split is None
