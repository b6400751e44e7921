"""The lines people type, in a real IPython."""

from __future__ import annotations

import inspect
import os
import signal
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from modelsummary_ipy import summary
from modelsummary_ipy.display.render.formatting import format_short
from modelsummary_ipy.records import retraced
from modelsummary_ipy.records.view import EVERY_LEVEL
from tests.notebook.conftest import SETUP
from tests.tracing.test_time_limit import NOTE, Clock


def run(shell: InteractiveShell, cell: str) -> Any:
    """Run a cell quietly and return its value."""
    with capture_output():
        result = shell.run_cell(cell)
    result.raise_error()
    return result.result


def refuse(shell: InteractiveShell, cell: str) -> str:
    """Run a cell that must be refused, and return what is said: one line, no traceback."""
    with capture_output() as said:
        result = shell.run_cell(cell)
    assert type(result.error_in_exec).__name__ == "UsageError", result
    text = said.stdout + said.stderr
    assert "Traceback" not in text
    assert text.strip().count("\n") == 0
    return text.strip()


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("%summary model (1, 1, 256, 256)", (1, 1, 256, 256)),
        ("%summary model (B=8, 1, H=64, W=64)", (8, 1, 64, 64)),
        ("%summary model (B, 1, H, W)", (2, 1, 40, 48)),
        ("%summary model x", (1, 1, 32, 32)),
        ("%summary model batch", (1, 1, 32, 32)),
        ("%summary model(**batch)", (1, 1, 32, 32)),
        ("%summary model(x, scale=2)", (1, 1, 32, 32)),
        ("%summary model.encode(x, flag=True)", (1, 1, 32, 32)),
        ("%summary nets['a'] (1, 1, 20, 20)", (1, 1, 20, 20)),
        ("%summary nets['a'](x)", (1, 1, 32, 32)),
        ("%summary nn.Conv2d(3, 4, 1) (2, 3, 8, 8)", (2, 3, 8, 8)),
        ("%summary model x=(1, 1, 30, 30) scale=3", (1, 1, 30, 30)),
        ("%summary model np.zeros((1, 1, 9, 9), dtype='float32')", (1, 1, 9, 9)),
        ("%summary model [x]", (1, 1, 32, 32)),
        ("%summary --depth 1 model --ops (1, 1, 20, 20) --columns input,params", (1, 1, 20, 20)),
        ("%summary model x  # as it came", (1, 1, 32, 32)),
        ("%summary words ids=(1, 12):int64 use_cache=False", (1, 12)),
        ("%summary words ids=(1, 12) --dtype int64", (1, 12)),
        ("%summary words ids=(1, 12) --dtype ids=int64", (1, 12)),
        ("%summary words mask=None ids=(1, 12)", (1, 12)),
        ("%summary model **batch", (1, 1, 32, 32)),
        ("%summary model batch scale=2", (1, 1, 32, 32)),
        ("%summary model (B, *x.shape[1:])", (2, 1, 32, 32)),
        ("%summary model [(B, 1, H, W)]", (2, 1, 40, 48)),
        ("%summary model x scale = 2", (1, 1, 32, 32)),
        ("%summary model.encode (1, 1, 20, 20)", (1, 1, 20, 20)),
        ("%summary y = model(x)", (1, 1, 32, 32)),
        ("%summary loss = nn.functional.mse_loss(model(x).mean(), torch.zeros(())) + 0.1", (1, 1, 32, 32)),
        ("%summary model.eval()(x)", (1, 1, 32, 32)),
    ],
)
def test_a_typed_line_gives_the_summary(shell: InteractiveShell, line: str, size: tuple[int, ...]) -> None:
    made = run(shell, line)
    assert type(made).__name__ == "ModelSummary"
    assert made.error is None
    assert made.rows[0].inputs[0].shape == size
    assert made.engine == "fake"


def test_a_method_of_the_models_own_is_what_is_traced(shell: InteractiveShell) -> None:
    made = run(shell, "%summary model.encode(x)")
    assert made.rows[0].outputs[0].shape == (1, 16, 40, 40)
    assert made["conv1"].status == "uncalled"


