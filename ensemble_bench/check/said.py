"""A comparison as text: for a terminal, for the summary page of a CI job, for the test report of a CI server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.etree import ElementTree

from ensemble_bench.check.compare import GONE, IMPROVED, INCOMPARABLE, NEW, OVERALL, REGRESSED, SAME, Change, Comparison, Flip

SHOWN = 10
"""How many flipped samples of a row are named where nobody asked for more."""


def text(comparison: Comparison, shown: int = SHOWN) -> str:
    """What changed, the worst first, and the verdict as the last line."""
    lines = [f"{comparison.candidate} against {comparison.baseline}"]
    for title, verdicts, line in _BLOCKS:
        changes = comparison.of(*verdicts)
        if changes:
            said = [part for one in changes for part in line(one, shown)] if line is _moved else _grouped(changes)
            lines += ["", f"{title} ({len(changes)}):", *(f"  {part}" for part in said)]
    return "\n".join([*lines, "", verdict(comparison), ""])


def verdict(comparison: Comparison) -> str:
    """The last word, one sentence with its counts."""
    counts = {name: len(comparison.of(name)) for name in (REGRESSED, GONE, IMPROVED, SAME, INCOMPARABLE, NEW)}
    said = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    return (
        f"{'FAILED' if comparison.fails else 'passed'}: {said} (level {comparison.rules.level:g}, drop of {_drop(comparison)})"
    )


def _drop(comparison: Comparison) -> str:
    points = 100 * comparison.rules.drop
    return f"{points:g} point{'s' * (points != 1)}"


def row(change: Change) -> str:
    """Which row it is: ``nlc on mini/digits, 1 shot``."""
    where = change.task if change.condition in ("clean", "all") else f"{change.task} under {change.condition}"
    shots = f", {change.shots} shot{'s' * (change.shots != 1)}" if change.shots else ""
    return f"{change.strategy} on {where}{shots}" if change.task != OVERALL else f"{change.strategy} over all tasks{shots}"


def numbers(change: Change) -> str:
    """What moved: ``.853 -> .813 (-4.0 points), 12 lost and 0 gained of 300, p 0.0024``."""
    if change.before is None or change.after is None:
        return change.reason
    if change.task == OVERALL and (change.before > 1 or change.after > 1 or "GFLOPs" in change.reason):
        return f"{change.before:.4g} -> {change.after:.4g}: {change.reason}"
    said = f"{change.before:.3f} -> {change.after:.3f} ({100 * (change.after - change.before):+.1f} points)"
    if change.n and not change.reason:
        said += f", {len(change.lost)} lost and {len(change.gained)} gained of {change.n}"
    if change.p is not None and not change.reason:
        said += f", p {change.p:.2g}"
    return said + (f": {change.reason}" if change.reason else "")


def flips(samples: Sequence[Flip], shown: int = SHOWN) -> str:
    """Samples by name: ``d17 (class 3: 3 -> 8), ... and 2 more``."""
    named = [f"{one.id} (class {one.label}: {one.before} -> {one.after})" for one in samples[:shown]]
    more = len(samples) - len(named)
    return ", ".join(named) + (f", and {more} more" if more else "")


def _moved(change: Change, shown: int) -> list[str]:
    own = change.lost if change.verdict == REGRESSED else change.gained
    return [f"{row(change)}: {numbers(change)}"] + ([f"  {flips(own, shown)}"] if own and shown else [])


def _named(change: Change, shown: int) -> list[str]:
    return [row(change) + (f": {change.reason}" if change.reason else "")]


def _grouped(changes: Sequence[Change]) -> list[str]:
    """A line a row; where many rows of a task share their reason, one line for them."""
    alike: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        alike.setdefault((change.task, change.reason), []).append(change)
    lines = []
    for (task, reason), same in alike.items():
        if len(same) > 3:
            lines.append(f"{task}, {len(same)} rows" + (f": {reason}" if reason else ""))
        else:
            lines += [part for change in same for part in _named(change, 0)]
    return lines


_Line = Callable[[Change, int], list[str]]
_BLOCKS: tuple[tuple[str, tuple[str, ...], _Line], ...] = (
    ("regressed", (REGRESSED,), _moved),
    ("gone", (GONE,), _named),
    ("not comparable", (INCOMPARABLE,), _named),
    ("improved", (IMPROVED,), _moved),
    ("new", (NEW,), _named),
)


def markdown(comparison: Comparison, shown: int = SHOWN) -> str:
    """The same for the summary page of a CI job."""
    mark = "❌" if comparison.fails else "✅"
    lines = [f"### {mark} ensemble-bench: {_safe(verdict(comparison))}", ""]
    lines += [f"`{_code(comparison.candidate)}` against `{_code(comparison.baseline)}`", ""]
    for title, verdicts, _ in _BLOCKS:
        changes = comparison.of(*verdicts)
        if not changes:
            continue
        lines += [f"**{title}** ({len(changes)})", ""]
        if verdicts[0] not in (REGRESSED, IMPROVED):
            lines += [*(f"- {_safe(line)}" for line in _grouped(changes)), ""]
            continue
        for change in changes:
            lines.append(f"- {_safe(row(change))}: {_safe(numbers(change))}")
            own = change.lost if change.verdict == REGRESSED else change.gained
            if own and shown:
                lines.append(f"  - {_safe(flips(own, shown))}")
        lines.append("")
    return "\n".join(lines)


def _safe(said: str) -> str:
    """Text that Markdown shows as it is."""
    return said.replace("\n", " ").translate({ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]<>|#&"})


def _code(said: str) -> str:
    return said.replace("`", "'").replace("\n", " ")


def junit(comparison: Comparison) -> str:
    """The same as a JUnit test report: a suite per strategy, a case per row; what cannot be compared counts as skipped."""
    suites = ElementTree.Element("testsuites", name="ensemble-bench check")
    by: dict[str, list[Change]] = {}
    for change in comparison.changes:
        if change.verdict != NEW:
            by.setdefault(change.strategy, []).append(change)
    for strategy, changes in by.items():
        failures, skipped = sum(change.fails for change in changes), sum(c.verdict == INCOMPARABLE for c in changes)
        counts = {"tests": str(len(changes)), "failures": str(failures), "skipped": str(skipped), "errors": "0"}
        suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(strategy), **counts})
        for change in changes:
            case = ElementTree.SubElement(suite, "testcase", classname=_xml(strategy), name=_xml(row(change)))
            if change.fails:
                failure = ElementTree.SubElement(case, "failure", message=_xml(f"{change.verdict}: {numbers(change)}"))
                failure.text = _xml(flips(change.lost, len(change.lost)))
            elif change.verdict == INCOMPARABLE:
                ElementTree.SubElement(case, "skipped", message=_xml(change.reason))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml(said: str) -> str:
    """Without the characters that XML cannot hold."""
    return "".join(sign if sign in "\t\n\r" or (ord(sign) >= 32 and sign not in "\ufffe\uffff") else "?" for sign in said)
