"""``python -m benchmarks recall``: how many bugs of the corpus the rules find, and how often they cry wolf."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

from modelsummary_ipy.summary import ModelSummary
from tests.corpus import BUGS, CLEAN
from tests.zoo import ZOO


def main(words: Sequence[str] = ()) -> None:
    """Print recall by rule, and the share of clean models that carry a warning; words choose rules by name."""
    warnings.simplefilter("ignore")
    found: Counter[str] = Counter()
    missed: list[str] = []
    bugs = [bug for bug in BUGS if not words or any(word.lower() in bug.rule for word in words)]
    for bug in bugs:
        ms = ModelSummary(bug.make(), bug.inputs, **bug.options)
        rows = {(flag.rule, ms.rows[flag.row].path, ms.rows[flag.row].type_name) for flag in ms.flags}
        if (bug.rule, *bug.at) in rows:
            found[bug.rule] += 1
        else:
            missed.append(bug.name)
    total = Counter(bug.rule for bug in bugs)
    print(f"{'rule':<22}{'bugs':>6}{'found':>7}{'recall':>8}")
    for rule, count in sorted(total.items()):
        print(f"{rule:<22}{count:>6}{found[rule]:>7}{found[rule] / count:>8.0%}")
    print(f"{'all':<22}{len(bugs):>6}{sum(found.values()):>7}{sum(found.values()) / max(len(bugs), 1):>8.0%}")
    for name in missed:
        print(f"  missed: {name}")
    clean = [(case.name, ModelSummary(case.make(), case.inputs, **case.options)) for case in CLEAN]
    _print_alarms("look-alikes", clean)
    _print_alarms("real architectures", [(a.name, ModelSummary(a.build(), a.inputs(), mode="train")) for a in ZOO])


def _print_alarms(what: str, summaries: list[tuple[str, ModelSummary]]) -> None:
    alarms = [(name, flag) for name, ms in summaries for flag in ms.flags if flag.severity != "note"]
    warned = len({name for name, _ in alarms})
    noted = sum(any(flag.severity == "note" for flag in ms.flags) for _, ms in summaries)
    share = warned / max(len(summaries), 1)
    print(f"{what}: {warned} of {len(summaries)} carry a warning ({share:.1%}), {noted} a note")
    for name, flag in alarms:
        print(f"  {name}: {flag.rule} at {flag.path!r}: {flag.message}")