def test_an_assignment_and_out_keep_the_summary(shell: InteractiveShell) -> None:
    assert run(shell, "ms = %summary model x --out other") is None
    assert run(shell, "ms is other and ms['conv0'].outputs[0].shape") == (1, 16, 40, 40)
    assert "expected a name" in refuse(shell, "%summary model x --out 3x")


@pytest.mark.parametrize(
    "name",
    ["In", "_oh", "_", "_i3", "_12", "__builtins__", "get_ipython", "print", "model", "x", "torch", "alias", "f"],
)
def test_out_takes_no_name_that_is_in_use(shell: InteractiveShell, name: str) -> None:
    run(shell, "import torch; alias = model; f = lambda: 0; _12 = _i3 = 1")
    assert "expected another name" in refuse(shell, f"%summary model x --out {name}")
    assert run(shell, f"type({name}).__name__ != 'ModelSummary'")


@pytest.mark.parametrize("name", ["find_flags", "find_formulas", "build_rows"])
def test_an_interrupt_after_the_trace_shows_the_table_at_once(
    shell: InteractiveShell, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelsummary_ipy.pipeline import findings

    whole, original, times = run(shell, "%summary model x"), getattr(findings, name), []

    def interrupted(*args: Any) -> Any:
        if not times:
            times.append(1)
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(findings, name, interrupted)
    made = run(shell, "%summary model x")
    made = run(shell, "_") if made is None else made
    assert str(made).count("interrupted: formulas and sizes that work were not all searched") == 1
    assert made.pipeline.traced.trace.calls
    assert [row.outputs for row in made.rows] == [row.outputs for row in whole.rows]


def test_out_replaces_a_summary_and_a_plain_value(shell: InteractiveShell) -> None:
    run(shell, "kept = 3")
    for _ in range(2):
        run(shell, "%summary model x --out kept")
        assert run(shell, "type(kept).__name__") == "ModelSummary"


def test_a_trailing_semicolon_is_quiet(shell: InteractiveShell) -> None:
    with capture_output() as said:
        assert shell.run_cell("%summary model x;", store_history=True).result is None
        assert shell.run_cell("%summary model x;  # quiet", store_history=True).result is None
    assert said.stdout == ""
    assert run(shell, "kept = %summary model x;") is None
    assert run(shell, "kept.error is None")  # Python's own semicolon takes nothing away either


def test_a_failure_that_is_kept_is_told_in_a_line(shell: InteractiveShell) -> None:
    with capture_output() as said:
        shell.run_cell("kept = %summary model (1, 3, 8, 8)")
    assert said.stdout.startswith("forward failed in 'conv0' (Conv2d), call 2 of all, at In [")
    assert said.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("cell", "num_tables", "value"),
    [
        ("%summary model x\n%summary model (B, 1, H, W)", 1, "ModelSummary"),
        ("for H in (40, 48):\n    %summary model (B, 1, H, W)", 2, "NoneType"),
        ("def show():\n    %summary model x\nshow()", 1, "NoneType"),
        ("%summary model x;\nkept = %summary model x\nB", 0, "int"),
    ],
)
def test_a_line_whose_value_ipython_does_not_show_is_shown(
    shell: InteractiveShell, cell: str, num_tables: int, value: str
) -> None:
    with capture_output() as said:
        result = shell.run_cell(cell).result
    assert len(said.outputs) == num_tables  # and the cell's value, in the text
    assert type(result).__name__ == value


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%summary model (1, 1, 0, 5)", "0 in size (1, 1, 0, 5)"),
        ("%summary model (1, 1, -4, 5)", "-4 in size"),
        ("%summary model (1, 1, 2.5)", "2.5 in size"),
        ("%summary model (1, 1, $H, $W)", "expected variables by their names; for example %summary model (1, 1, H, W)"),
        ("%summary mdel (1, 1, 4, 4)", "'mdel' is not defined; did you mean model"),
        ("%summary model (N, 1, 4, 4)", "'N' is not defined; expected a number with the name of its dim, N=8"),
        ("%summary model (1, 1, 4, 4) float16", "expected a dtype behind a size, (1, 128):float16"),
        ("%summary model x --loss crossentropy", "expected a loss of yours, or one of torch: nn.CrossEntropyLoss()"),
        ("%summary model (4)", "(4), which is a number; expected a size, or the number alone; for example (4,)"),
        ("%summary Net (1, 1, 4, 4)", "the class Net; expected an instance of it"),
        ("%summary B (1, 1, 4, 4)", "B is an int; expected a torch.nn.Module such as model, words"),
        ("%summary model (1, 1, 4, 4) (1,) (2,)", "3 positional inputs, at most 2 are accepted"),
        ("%summary model y=(1, 1, 4, 4)", "no parameter 'y'; expected forward(x, scale=1)"),
        ("%summary nets['a'] y=(1, 4)", "for example %summary nets['a'] (2, 1, 64, 64)"),
        ("%summary model.encode y=(1, 4)", "for example %summary model.encode (2, 1, 64, 64)"),
        ("%summary model(1, 2, 3)", "a size stands behind the model; for example (1, 2, 3)"),
        ("%summary model(y=1)", "no parameter 'y'"),
        ("%summary model(1 / 0)", "1 / 0: ZeroDivisionError: division by zero"),
        ("%summary model batch x=x", "'x' is given twice"),
        ("%summary model x --dtype float16", "dtypes for inputs that are data"),
        ("%summary model (1, 1, 4, 4) --dtype flot16", "dtype 'flot16'; expected a dtype of torch such as float16"),
        ("%summary model [(B=2, 1), (B=3, 1)]", "dim B is 2, but 3 in scale"),
        ("%summary model x --memory lots", "lots"),
        ("%summary model x --optimizer best", "--optimizer best; expected one of sgd, momentum, adam"),
        ("%summary model x --depth -1", "depth -1"),
        ("%summary model x --depth deep", "'deep' is no number of levels; 2 or all would be"),
        ("%summary --auto on model", "--auto with 'model'"),
        ("%%summary model(x)\npass", "one model whose calls to show"),
        ("%%summary\npass", "one model whose calls to show"),
        ("%summary model (1, 1, 4, 4) --device tpu7", "expected one of cpu, meta; for example --device cpu"),
        ("%summary model (1, 1, 4, 4) --bogus", "no option --bogus"),
        ("%summary model --dept 2 (1, 1, 4, 4)", "no option --dept; did you mean --depth?"),
        ("%summary model -x (1, 1, 4, 4)", "no option -x"),
        ("%summary model -l 2 (1, 1, 4, 4)", "no option -l; did you mean --loss?"),
        ("%summary nets['a'] 2, 1, H=32, 32", "in parentheses; for example %summary nets['a'] (2, 1, H=32, 32)"),
        ("%summary model x, scale=2", "expected spaces between inputs; for example %summary model x scale=2"),
        ("%summary model x --ignore grown", "no rule 'grown'"),
        ("%summary model x --ignore none", "for example --ignore grown-map"),
        ("%summary model x --columns price", "for example --columns input,params"),
        ("%summary model x --expect foo=3", "for example --expect 'B 10'"),
        ("%summary model x --memory lots", "--memory lots; expected an amount with a unit"),
        ("%summary model (1, 1, 4, 4) --mode sleep", "invalid choice: 'sleep'"),
        ("%summary model (1, 1, 4, 4) --depth", "no value behind --depth; expected one; for example --depth 2"),
        ("%summary model (1, 1, 4, 4) --mode eval --out", "for example --out ms"),
        ("%summary model (1, 1, 4, 4) --columns price", "no column 'price'"),
        ("%summary model(x) (1, 1, 4, 4)", "after a call"),
        ("%summary model (1, 1, 4", "unclosed"),
        ("%%summary model x\npass", "one model whose calls to show"),
    ],
)
def test_a_line_that_makes_no_sense_is_one_line_of_usage(shell: InteractiveShell, line: str, says: str) -> None:
    assert says in refuse(shell, line)


