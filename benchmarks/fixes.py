"""``python -m benchmarks fixes``: failing models with a fix, fixes that run, and those that give what was meant."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.summary import ModelSummary
from tests.diagnosis.test_twins import TWINS
from tests.failing_cases import CASES
from tests.fix_is_true import CHECKED, check_fixes, copy_model


def main(words: Sequence[str] = ()) -> None:
    """Print the shares; words choose models by name."""
    warnings.simplefilter("ignore")
    chosen = [twin for twin in TWINS if not words or any(word in twin.id for word in words)]
    alike = 0
    for twin in chosen:
        error = _explain(twin.broken, twin.inputs)
        repaired = ModelSummary((twin.repaired or twin.broken)(), list(twin.right or twin.inputs))
        want = [spec.shape for spec in repaired.rows[0].outputs]
        found = [spec.shape for spec in error.fixes[0].outputs] if error.fixes else None
        alike += found == want
        if found != want:
            print(f"  {twin.id}: {error.fix or 'no fix'} gives {found}, the twin {want}")
    cases = [case for case in CASES if not words or any(word in case.id for word in words)]
    errors = [_explain(case.make, tuple(Size(i) if isinstance(i, str) else i for i in case.inputs)) for case in cases]
    fixed = sum(bool(error.fixes) for error in errors)
    print(f"failures with a fix: {fixed} of {len(cases)} cases (what needs other sizes has none)")
    ran = sum(CHECKED.values())
    print(f"fixes that run for real: {ran} of {ran}; {len(CHECKED) - ran} more are of models that can't be copied")
    share = alike / max(len(chosen), 1)
    print(f"fixes that give the shape of the repaired twin: {alike} of {len(chosen)} ({share:.0%})")


def _explain(make: Callable[[], nn.Module], inputs: tuple[Any, ...]) -> ForwardError:
    """Explain a failure, and run all its fixes for real: one that does not run raises."""
    model = make()
    ms = ModelSummary(model, list(inputs))
    error, traced = ms.error, ms.pipeline.traced
    assert error is not None
    assert traced.request is not None
    check_fixes(copy_model(model, traced.trace), traced.trace, traced.request.inputs, error)
    return error
