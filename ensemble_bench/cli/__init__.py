"""The command ``ensemble-bench``: one verb a file, loaded when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from ensemble_bench.errors import BenchError

# Each verb is a module of this package with the same name; what it says of itself stands here, so that help loads nothing.
VERBS = {
    "run": "evaluate backbones and strategies on tasks, print the board",
    "board": "print the board of one or more results folders",
    "ls": "list tasks, collections, backbones, pools, strategies or corruptions",
    "show": "print everything known about one of them",
    "corrupt": "write a corrupted copy of a folder of pictures or a webdataset",
    "export": "write a task as a webdataset that CLIP_benchmark reads",
    "clip-benchmark": "CLIP_benchmark's own command, with our ensembles, tasks and corruptions in it",
    "doctor": "find what would keep a run from working, and say the cure",
}
ALIASES = {"eval": "run", "leaderboard": "board", "list": "ls"}


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
    module = importlib.import_module(f"ensemble_bench.cli.{verb.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"ensemble-bench {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arguments(parser)
    verbatim = getattr(module, "VERBATIM", False)  # somebody else's flags, underscores included
    options = parser.parse_args(rest if verbatim else _flags_with_dashes(rest))
    options.main = module.main
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Run one call; 0 done, 1 a gate failed, 2 the user's to mend (one sentence on standard error), 130 interrupted."""
    words = sys.argv[1:] if words is None else words
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads: threads that wait must not burn the cores
    if not words or words[0] in ("-h", "--help", "help"):
        _parser().print_help()
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("ensemble-bench"))
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
