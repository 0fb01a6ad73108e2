"""Features that were computed once, found again by everything that changes the number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_bench import cache
from ensemble_bench.cache import JSON
from ensemble_bench.errors import BadStore

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1  # of the files: goes up when old ones can no longer be read


def _split(data: bytes) -> tuple[dict[str, JSON], str]:
    """Header of a safetensors file without its metadata, and the digest over that header and all that follows."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    seen = hashlib.sha256(cache.canonical(header).encode())
    seen.update(memoryview(data)[8 + length :])
    return header, seen.hexdigest()


class Store:
    """A folder of safetensors files. A file's name is the sha256 of its key; its header holds the key and a digest of the data.

    ``kind`` is a folder (``features``, ``heads``); a key is a mapping of plain JSON values. Files are written whole or not at
    all and checked when read: one that is truncated, foreign or altered raises BadStore and is never overwritten.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache.root() if root is None else root

    def path(self, kind: str, key: Mapping[str, JSON]) -> Path:
        """Where that key lives."""
        name = cache.sha256({**key, "format": FORMAT})
        return self.root / kind / name[:2] / f"{name}.safetensors"

    def has(self, kind: str, key: Mapping[str, JSON]) -> bool:
        """Whether something is stored under that key; reads nothing, so that a plan is quick."""
        path = self.path(kind, key)
        try:
            path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise cache.trouble(path, error) from error
        return True

    def get(self, kind: str, key: Mapping[str, JSON]) -> dict[str, Tensor] | None:
        """The tensors under that key, or None. Raises BadStore where the file is not what was once put there."""
        path = self.path(kind, key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise cache.trouble(path, error) from error
        try:
            length = int.from_bytes(data[:8], "little")
            stated = json.loads(data[8 : 8 + length])["__metadata__"]
            asked, sound = stated["key"] == cache.canonical(key), stated["sha256"] == _split(data)[1]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._spoilt(path, "it is truncated, or no file of ours") from None
        if not asked:
            raise self._spoilt(path, "it belongs to another key")
        if not sound:
            raise self._spoilt(path, "its data are not those that were stored")

        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return dict(load(data))
        except SafetensorError as error:
            raise self._spoilt(path, str(error)) from error

    @staticmethod
    def _spoilt(path: Path, why: str) -> BadStore:
        return BadStore(f"{path} is spoilt: {why}. Delete it and run again; it will be made anew.")

    def put(self, kind: str, key: Mapping[str, JSON], tensors: Mapping[str, Tensor]) -> None:
        """Store tensors under a key. Two processes may put the same key; the later one wins."""
        from safetensors.torch import save

        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        _, found = _split(save(plain))
        cache.write(self.path(kind, key), save(plain, {"key": cache.canonical(key), "sha256": found}))
