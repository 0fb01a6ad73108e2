"""Files from the network: whole or not at all, gone on with where they broke off, checked by length and by digest.

No shell, nothing executed. ``requests`` is imported when something is really fetched. With ``HF_HUB_OFFLINE`` set (which
``--offline`` does) every function here raises before it touches the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ensemble_bench import cache
from ensemble_bench.errors import BadData, Missing

if TYPE_CHECKING:
    import requests

HUB = "https://huggingface.co"
PAUSE = 1.0  # seconds before the second try; doubled before each further one
TRIES = 5
LONGEST = 60.0  # seconds that a busy server can make us wait
PATIENCE = 10, 60  # seconds to connect, and between two pieces
PIECE = 1 << 16  # bytes that are written at once: what a break can lose
SMALL = 16 << 20  # bytes of a file that is read into memory

_AGAIN = {408, 429, 500, 502, 503, 504}
_CLOSED = {401, 403}
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')

Advance = Callable[[int], object]
Check = Callable[[Path], object]


class Absent(BadData):
    """The server has no such file."""


class _Broken(Exception):
    """The connection or the server failed in a way that another try may mend."""


class _Unreachable(_Broken):
    """There is no connection at all."""


_silent: dict[str, tuple[float, str]] = {}
"""Servers that could not be reached, when that was, and why: the next file of the same run need not wait for them too."""


@dataclass(frozen=True)
class Got:
    """A file that came: its length, its sha256, and the revision of the repository where the hub names it."""

    size: int
    sha256: str
    revision: str | None = None


def offline() -> bool:
    """Whether no network call may be made."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def endpoint() -> str:
    """The hub: ``$HF_ENDPOINT``, else Hugging Face."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def _token() -> str | None:
    """``$HF_TOKEN``, else what ``huggingface-cli login`` left in ``$HF_HOME``."""
    if own := os.environ.get("HF_TOKEN"):
        return own.strip()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (Path(home).expanduser() / "token").read_text(encoding="utf-8").strip() or None
    return None


def _headers(url: str) -> dict[str, str]:
    """Compressed transfer would hide the length; the token goes to the hub only, and never unencrypted."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "ensemble-bench"}
    home, there = urlsplit(endpoint()), urlsplit(url)
    if there.scheme == "https" and there.netloc == home.netloc and (token := _token()):
        headers["Authorization"] = f"Bearer {token}"
    return headers


