"""Tasks without a card: ``folder:PATH`` and ``wds:PATH``, made from what lies there."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from ensemble_bench.errors import BadOption
from ensemble_bench.sources.remote import is_url
from ensemble_bench.task import Task

KINDS = {"folder": "folder", "wds": "webdataset"}
PREFIXES = tuple(f"{prefix}:" for prefix in KINDS)


def is_own(text: str) -> bool:
    """Whether a text names data rather than a card."""
    return text.startswith(PREFIXES)


def read(text: str) -> Task:
    """The task of ``folder:PATH`` or ``wds:PATH`` (also an address), whose class names are to be had from its source.

    Nothing is looked at yet. Its name is the prefix, the last part of the path and six digits of a digest of the whole path:
    ``folder-pets-1f3a09``. So two folders of the same name are two tasks, and one that changes stays the same task.
    """
    prefix, _, path = text.partition(":")
    if not path.strip():
        raise BadOption(f"{text!r} names no path: {prefix}:PATH, where PATH holds the data.")
    if prefix == "folder" and is_url(path):
        raise BadOption(f"{text!r}: folders of pictures are read from the disk; from the network there are webdatasets (wds:).")
    on_disk = Path(os.path.expandvars(path)).expanduser()
    place = re.sub(r"(?<=[^/:])/+$", "", path.strip()) if is_url(path) else str(on_disk.resolve())
    plain = re.sub(r"/(tree|raw|resolve)/[^/]+$", "", place) if is_url(place) else place
    last = re.sub(r"[^a-z0-9]+", "-", plain.rpartition("/")[2].lower()).strip("-")[:40]
    digest = hashlib.sha256(place.encode("utf-8", "replace")).hexdigest()[:6]
    return Task(
        name="-".join(part for part in (prefix, last, digest) if part),
        version=1,
        title=f"{prefix}:{place}",
        source=KINDS[prefix],
        options={"root": place},
        classes=(),
        templates=(),
        counts={},
        digests={},
        licence="not stated",
        provenance=f"{place}, without a card",
        card_digest="",
        classes_from="source",
        templates_from="source",
    )
