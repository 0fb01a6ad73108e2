"""Members of tar archives, read by name: nothing is unpacked, nothing executed, no name leads out."""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath


def key(name: str) -> str:
    """What the members of one sample have in common: the name up to the first dot of its last part, as webdataset has it.

    >>> key("train/0001.seg.png"), key("a.b/c")
    ('train/0001', 'a.b/c')
    """
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def strange(member: tarfile.TarInfo) -> str | None:
    """Why a member is not read, or None."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        return "its name leads out of the archive"
    return None if member.isfile() else "it is neither a file nor a folder"