@contextlib.contextmanager
def _asked(url: str, headers: dict[str, str], *, head: bool = False, follow: bool = True) -> Iterator[requests.Response]:
    """The answer to one request; what another try may mend is raised as ``_Broken``."""
    if offline():
        raise Missing(f"{url} is not fetched, and --offline (HF_HUB_OFFLINE) forbids to fetch it: fetch it once without.")
    import requests
    from urllib3.exceptions import HTTPError

    try:
        ask = requests.head if head else requests.get
        with ask(url, headers=_headers(url) | headers, stream=True, timeout=PATIENCE, allow_redirects=follow) as answer:
            if answer.status_code in _AGAIN:
                _wait(answer.headers.get("Retry-After"))
                raise _Broken(f"it answers {answer.status_code} {answer.reason}")
            yield answer
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
        raise Missing(f"{url} cannot be fetched: {error}.") from None
    except (requests.exceptions.RequestException, HTTPError, ConnectionError, TimeoutError) as error:
        unreachable = re.search("NewConnection|NameResolution|ConnectTimeout", repr(error)) is not None
        raise (_Unreachable if unreachable else _Broken)(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """What went wrong with a connection, in a few words."""
    said = str(error)
    for sign, words in (
        ("NameResolution", "its name is not known here"),
        ("ConnectTimeout", "it does not answer in time"),
        ("Read timed out", "it fell silent"),
        ("refused", "it refuses connections"),
        ("Broken", "the connection broke"),
        ("Incomplete", "the connection broke"),
        ("Connection aborted", "the connection broke"),
        ("SSL", "its certificate or encryption is not accepted"),
        ("Proxy", "the proxy does not let us through"),
        ("unreachable", "the network cannot be reached"),
    ):
        if sign in said:
            return words
    return f"{type(error).__name__}: {said[:120]}"


def _wait(asked: str | None) -> None:
    """Wait as long as a busy server asks for."""
    if asked and asked.strip().isdigit():
        time.sleep(min(float(asked), LONGEST))


def _refused(url: str, answer: requests.Response) -> Missing:
    if answer.status_code in _CLOSED:
        return Missing(f"{url} is not open to everyone ({answer.status_code}): set HF_TOKEN to a token that may read it.")
    return Missing(f"{url}: the server answers {answer.status_code} {answer.reason}.")


def _tried(url: str, once: Callable[[], Any]) -> Any:
    """The result of ``once``, tried again after growing pauses; at once the same error for LONGEST where nobody is there."""
    reasons: list[str] = []
    host = urlsplit(url).netloc
    if not offline() and host in _silent and time.monotonic() - _silent[host][0] < LONGEST:
        raise Missing(f"{url}: {host} could not be reached a moment ago: {_silent[host][1]}.")
    for attempt in range(TRIES):
        if attempt:
            time.sleep(min(PAUSE * 2 ** (attempt - 1), LONGEST))
        try:
            return once()
        except _Broken as error:
            reasons.append(str(error))
            if isinstance(error, _Unreachable) and attempt == TRIES - 1:
                _silent[host] = time.monotonic(), str(error)
    raise Missing(
        f"{url}: {host} failed {TRIES} times, the last time because {reasons[-1]}. Try again later, from a mirror or "
        "on another network; what came is kept."
    )


def small(url: str) -> bytes | None:
    """The bytes of a small file, or None where the server says that there is none."""

    def once() -> bytes | None:
        with _asked(url, {}) as answer:
            if answer.status_code in (404, 410):
                return None
            if answer.status_code != 200:
                raise _refused(url, answer)
            data = b""
            for piece in answer.iter_content(PIECE):
                data += piece
                if len(data) > SMALL:
                    raise BadData(f"{url} is larger than {SMALL >> 20} MB, which a small text file is not.")
            said = answer.headers.get("Content-Length")
            if said is not None and said.isdigit() and int(said) != len(data):
                raise _Broken("the connection broke")
            return data

    found: bytes | None = _tried(url, once)
    return found


def size(url: str) -> int | None:
    """How many bytes a file has, 0 where the server does not say, None where there is no such file.

    The hub says it before it sends us elsewhere, and the servers that keep its files refuse the question.
    """

    def once() -> int | None:
        with _asked(url, {}, head=True, follow=False) as answer:
            linked = answer.headers.get("X-Linked-Size", "")
            if answer.is_redirect and linked.isdigit():
                return int(linked)
            sent_on = answer.is_redirect
            found = (_said(answer, 0).size or 0) if answer.status_code == 200 else None
        if not sent_on:
            return found
        with _asked(url, {}, head=True) as answer:
            return (_said(answer, 0).size or 0) if answer.status_code == 200 else None

    found: int | None = _tried(url, once)
    return found


def whole(url: str, path: Path, advance: Advance = lambda size: None, check: Check = lambda path: None) -> Got:
    """Fetch a file to ``path``, where it appears only when it is whole and ``check`` (which may raise) has seen it.

    What came before a failure stays beside it as ``NAME.part`` and is gone on with, if the server still has the same file.
    """
    part, about = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    furthest = 0

    def at(place: int) -> None:
        nonlocal furthest
        if place > furthest:
            advance(place - furthest)
            furthest = place

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        said: _Said = _tried(url, lambda: _more(url, part, about, at))
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if said.sha256 is not None and digest != said.sha256:
            _dropped(part, about)
            raise BadData(f"{url} came with the sha256 {digest[:12]}..., the hub says {said.sha256[:12]}...: fetch it again.")
        try:
            check(part)
        except BadData as error:
            _dropped(part, about)
            raise BadData(str(error).replace(str(part), url)) from None
        size = part.stat().st_size
        part.replace(path)
        about.unlink(missing_ok=True)
        cache.settle(path.parent)
    except OSError as error:
        raise cache.trouble(path, error) from error
    return Got(size, digest, said.revision)


def _dropped(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Said:
    """What a server says of a file: by what the same file is known again, its length, its sha256, its revision."""

    mark: str | None
    size: int | None
    sha256: str | None
    revision: str | None


def _said(answer: requests.Response, held: int) -> _Said:
    linked: dict[str, str] = {}
    for one in (*answer.history, answer):
        linked |= {key.lower(): value for key, value in one.headers.items() if key.lower().startswith("x-")}
    mark = answer.headers.get("ETag")
    if mark is None or mark.startswith("W/"):
        mark = answer.headers.get("Last-Modified")
    length = answer.headers.get("Content-Length")
    size = int(length) + held if length is not None and length.isdigit() else None
    digest = _SHA256.fullmatch(linked.get("x-linked-etag", ""))
    linked_size = linked.get("x-linked-size", "")
    return _Said(
        mark,
        int(linked_size) if linked_size.isdigit() else size,
        digest.group(1) if digest else None,
        linked.get("x-repo-commit"),
    )


def _more(url: str, part: Path, about: Path, at: Advance) -> _Said:
    """Fetch what is missing of ``part``; ``_Broken`` where less came than was announced. ``at`` is told how far it is."""
    held, mark = 0, None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        known = json.loads(about.read_text(encoding="utf-8"))
        if known.get("url") == url and known.get("mark"):
            held, mark = part.stat().st_size, str(known["mark"])
    headers = {"Range": f"bytes={held}-", "If-Range": mark} if held and mark else {}
    try:
        return _rest_of(url, part, about, at, held, headers)
    except _Broken as error:
        came = part.stat().st_size if part.exists() else 0
        raise _Broken(f"{error} after {came:,} bytes" if came and "bytes" not in str(error) else str(error)) from None


def _rest_of(url: str, part: Path, about: Path, at: Advance, held: int, headers: dict[str, str]) -> _Said:
    with _asked(url, headers) as answer:
        if answer.status_code in (404, 410):
            raise Absent(f"{url} is not there ({answer.status_code}).")
        if answer.status_code == 416:  # what we hold is not a beginning of what they have
            _dropped(part, about)
            raise _Broken("it has another file than before")
        if answer.status_code not in (200, 206):
            raise _refused(url, answer)
        went_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {held}-")
        if answer.status_code == 206 and not went_on:
            _dropped(part, about)
            raise _Broken("it sends another part than it was asked for")
        held = held if went_on else 0
        said = _said(answer, held)
        cache.write(about, json.dumps({"url": url, "mark": said.mark}).encode())
        with part.open("ab" if went_on else "wb") as file:
            at(file.tell())
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                at(file.tell())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    if said.size is not None and size < said.size:
        raise _Broken(f"it stopped after {size:,} of {said.size:,} bytes")
    if said.size is not None and size > said.size:
        _dropped(part, about)
        raise _Broken(f"it sent {size:,} bytes and had announced {said.size:,}")
    return said
