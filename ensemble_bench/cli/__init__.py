"""The command ``ensemble-bench``: one verb a file, loaded when it is called."""

from __future__ import annotations

import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from typing import Any

import ensemble_bench
from ensemble_bench.errors import BenchError

# Each verb is a module of this package with the same name, an underscore behind it where that is a keyword; what it says of
# itself stands here, so that help loads nothing.
VERBS = {
    "run": "evaluate backbones and strategies on tasks, print the board",
    "board": "print the board of one or more results folders",
    "diversity": "print how much backbones complement each other, from results folders",
    "claims": "check the claims of the paper on results folders",
    "ls": "list tasks, collections, backbones, pools, strategies or corruptions",
    "show": "print everything known about one of them",
    "evaluate": "strategies on a prediction archive: no images, no weights",
    "import": "check a prediction archive and keep it under a name",
    "export": "write a task as a prediction archive, or as a webdataset that CLIP_benchmark reads",
    "new": "write a distribution to start from: a strategy of your own",
    "check-task": "look for what is wrong with a data set before it costs hours",
    "fetch": "download data sets ahead, so that --offline can do without a network",
    "corrupt": "write a corrupted copy of a folder of pictures or a webdataset",
    "report": "write one HTML page about results: to look at, to show, to send",
    "check": "hold results against a baseline: exit 1 if something got worse",
    "bless": "make results the new baseline, with the reason why",
    "clip-benchmark": "CLIP_benchmark's own command, with our ensembles, tasks and corruptions in it",
    "calibrate": "measure this machine: encoders at their best setting, forecasts of run --dry-run",
    "doctor": "find what would keep a run from working, and say the cure",
}
ALIASES = {"eval": "run", "leaderboard": "board", "list": "ls", "validate": "check-task"}


def _flags_with_dashes(words: Sequence[str]) -> list[str]:
    """Long flags with ``-`` for ``_``, up to their equals sign."""
    plain = []
    for word in words:
        flag, equals, value = word.partition("=")
        plain.append(flag.replace("_", "-") + equals + value if word.startswith("--") else word)
    return plain


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}} {summary}" for verb, summary in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="ensemble-bench",
        usage="ensemble-bench VERB [options]",
        description="How much do CLIP backbones complement each other, and which way of combining them deserves it?",
        epilog=f"verbs:\n{verbs}\n\n'ensemble-bench VERB --help' tells more. Flags without a verb mean 'run'.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser


def _module(verb: str) -> Any:
    name = f"{verb}_" if keyword.iskeyword(verb) else verb.replace("-", "_")
    return importlib.import_module(f"ensemble_bench.cli.{name}")


def parser_of(verb: str, formatter: Any = argparse.RawDescriptionHelpFormatter) -> argparse.ArgumentParser:
    """The parser of one verb; ``formatter`` makes its help."""
    module = _module(verb)
    parser = argparse.ArgumentParser(
        prog=f"ensemble-bench {verb}", description=module.__doc__, formatter_class=formatter, allow_abbrev=False
    )
    module.arguments(parser)
    return parser


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options of one call; ``verb`` says which module's ``main`` is meant."""
    verb, rest = words[0], list(words[1:])
    if verb.startswith("-"):
        verb, rest = "run", list(words)
    verb = ALIASES.get(verb, verb)
    if verb not in VERBS:
        from ensemble_bench.errors import UnknownName
        from ensemble_bench.registry import near

        raise UnknownName(f"there is no verb {verb!r}.{near(verb, [*VERBS, *ALIASES])}")
    module = _module(verb)
    verbatim = getattr(module, "VERBATIM", False)  # somebody else's flags, underscores included
    options = parser_of(verb).parse_args(rest if verbatim else _flags_with_dashes(rest))
    options.main = module.main
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Run one call; 0 done, 1 a gate failed, 2 the user's to mend (one sentence on standard error), 130 interrupted."""
    words = sys.argv[1:] if words is None else words
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads: threads that wait must not burn the cores
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads: what encodes and answers side by side needs them
    if not words or words[0] in ("-h", "--help", "help"):
        _parser().print_help()
        return 0
    if words[0] == "--version":
        print(ensemble_bench.__version__)
        return 0
    try:
        options = parsed(words)
        code: int = options.main(options)
        sys.stdout.flush()
        return code
    except BenchError as error:
        print(f"ensemble-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ensemble-bench: interrupted; what was finished is kept, the same command goes on from there.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away: no more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