@pytest.mark.parametrize(("option", "says"), [("--columns price", "no column 'price'"), ("--depth -2", "depth -2")])
def test_a_view_that_there_is_not_is_told_before_any_work(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, option: str, says: str
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was summarised")

    monkeypatch.setattr(summary, "ModelSummary", work)
    assert says in refuse(shell, f"%summary model x {option}")


def test_a_forward_that_raises_is_a_table_and_no_exception(shell: InteractiveShell) -> None:
    made = run(shell, "%summary model (1, 2, 8, 8)")
    assert made.error.path == "conv0"
    assert made["conv1"].status == "unreached"


def test_config_sets_the_defaults(shell: InteractiveShell) -> None:
    run(shell, "%config SummaryMagics.depth = 1")
    run(shell, "%config SummaryMagics.mode = 'eval'")
    made = run(shell, "%summary model x")
    assert made.view.depth == 1
    assert not made.pipeline.traced.trace.modules[0].training
    assert run(shell, "%summary model x --depth 3 --mode train").view.depth == 3
    assert run(shell, "%summary model x --depth all").view.depth == EVERY_LEVEL
    assert run(shell, "model.training") is True


def test_the_time_for_formulas_is_a_setting(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraced, "work_clock", Clock(1.0))
    assert NOTE in str(run(shell, "%summary model x"))
    run(shell, "%config SummaryMagics.formula_seconds = 1000")
    made = run(shell, "%summary model x")
    assert NOTE not in str(made)
    assert "works for" in str(made)


def test_help_documents_every_option(shell: InteractiveShell) -> None:
    shown = shell.find_line_magic("summary").__doc__
    from modelsummary_ipy.notebook.magics import SummaryMagics

    for action in SummaryMagics.summary.parser._actions:
        assert action.help
        assert all(option in shown for option in action.option_strings)
    assert "%summary model(**batch)" in shown
    assert not any(markup in shown for markup in ("::", "``", "<{"))


def test_every_option_is_a_keyword_of_the_constructor_or_of_show(shell: InteractiveShell) -> None:
    from modelsummary_ipy import ModelSummary
    from modelsummary_ipy.notebook.magics import SummaryMagics

    keywords = {*inspect.signature(ModelSummary).parameters, *inspect.signature(ModelSummary.show).parameters}
    actions = SummaryMagics.summary.parser._actions
    options = {action.dest for action in actions if action.option_strings} - {"help"}
    of_the_magic_alone = {"out", "auto", "interactive"}
    assert {option.replace("dtype", "dtypes") for option in options - of_the_magic_alone} <= keywords


def test_options_reach_the_summary(shell: InteractiveShell) -> None:
    line = (
        "%summary model (3, 1, 28, 28) --expect conv0='B 16 H W' --expect (B,32) --ignore grown-map --ops --mode eval"
    )
    made = run(shell, f"{line} --columns params,input --depth 1 --engine static --memory 24GB --optimizer sgd")
    assert made.story.expect == {"conv0": "B 16 H W", "": "(B,32)"}
    assert (made.view.ops, made.view.columns, made.view.depth) == (True, ("input", "params"), 1)
    assert made.engine == "static"
    assert made.view.from_magic
    assert made.memory.optimizer == "sgd"
    run(shell, "%config SummaryMagics.ops = True")
    assert run(shell, "%summary model x --no-ops").view.ops is False
    declared = run(shell, "%summary model x --expect {'conv0': 'B 16 H W', '': 'B 10'}")
    assert declared.story.expect == {"conv0": "B 16 H W", "": "B 10"}


def test_flops_stand_where_macs_would(shell: InteractiveShell) -> None:
    made = run(shell, "%summary model x --flops --columns macs,backward,train")
    shown = str(made)
    assert ("FLOPs" in shown, "MACs" in shown) == (True, False)
    assert f"{format_short(2 * made.total_mult_adds)} FLOPs" in shown
    assert format_short(2 * (made.total_mult_adds + made.backward_mult_adds[0])) in shown
    assert "FLOPs" not in str(run(shell, "%summary model x"))


def test_a_flag_of_the_first_rule_is_shown_and_can_be_ignored(shell: InteractiveShell) -> None:
    assert [(flag.rule, flag.path) for flag in run(shell, "%summary model x").flags] == [("grown-map", "conv0")]
    assert run(shell, "%summary model x --ignore grown-map").flags == ()


def test_unloading_leaves_nothing_behind_and_reloading_works(bare_shell: InteractiveShell) -> None:
    shell = bare_shell

    def state() -> tuple[Any, ...]:
        manager = shell.magics_manager
        html = shell.display_formatter.formatters["text/html"]
        return (
            sorted(manager.magics["line"]),
            sorted(manager.magics["cell"]),
            sorted(manager.registry),
            [type(each).__name__ for each in shell.configurables],
            sorted(shell.strdispatchers["complete_command"].strs),
            sorted(map(repr, shell.strdispatchers["complete_command"].regexs)),
            len(shell.Completer.custom_matchers),
            sorted(map(repr, html.type_printers)),
            sorted(map(repr, html.deferred_printers)),
        )

    with capture_output():
        shell.run_line_magic("unload_ext", "modelsummary_ipy")  # IPython brings its own %load_ext when first asked
    before = state()
    shell.run_line_magic("load_ext", "modelsummary_ipy")
    run(shell, SETUP)
    run(shell, "%summary --auto on")
    shell.run_line_magic("reload_ext", "modelsummary_ipy")
    assert run(shell, "%summary model x").error is None
    run(shell, "%summary --auto on")
    shell.run_line_magic("unload_ext", "modelsummary_ipy")
    assert state() == before
    shell.run_line_magic("load_ext", "modelsummary_ipy")
    assert run(shell, "%summary model x").error is None


def test_auto_shows_any_module_at_the_end_of_a_cell(shell: InteractiveShell) -> None:
    def show(value: Any) -> str:
        return shell.display_formatter.format(value)[0].get("text/html", "")

    model = run(shell, "model")
    assert show(model) == ""
    run(shell, "%summary --auto on")
    assert "not known" in show(model)  # the module tree alone
    run(shell, "%summary model (3, 1, 28, 28)")
    assert "[3, 1, 28, 28]" in show(model)
    assert "[3, 1, 28, 28]" not in shell.display_formatter.format([model])[0]["text/plain"]
    assert "Conv2d(1, 16" in shell.display_formatter.format([model])[0]["text/plain"]
    run(shell, "class Shown(nn.Linear):\n    def _repr_html_(self):\n        return '<b>mine</b>'")
    assert show(run(shell, "Shown(2, 2)")) == "<b>mine</b>"
    run(shell, "%summary --auto off")
    assert show(model) == ""


def test_auto_keeps_sizes_and_neither_data_nor_models(shell: InteractiveShell) -> None:
    run(shell, "%summary --auto on")
    run(
        shell,
        "import gc, weakref; big = torch.zeros(5, 1, 64, 64); mine = Net()\nseen = weakref.ref(big), weakref.ref(mine)",
    )
    run(shell, "made = %summary mine big")
    run(shell, "del big, made")
    assert run(shell, "gc.collect(); seen[0]()") is None
    assert "[5, 1, 64, 64]" in shell.display_formatter.format(shell.user_ns["mine"])[0]["text/html"]
    run(shell, "del mine")
    assert run(shell, "gc.collect(); seen[1]()") is None


def test_what_changed_since_the_last_summary_of_an_expression_has_a_title(shell: InteractiveShell) -> None:
    run(shell, "changing = nn.Linear(4, 2)\n%summary changing (3, 4)")
    run(shell, "changing = nn.Linear(4, 5)")
    with capture_output() as said:
        shell.run_cell("%summary changing (3, 4)")
    first, *_ = said.outputs
    assert first.data["text/plain"].startswith("changed since the last summary of it:\n")
    assert "<p>changed since the last summary of it:</p>" in first.data["text/html"]
