"""``python -m benchmarks [subject] [words]``: what is measured; all subjects if none is named.

``speed`` is the table of times beside the peers, ``first`` the time of a kernel's first summary, ``recall`` the bugs
that the rules find and how often they cry wolf,
``mutations`` the share of mechanically broken models that is flagged, ``formulas`` the leaves with a formula, ``axes``
the operations that the table describes, ``faults`` what exceptions from outside leave behind, ``fixes`` the fixes that
run and give what was meant, ``memory`` the peak of a training step beside a real one's. Run only by name:
``verdicts``, whether random calls of torch's layers pass or fail as for real, ``gpu``, the memory of a training step
beside what a GPU's allocator counts, ``zoos``, the models of torchvision, timm, segmentation-models-pytorch and
small ones of other libraries, where these are there, ``sizes``, their formulas and limits, and ``soak``, what a
thousand runs of the form leave behind. Words choose cases by name; without a subject they choose cases of ``speed``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks import (
    axes,
    faults,
    first,
    fixes,
    formulas,
    gpu,
    memory,
    mutations,
    recall,
    sizes,
    soak,
    speed,
    verdicts,
    zoos,
)

SUBJECTS: dict[str, Callable[[Sequence[str]], None]] = {
    "speed": speed.main,
    "first": first.main,
    "recall": recall.main,
    "mutations": mutations.main,
    "formulas": formulas.main,
    "axes": axes.main,
    "faults": faults.main,
    "fixes": fixes.main,
    "memory": memory.main,
}
#: Take long, or need more than this project's own environment.
BY_NAME: dict[str, Callable[[Sequence[str]], None]] = {
    "verdicts": verdicts.main,
    "gpu": gpu.main,
    "zoos": zoos.main,
    "sizes": sizes.main,
    "soak": soak.main,
}


def main(words: Sequence[str]) -> None:
    """Measure the subject that the first word names; all of them if there are no words."""
    by_name = SUBJECTS | BY_NAME
    if words and words[0] in by_name:
        by_name[words[0]](words[1:])
        return
    if words:
        speed.main(words)
        return
    for name, measure in SUBJECTS.items():
        print(f"== {name} ==\n", flush=True)
        measure(())
        print(flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
