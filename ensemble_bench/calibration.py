"""What has been measured of this machine, kept as JSON in the store's folder; reading it loads no torch.

One file for each processor and version of torch, with one section a device (``cpu``, ``cuda``):

- ``peaks``: GFLOP/s of one thread in large matrix products, by precision;
- ``encoders``: by architecture and precision, the setting that is used here (it is stayed with: same question, same bytes) and
  the milliseconds of one image on one core with it, and as open_clip and CLIP_benchmark do it;
- ``rates``: by backbone and precision, the milliseconds of one core that one image took in the last real run;
- ``deviations``: by weights and precision, 1 - cosine against float32, which ``--precision auto`` goes by;
- ``run``: seconds to start, and seconds of one core for each answered cell.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ensemble_bench import cache

FOLDER = "machine"
SCHEMA = 1


@lru_cache(maxsize=1)
def processor() -> dict[str, str]:
    """Name of the processor, and a digest of what it can do: two with one name may differ in that."""
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = value.strip()
                break
    return {"name": name, "abilities": hashlib.sha256(flags.encode()).hexdigest()[:12]}


def machine() -> dict[str, Any]:
    """What a measurement belongs to: processor and version of torch."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    return {"schema": SCHEMA, "processor": processor(), "torch": torch}


def path() -> Path:
    """Where this machine's measurements are kept."""
    return cache.root() / FOLDER / f"{cache.sha256(machine())[:12]}.json"


def read(device: str = "cpu") -> dict[str, dict[str, Any]]:
    """What is known of a device here: part -> name -> value, empty where nothing was measured. A spoilt file counts as none."""
    try:
        found = json.loads(path().read_text(encoding="utf-8"))["devices"].get(device.partition(":")[0], {})
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return {part: dict(values) for part, values in found.items()} if isinstance(found, dict) else {}


def note(part: str, values: dict[str, Any], device: str = "cpu") -> None:
    """Keep values of one part; other names in it stay. Raises BadStore where the store cannot be written."""
    place = path()
    try:
        whole = json.loads(place.read_text(encoding="utf-8"))
        whole["devices"].setdefault(device.partition(":")[0], {}).setdefault(part, {}).update(values)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        whole = {**machine(), "devices": {device.partition(":")[0]: {part: values}}}
    cache.write(place, (json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def peak(precision: str, device: str = "cpu") -> float | None:
    """GFLOP/s of one thread in a large matrix product, or None where it was not measured here."""
    found = read(device).get("peaks", {}).get(precision)
    return float(found) if isinstance(found, (int, float)) else None


def name(thing: str, precision: str) -> str:
    """The name under which something measured at a precision is kept."""
    return f"{thing} {precision}"
