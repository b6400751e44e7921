"""A fix of what a loss is given, in the line that calls it."""

from __future__ import annotations

import pytest

from modelsummary_ipy.notebook.caller_fix import fix_caller
from modelsummary_ipy.records.fixes import Fix

PARAMETERS = ("input", "target", "weight")


@pytest.mark.parametrize(
    ("line", "fix", "fixed"),
    [
        ("    loss=crit(out,y)", "crit(input, target.squeeze(1))", "loss = crit(out, y.squeeze(1))"),
        ("loss += crit(net(x), target=y)", "crit(input, target.long())", "loss += crit(net(x), target=y.long())"),
        ("crit(a[0], b).backward()", "input = input.squeeze(1)", "crit(a[0].squeeze(1), b).backward()"),
        (
            "loss = crit(out, y, w)",
            "crit(torch.nn.functional.interpolate(input, size=target.shape[-2:]), target, weight)",
            "loss = crit(torch.nn.functional.interpolate(out, size=y.shape[-2:]), y, w)",
        ),
        ("loss = crit(*both)", "crit(input, target.squeeze(1))", ""),
        ("loss = crit(out, y) + crit(out, z)", "crit(input, target.squeeze(1))", ""),
        ("for loss in crit(out, y):", "crit(input, target.squeeze(1))", ""),
        ("loss = crit(out, y)", "input = input.t(); target = target.t()", ""),
        ("loss = other(out, y)", "crit(input, target.squeeze(1))", ""),
    ],
)
def test_the_line_is_written_with_the_fix_or_not_at_all(line: str, fix: str, fixed: str) -> None:
    assert fix_caller(line, "crit", PARAMETERS, Fix(fix, None, (), changes_input=True)) == fixed


def test_a_line_of_a_forward_is_not_taken_for_an_argument() -> None:
    assert (
        fix_caller("y = crit(a, b)", "crit", PARAMETERS, Fix("input = input.t()", None, (), changes_input=False)) == ""
    )
