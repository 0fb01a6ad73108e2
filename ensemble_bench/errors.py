"""The tree of errors that a user can meet. Each is one sentence: what was wrong, where, what is allowed."""

from __future__ import annotations


class BenchError(Exception):
    """The user's to mend: printed as one line, exit code 2. Anything else is ours and keeps its traceback."""


class UnknownName(BenchError):
    """Nothing of that noun has that name; says what is near."""


class BadCard(BenchError):
    """A card that cannot be used; names the file and the key."""


class BadOption(BenchError):
    """An option, a parameter or a configuration that makes no sense, alone or with the others."""


class BadCube(BenchError):
    """Arrays that do not fit together, or values that cannot be."""


class Lacking(BenchError):
    """Something needs more than it was given: features where there are only decisions, labels where there are none."""


class BadPlugin(BenchError):
    """A plug-in that cannot be imported, or breaks a promise of its noun."""


class BadStore(BenchError):
    """A stored file that is truncated, foreign, or not what its name says; or a store that cannot be written."""


class BadWeights(BenchError):
    """A checkpoint that cannot be read, or belongs to another architecture."""


class BadData(BenchError):
    """A data set that is not what its card says: counts, labels, digest, splits."""


class TooFew(BadData):
    """A class has fewer training examples than were asked for: ask for fewer."""


class BadRecord(BenchError):
    """A results folder or record that cannot be read, or that belongs to another configuration."""


class BadArchive(BenchError):
    """A prediction archive that cannot be read, or of which the parts do not fit together; names the file and the array."""


class Missing(BenchError):
    """Something optional is not installed or not fetched; says how to get it."""
