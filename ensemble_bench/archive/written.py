"""A cube as an archive: arrays written backbone by backbone, so that what does not fit into memory need not."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import tomli_w
from numpy.lib import format as npy
from numpy.typing import NDArray

from ensemble_bench import cache
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadArchive

_AT_ONCE = 1 << 22  # scores that are in memory together

Array = NDArray[Any]
Opened = Callable[[str], Any]
"""From the name of an array to a context that gives a file to write it to."""


def write(cube: Cube, more: Mapping[str, Array | None], out: Path, schema: int, card: str) -> None:
    """Write a labelled cube, and whatever else there is of each sample, to ``out``: a ``.npz`` file, or else a folder."""
    for name in cube.backbones if "features" in cube.has else ():
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or str(PurePosixPath(name)) != name:
            raise BadArchive(f"the features of a backbone called {name!r} cannot be written to a file of that name.")
    lists: dict[str, list[str]] = {"classes": list(cube.classes), "backbones": list(cube.backbones)}
    text = {"ids": np.array(cube.ids), **{name: array for name, array in more.items() if array is not None}}
    with _target(out) as temporary:
        if out.suffix == ".npz":
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:

                def member(name: str) -> Any:
                    return archive.open(f"{name}.npy", "w", force_zip64=True)

                _arrays(cube, {**{name: np.array(items) for name, items in lists.items()}, **text}, member)
            return
        temporary.mkdir()

        def file(name: str) -> Any:
            path = temporary / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("wb")

        _arrays(cube, text, file)
        (temporary / card).write_bytes(tomli_w.dumps({"schema": schema, **lists}).encode())


def _arrays(cube: Cube, small: Mapping[str, Array], opened: Opened) -> None:
    b, s, c = cube.shape
    for name, array in {"labels": cube.labels.numpy(), **small}.items():
        with opened(name) as stream:
            npy.write_array(stream, array, allow_pickle=False)
    form = next(name for name in ("logits", "probabilities", "decisions") if name in cube.has)
    if form == "decisions":
        held = {form: cube.decisions.numpy(), **({"confidence": cube.confidence.numpy()} if "confidence" in cube.has else {})}
        for name, array in held.items():
            with opened(name) as stream:
                npy.write_array(stream, array, allow_pickle=False)
    else:
        with opened(form) as stream:
            _streamed(stream, (b, s, c), (getattr(part, form)[0].numpy() for part in _parts(cube, max(1, _AT_ONCE // c))))
    for name in cube.backbones if "features" in cube.has else ():
        parts = [part.features[0].numpy() for part in _parts(cube.only([name]), s)]
        with opened(f"features/{name}") as stream:
            npy.write_array(stream, np.concatenate(parts), allow_pickle=False)


def _parts(cube: Cube, size: int) -> Iterator[Cube]:
    for name in cube.backbones:
        yield from cube.only([name]).chunks(size)


def _streamed(stream: IO[bytes], shape: Sequence[int], blocks: Iterator[Array]) -> None:
    """An array in numpy's format whose values come in blocks, in the order of the file."""
    first = next(blocks)
    header = {"descr": npy.dtype_to_descr(first.dtype), "fortran_order": False, "shape": tuple(shape)}
    npy.write_array_header_1_0(stream, header)
    stream.write(np.ascontiguousarray(first).data)
    for block in blocks:
        stream.write(np.ascontiguousarray(block).data)


@contextmanager
def _target(out: Path) -> Iterator[Path]:
    """A place beside ``out`` that takes its name if all goes well, and is gone if not."""
    if out.exists():
        raise BadArchive(f"{out} is already there: remove it, or give another name.")
    folder = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
        yield folder / "made"
        (folder / "made").rename(out)
        cache.settle(out.parent)
    except OSError as error:
        raise BadArchive(f"{out} cannot be written: {error.strerror or error}.") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
