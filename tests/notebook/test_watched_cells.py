"""%%summary watches a cell; %summary alone finds the call that failed last."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tests.notebook.test_magics import refuse, run


def test_a_watched_cell_runs_as_it_would_and_shows_the_calls(shell: InteractiveShell) -> None:
    cell = "for n in (2, 2, 3):\n    y = model(torch.zeros(n, 1, 16, 16))\nz = y.shape[0]\n"
    calls = run(shell, f"%%summary model\n{cell}")
    assert run(shell, "z") == 3
    assert calls.times == [2, 1]
    assert [made.rows[0].inputs[0].shape[0] for made in calls] == [2, 3]
    assert calls.headings()[0].startswith("calls 1–2 · 2 ×")


def test_the_error_of_a_watched_cell_surfaces_after_the_table(shell: InteractiveShell) -> None:
    with capture_output() as said:
        result = shell.run_cell("%%summary model\nmodel(x)\nraise KeyError('mine')\n")
    assert isinstance(result.error_in_exec, KeyError)
    text = said.stdout + "".join(str(output.data.get("text/plain", "")) for output in said.outputs)
    assert "conv0" in text


def test_a_watched_cell_keeps_its_value_its_number_and_its_semicolon(shell: InteractiveShell) -> None:
    def run_numbered(cell: str) -> tuple[Any, str]:
        with capture_output(display=False) as said:
            result = shell.run_cell(cell, store_history=True)
        return result, said.stdout

    number = shell.execution_count
    result, text = run_numbered("%%summary model\ndef where(): return 1\nmodel(x).shape[0] + 41")
    assert result.result == 42
    assert text.index("42") < text.index("Conv2d")
    assert run(shell, "_") == 42
    assert shell.user_ns["_oh"][number] == 42
    named = shell.compile.format_code_name(run(shell, "where.__code__.co_filename"))
    assert named == ("Cell", f"In[{number}]")
    _, quiet = run_numbered("%%summary model\nmodel(x)\n'not shown';")
    assert "not shown" not in quiet


def test_a_watched_cell_that_raises_shows_its_own_lines_alone(shell: InteractiveShell) -> None:
    with capture_output(display=False) as said:
        result = shell.run_cell("%%summary model\nmodel(torch.zeros(1, 3, 8, 8))\n", store_history=True)
    assert isinstance(result.error_in_exec, RuntimeError)
    text = said.stdout + said.stderr
    assert text.count("Traceback") == 1
    for ours in ("magics.py", "watch.py", "calls.py", "cells.py"):
        assert ours not in text
    assert text.index("not reached") < text.index("Traceback")


def test_a_watched_cell_that_is_no_python_is_an_error_and_no_table(shell: InteractiveShell) -> None:
    with capture_output() as said:
        result = shell.run_cell("%%summary model\ny = (\n")
    assert isinstance(result.error_in_exec, SyntaxError)
    assert "not called" not in said.stdout + said.stderr


def test_watching_leaves_nothing_on_the_shell(shell: InteractiveShell) -> None:
    run(shell, "%%summary model --out calls\nmodel(x)")
    with capture_output():
        shell.run_cell("%%summary model\nraise KeyError('mine')")
    assert not {"showtraceback", "showsyntaxerror", "showindentationerror"} & set(vars(shell))
    assert "cache" not in vars(shell.compile)
    assert "quiet" not in vars(shell.displayhook)
    assert run(shell, "len(calls)") == 1


def test_a_training_step_in_a_watched_cell_is_the_training_step(shell: InteractiveShell) -> None:
    run(shell, "import copy; twin = copy.deepcopy(model)")
    step = "o = torch.optim.SGD({0}.parameters(), 0.1); {0}(x).mean().backward(); o.step(); "
    step += "w = {0}.conv0.weight.detach().clone()"
    run(shell, "%%summary model\n" + step.format("model").replace("; ", "\n"))
    seen = run(shell, "w")
    run(shell, step.format("twin"))
    assert bool((run(shell, "w") == seen).all())


def test_summary_alone_shows_the_call_that_failed_three_functions_deep(shell: InteractiveShell) -> None:
    with capture_output():
        shell.run_cell(
            "def step(b): return model(b)\ndef epoch(): return [step(b) for b in [x, torch.zeros(1, 3, 8, 8)]]\n"
            "def train(): return epoch()\ntrain()"
        )
    with capture_output() as said:
        made = shell.run_cell("%summary").result
    assert made.rows[0].inputs[0].shape == (1, 3, 8, 8)
    assert made.error.path == "conv0"
    assert "the call that failed, In [" in said.stdout
    assert "line 1: def step(b): return model(b)" in said.stdout


def test_summary_alone_after_a_loss_that_a_loop_calls_changes_what_it_is_given(shell: InteractiveShell) -> None:
    with capture_output():
        shell.run_cell(
            "from torch import nn\ndef train(criterion):\n    for _ in range(2):\n"
            "        loss = criterion(torch.zeros(8, 10), torch.zeros(8, 1).long())\ntrain(nn.CrossEntropyLoss())"
        )
    with capture_output() as said:
        made = shell.run_cell("%summary").result
    assert "line 4: loss = criterion(torch.zeros(8, 10), torch.zeros(8, 1).long())" in said.stdout
    assert made.error.fix == "criterion(input, target.squeeze(1))"
    fixed = "loss = criterion(torch.zeros(8, 10), torch.zeros(8, 1).long().squeeze(1))"
    assert f"with the fix: {fixed}\n" in said.stdout


@pytest.mark.parametrize(
    ("line", "function", "fix"),
    [
        ("F.cross_entropy(torch.zeros(8, 10), torch.zeros(8, 1).long(), reduction='sum')", "cross_entropy",
         "target = target.squeeze(1)"),
        ("embedding(torch.zeros(3), torch.zeros(4, 5))", "embedding", "input = input.long()"),
    ],
)  # fmt: skip
def test_summary_alone_after_a_function_of_torchs_shows_its_call(
    shell: InteractiveShell, line: str, function: str, fix: str
) -> None:
    with capture_output():
        shell.run_cell(f"import torch.nn.functional as F\nfrom torch.nn.functional import embedding\nloss = {line}")
    with capture_output() as said:
        made = shell.run_cell("%summary").result
    assert f"line 3: loss = {line}" in said.stdout
    assert (made.error.row, made.rows[0].type_name, made.error.fix) == (1, function, fix)


def test_summary_alone_says_that_the_trace_does_not_fail(shell: InteractiveShell) -> None:
    with capture_output():
        shell.run_cell("nn.BCELoss()(torch.full((4, 3), 9.0), torch.zeros(4, 3))")
    with capture_output() as said:
        made = shell.run_cell("%summary").result
    assert made.error is None
    assert (
        "a trace, which has sizes and few values, came to its end: it does not show RuntimeError: all elements of input"
        in said.stdout
    )


def test_a_loss_that_a_line_makes_is_not_called_by_the_name_of_its_class(shell: InteractiveShell) -> None:
    with capture_output():
        shell.run_cell("nn.CrossEntropyLoss()(torch.zeros(4, 12, 50), torch.zeros(4, 12).long())")
    assert run(shell, "%summary").error.fix == "model(input.transpose(1, 2), target)"


def test_summary_alone_sees_through_what_was_raised_because_of_it(shell: InteractiveShell) -> None:
    cell = "try:\n    model(torch.zeros(1, 3, 8, 8))\nexcept RuntimeError as wrong:\n    raise ValueError from wrong"
    with capture_output():
        shell.run_cell(cell)
    assert run(shell, "%summary").error.path == "conv0"


def test_a_slip_of_the_pen_does_not_hide_the_failure(shell: InteractiveShell) -> None:
    with capture_output():
        shell.run_cell("model(torch.zeros(1, 3, 8, 8))")
    refuse(shell, "%summary modle")
    refuse(shell, "%summary model (1, 0)")
    refuse(shell, "%summary model x --precision fp16")  # argparse refuses it
    assert run(shell, "%summary").error.path == "conv0"


def test_summary_alone_without_a_failed_call_says_what_to_give(shell: InteractiveShell) -> None:
    with capture_output():
        shell.run_cell("1 / 0")
    assert "was not raised in a module's call" in refuse(shell, "%summary")


def test_the_same_expression_again_shows_what_is_news(shell: InteractiveShell) -> None:
    def shown(cell: str) -> str:
        with capture_output(display=False) as said:
            result = shell.run_cell(cell, store_history=True)
        result.raise_error()
        return said.stdout.partition("Out[")[0]

    assert shown("%summary model (1, 1, 32, 32)") == ""
    assert shown("%summary model (2, 1, 48, 48)") == ""  # every size moved as its formula says
    assert shown("%summary model (B, 1, 32, 32)") == ""  # names that no other line gave
    assert shown("%summary model (B, 1, 40, 40)") == ""  # and a number where no name was given
    assert shown("%summary model (2, 1, 48, 48)") == ""
    run(shell, "model.conv1 = nn.Conv2d(16, 8, 3)")
    news = shown("%summary model (2, 1, 48, 48)")
    assert "4,800 → 1,320" in news
    assert "conv1" in news
    assert "conv0" not in news
    assert shown("%summary model (2, 1, 48, 48)") == ""
    run(shell, "model.conv1 = nn.Conv2d(16, 4, 3)")
    assert shown("ms = %summary model (2, 1, 48, 48)") == ""
    run(shell, "model = words")
    assert shown("%summary model ids=(1, 4)") == ""  # another model under the old name


def test_the_users_namespace_gains_nothing(shell: InteractiveShell) -> None:
    before = set(shell.user_ns)
    run(shell, "%summary model (1, 1, 32, 32)")
    run(shell, "%summary y_ = nn.functional.relu(model(x))")
    assert {name for name in set(shell.user_ns) - before if not name.startswith("_")} == set()
