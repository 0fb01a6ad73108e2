"""A corruption suite: what a card in ``corruptions/`` says, bound to the kernels it names."""

from __future__ import annotations

import fnmatch
import hashlib
import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_bench import cards
from ensemble_bench.cards import Card
from ensemble_bench.condition import Condition
from ensemble_bench.corrupt import registry
from ensemble_bench.errors import BadOption, BadPlugin, BenchError, UnknownName
from ensemble_bench.registry import near

if TYPE_CHECKING:
    from ensemble_bench.pictures import Alter, Picture

SEVERITIES = (1, 2, 3, 4, 5)
KERNELS = 2  # goes up whenever a kernel of ours gives other bytes
ENGINES = {
    "native": "our kernels, randomness of our own",
    "identical": "our kernels, the random draws of imagecorruptions",
    "imagecorruptions": "imagecorruptions itself",
    "disk": "pictures that were corrupted earlier and lie on disk",
}
LIBRARY = "imagenet-c-full"  # the card that holds the amounts of imagecorruptions

Amount = tuple[float, ...]


@dataclass(frozen=True)
class Suite:
    """Corruptions with five amounts each, an engine, and what happens before and after.

    ``side`` is the resolution at which pictures are corrupted (short side resized, middle cropped; None: as they are),
    ``jpeg`` the quality of a JPEG round trip afterwards, ``severities`` which of the five the suite's name alone stands for.
    A suite of the engine ``disk`` has names without amounts.
    """

    name: str
    version: int
    title: str
    engine: str
    amounts: Mapping[str, tuple[Amount, ...]]
    severities: tuple[int, ...]
    side: int | None
    jpeg: int | None
    source: str
    licence: str
    provenance: str
    digest: str

    @property
    def on_disk(self) -> bool:
        """Whether the corrupted pictures are read, not made."""
        return self.engine == "disk"

    def conditions(self, text: str, seed: int = 0) -> tuple[Condition, ...]:
        """The conditions of ``SUITE[:CORRUPTION[:SEVERITY]]``; the last two may be globs, the severity is one of 1 to 5."""
        parts = text.split(":")
        if len(parts) > 3:
            raise BadOption(f"corruptions are asked for as SUITE[:CORRUPTION[:SEVERITY]], not {text!r}.")
        asked = parts[1] if len(parts) > 1 else "*"
        names = fnmatch.filter(self.amounts, asked) if asked not in self.amounts else [asked]
        if not names:
            raise UnknownName(f"the suite {self.name} has no corruption {asked!r}.{near(asked, self.amounts)}")
        severities = self.severities
        if len(parts) == 3 and parts[2] != "*":
            if parts[2] not in map(str, SEVERITIES):
                raise BadOption(f"{text}: a severity is a whole number from 1 to 5, not {parts[2]!r}.")
            severities = (int(parts[2]),)
        return tuple(Condition(self.name, name, severity, seed) for name in names for severity in severities)

    def said(self, condition: Condition) -> dict[str, Any]:
        """What else than the condition's name and seed changes the pictures, as plain JSON values for keys."""
        if self.on_disk:
            return {"suite": [self.version, self.engine]}
        amount = list(self.amounts[condition.corruption][condition.severity - 1])
        made = KERNELS if registry.builtin(condition.corruption) else _source_digest(condition.corruption)
        return {"suite": [self.version, self.engine, made, amount, self.side, self.jpeg]}

    def about(self) -> dict[str, Any]:
        """What a record says of the suite."""
        about = {"name": self.name, "version": self.version, "engine": self.engine, "digest": self.digest}
        return {**about, "conditions": len(self.conditions(self.name))}

    def alter(self, condition: Condition, *, jpeg: bool = True) -> Alter:
        """The function (sample id, picture uint8 [h, w, 3]) -> corrupted picture; the same bytes whenever and wherever it runs.

        ``jpeg=False`` leaves out the round trip (for those who save as JPEG anyway).
        """
        from ensemble_bench import pictures

        if self.on_disk:
            raise BadOption(f"the suite {self.name} reads pictures that lie on disk; it cannot corrupt others.")
        corrupt = _ENGINES[self.engine](condition, self.amounts[condition.corruption][condition.severity - 1])

        def altered(sample: str, picture: Picture) -> Picture:
            shown = picture if self.side is None else pictures.cropped(picture, self.side)
            try:
                out = corrupt(sample, shown)
            except BenchError as error:
                raise type(error)(f"{sample} under {condition}: {error}") from None
            if self.jpeg is not None and jpeg:
                out = pictures.decoded(pictures.encoded(out, self.jpeg), sample)
            return out

        return altered


