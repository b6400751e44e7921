"""Options of a line: its fix, its plan, its training step, one trace alone; and the stop button."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tests.notebook.test_magics import refuse, run

FAILING = """
class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(75, 2)
    def forward(self, x):
        return self.fc(x)
flat = Flat()
"""


def test_the_best_fix_is_shown_as_a_diff_and_offered_as_the_next_cell(shell: InteractiveShell) -> None:
    shell.run_cell(FAILING, store_history=True)
    cell = shell.execution_count - 1
    with capture_output() as said:
        made = shell.run_cell("%summary flat (2, 3, 5, 5) --fix").result
    assert made.error.fix == "return self.fc(x.flatten(1))"
    assert f"+++ b/In [{cell}]\n" in said.stdout
    assert "-        return self.fc(x)\n+        return self.fc(x.flatten(1))\n" in said.stdout
    offered = shell.rl_next_input
    assert offered.startswith("class Flat(nn.Module):")
    shell.run_cell(f"{offered}\nfixed = Flat()(torch.zeros(2, 3, 5, 5)).shape")
    assert shell.user_ns["fixed"] == (2, 2)


def test_without_a_failure_there_is_no_fix_to_show(shell: InteractiveShell) -> None:
    with capture_output() as said:
        shell.run_cell("%summary model x --fix")
    assert "nothing failed" in said.stdout


def test_the_stop_button_shows_the_rows_so_far(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell(
        "import os, signal\n"
        "class Stop(nn.Module):\n"
        "    def forward(self, x):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        return x + 1\n"
        "stopped = nn.Sequential(nn.Linear(4, 4), Stop(), nn.Linear(4, 2))\n"
    )
    ran = shell.run_cell("ms = %summary stopped (2, 4)")
    assert ran.success
    assert [row.status for row in shell.user_ns["ms"].rows if row.kind == "module"] == [
        "failed", "ran", "failed", "unreached",
    ]  # fmt: skip
    shell.run_cell("%summary stopped (2, 4)")
    printed = capsys.readouterr()
    assert "interrupted in 1 (Stop), call 3 of all, at In [" in printed.out
    assert "Traceback" not in printed.out + printed.err
    assert "KeyboardInterrupt" not in printed.out + printed.err


def test_an_interrupted_cell_of_ones_own_is_an_interrupt(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("import os, signal")
    ran = shell.run_cell("%%summary model\nmodel(x)\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(9): pass")
    assert isinstance(ran.error_in_exec, KeyboardInterrupt)
    assert "Conv2d" in capsys.readouterr().out


def test_a_line_may_trace_once(shell: InteractiveShell) -> None:
    made = run(shell, "%summary model x --trace-once")
    assert "traced once, as asked" in str(made)
    assert made.formulas == {}


def test_what_a_training_step_is_made_of_is_typed_or_named(shell: InteractiveShell) -> None:
    run(shell, "import torch; mine = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)")
    line = "%summary model (3, 1, 28, 28) --loss torch.nn.CrossEntropyLoss() --precision bf16-mixed --accumulate 2"
    step = run(shell, f"{line} --optimizer mine").assumed.step
    assert (step.optimizer.name, step.precision, step.accumulate) == ("SGD", "bf16-mixed", 2)
    assert type(step.loss).__name__ == "CrossEntropyLoss"
    assert run(shell, "%summary model (3, 1, 28, 28) --optimizer AdamW-Single").memory.optimizer == "adamw-single"
    assert run(shell, "%summary model (3, 1, 28, 28) --optimizer torch.optim.RAdam").memory.optimizer == "RAdam"
    assert "--accumulate" in refuse(shell, "%summary model (3, 1, 28, 28) --accumulate 0")
    assert "invalid choice: 'int4'" in refuse(shell, "%summary model (3, 1, 28, 28) --precision int4")


def test_a_plan_is_shown_below_the_table_and_only_when_asked_for(shell: InteractiveShell) -> None:
    with capture_output() as said:
        made = shell.run_cell("%summary nets['a'] (4, 1, 64, 64) --memory 1MB --plan").result
    plans = [out for out in said.outputs if "ms-plan" in out.data.get("text/html", "")]
    assert len(plans) == 1
    assert "batch 4: does not fit 1 MB: " in plans[0].data["text/plain"]
    assert "nets[&#x27;a&#x27;].parameters()" in plans[0].data["text/html"]
    with capture_output() as said:
        made.show(plan=True)
    assert sum("ms-plan" in out.data.get("text/html", "") for out in said.outputs) == 1
    with capture_output() as said:
        shell.run_cell("%summary model (4, 1, 64, 64) --memory 1MB")
    assert not [out for out in said.outputs if "ms-plan" in out.data.get("text/html", "")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--plan", "--plan without a budget; expected --memory with a unit; for example --memory 24GB --plan"),
        ("--memory 24 --plan", "--memory 24; expected an amount with a unit; for example --memory 24GB"),
        ("--memory -5GB", "--memory -5GB; expected an amount with a unit; for example --memory 24GB"),
        ("--accumulate -1", "accumulate=-1; expected one or more batches; for example --accumulate 4"),
        ("--memory 24GB --precision fp8", "invalid choice: 'fp8'"),
        ("--memory 24GB --optimizer adamx", "--optimizer adamx; expected one of sgd, momentum, adam"),
    ],
)
def test_what_a_step_can_not_be_made_of_is_refused_in_a_line(shell: InteractiveShell, line: str, message: str) -> None:
    assert message in refuse(shell, f"%summary model (4, 1, 64, 64) {line}")


def test_a_fix_names_the_model_as_the_notebook_does(shell: InteractiveShell) -> None:
    shell.run_cell("from torch import nn\nimport torch\ncnn = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(18, 4))")
    made = shell.run_cell("%summary cnn (2, 1, 5, 5)").result
    assert made.error.fix == "cnn.insert(1, nn.Flatten())"
    shell.run_cell(f"{made.error.fix}\nfixed = cnn(torch.zeros(2, 1, 5, 5)).shape")
    assert shell.user_ns["fixed"] == (2, 4)