def legacy_seed(sample: str, condition: Condition) -> int:
    """The 32-bit seed of the reference's stream for this picture: from sample id, corruption, severity and seed alone."""
    text = "\0".join((sample, condition.corruption, str(condition.severity), str(condition.seed)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


def _ours(condition: Condition, amount: Amount, identical: bool) -> Alter:
    from ensemble_bench.corrupt.stream import Stream

    name = condition.corruption
    kernel = registry.load(name)

    def corrupt(sample: str, picture: Picture) -> Picture:
        draws = (
            Stream.identical(legacy_seed(sample, condition))
            if identical
            else Stream.native(sample, name, condition.severity, condition.seed)
        )
        if registry.builtin(name):
            return kernel(picture, amount, draws)  # type: ignore[no-any-return]
        try:
            out: Picture = kernel(picture.copy(), amount, draws)
        except Exception as error:
            raise BadPlugin(f"the corruption {name!r} fails: {error!r}.") from error
        if getattr(out, "dtype", None) != "uint8" or out.shape != picture.shape:
            raise BadPlugin(f"the corruption {name!r} must return uint8 {list(picture.shape)}, like the picture it was given.")
        return out

    return corrupt


def _native(condition: Condition, amount: Amount) -> Alter:
    return _ours(condition, amount, identical=False)


def _identical(condition: Condition, amount: Amount) -> Alter:
    return _ours(condition, amount, identical=True)


def _imagecorruptions(condition: Condition, amount: Amount) -> Alter:
    from ensemble_bench.corrupt.reference import corrupted

    return lambda sample, picture: corrupted(picture, condition.corruption, condition.severity, legacy_seed(sample, condition))


_ENGINES = {"native": _native, "identical": _identical, "imagecorruptions": _imagecorruptions}


def _source_digest(name: str) -> str:
    """Sha256 of the file that defines a plug-in's kernel: an edited one never gets old numbers."""
    try:
        path = inspect.getsourcefile(registry.load(name))
        return hashlib.sha256(Path(str(path)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        raise BadPlugin(f"the source of the corruption {name!r} cannot be read: define it in a file.") from None


def suites(more: tuple[Path, ...] = ()) -> dict[str, Path]:
    """Path of every suite's card by name: the project's, those of plug-ins, those in the user's folders ``more``."""
    return cards.find("corruptions", more)


def _amount(card: Card, key: str, value: Any) -> Amount:
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise card.wrong(key, f"must hold numbers, or lists of numbers, not {number!r}.")
    if not numbers:
        raise card.wrong(key, "holds an empty amount.")
    return tuple(numbers)


def _amounts(card: Card) -> dict[str, tuple[Amount, ...]]:
    table = card.table("amounts")
    if not table:
        raise card.wrong("amounts", "must name at least one corruption.")
    found = {}
    for name, values in table.items():
        key = f"amounts.{name}"
        if name not in registry:
            raise card.wrong(key, f"is no corruption.{near(name, registry)}")
        if not isinstance(values, list):
            raise card.wrong(key, f"must be a list of five amounts, one a severity, not {values!r}.")
        if len(values) != len(SEVERITIES):
            raise card.wrong(key, f"must hold five amounts, one a severity; there are {len(values)}.")
        found[name] = tuple(_amount(card, key, value) for value in values)
        if len({len(amount) for amount in found[name]}) > 1 and name != "zoom_blur":
            raise card.wrong(key, "must hold five amounts of the same length.")
    return found


def _named(card: Card) -> dict[str, tuple[Amount, ...]]:
    """The corruptions of a suite on disk: names only."""
    names = card.texts("corruptions")
    for name in names:
        if any(sign in name for sign in ":/\\*?["):
            raise card.wrong("corruptions", f"must hold names of folders without : / * ? and [, not {name!r}.")
    return dict.fromkeys(names, ())


@cache
def _library() -> Mapping[str, tuple[Amount, ...]]:
    return read(cards.folder("corruptions") / f"{LIBRARY}.toml", LIBRARY).amounts


def read(path: Path, name: str) -> Suite:
    """The suite of one card; whatever is wrong or left over in it is a BadCard that names file and key."""
    card = Card(path)
    if card.text("name") != name:
        raise card.wrong("name", f"must be {name!r}, as the file is called, not {card.text('name')!r}.")
    if ":" in name or name == "clean":
        raise card.wrong("name", "must not hold ':' nor be 'clean'.")
    engine = card.text("engine")
    if engine not in ENGINES:
        raise card.wrong("engine", f"must be one of {', '.join(ENGINES)}, not {engine!r}.")
    side, jpeg = card.integer("side", low=1, default=0), card.integer("jpeg", low=1, default=0)
    if jpeg > 100:
        raise card.wrong("jpeg", f"must be a quality from 1 to 100, not {jpeg}.")
    severities = card.integers("severities", default=SEVERITIES)
    if not set(severities) <= set(SEVERITIES):
        raise card.wrong("severities", f"must be whole numbers from 1 to 5, not {list(severities)}.")
    suite = Suite(
        name=name,
        version=card.integer("version", low=1),
        title=card.text("title"),
        engine=engine,
        amounts=_named(card) if engine == "disk" else _amounts(card),
        severities=severities,
        side=side or None,
        jpeg=jpeg or None,
        source=card.text("source"),
        licence=card.text("licence"),
        provenance=card.text("provenance"),
        digest=card.digest,
    )
    if engine == "disk" and (side or jpeg):
        raise card.wrong("side" if side else "jpeg", "has no meaning for pictures that lie on disk: leave it out.")
    card.end()
    if engine == "imagecorruptions":
        for corruption, amounts in suite.amounts.items():
            if corruption not in _library():
                raise card.wrong(
                    f"amounts.{corruption}", f"is no corruption of imagecorruptions.{near(corruption, _library())}"
                )
            if amounts != _library()[corruption]:
                raise card.wrong(f"amounts.{corruption}", f"must be those of {LIBRARY}: imagecorruptions knows no others.")
    return suite


def chosen(texts: Iterable[str], more: tuple[Path, ...] = (), seed: int = 0) -> tuple[dict[str, Suite], tuple[Condition, ...]]:
    """Suites by name and conditions, in the order asked for, each once: ``SUITE[:CORRUPTION[:SEVERITY]]``, commas, globs.

    Texts ``clean`` are left to the caller. A glob in the place of the suite takes the suites that are not on disk.
    """
    paths = suites(more)
    found: dict[str, Suite] = {}
    conditions: dict[Condition, None] = {}
    for item in (part.strip() for text in texts for part in text.split(",")):
        asked, _, rest = item.partition(":")
        if not item or item == "clean":
            continue
        names = [asked] if asked in paths else fnmatch.filter(paths, asked)
        if not names:
            raise UnknownName(f"no corruption suite is called {asked!r}.{near(asked, [*paths, 'clean'])}")
        several: list[BenchError] = []
        for name in names:
            suite = found.get(name) or read(paths[name], name)
            if suite.on_disk and asked != name:
                continue
            try:
                conditions |= dict.fromkeys(suite.conditions(f"{name}:{rest}" if rest else name, seed))
            except UnknownName as error:  # of several suites, those that have the corruption count
                several.append(error)
                continue
            found[name] = suite
        if len(several) == len(names):
            raise several[0]
    return found, tuple(conditions)
