"""The lines people type, in a real IPython."""

from __future__ import annotations

import atexit
import builtins
import inspect
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from modelsummary_ipy import summary
from modelsummary_ipy.display.render.formatting import format_short
from modelsummary_ipy.records import retraced
from modelsummary_ipy.records.view import EVERY_LEVEL
from tests.tracing.test_time_limit import NOTE, Clock

SETUP = """
import torch, torch.nn as nn
import numpy as np
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, 3, padding=5)
        self.conv1 = nn.Conv2d(16, 32, 3)
    def forward(self, x, scale=1):
        return self.conv1(self.conv0(x))
    def encode(self, x, flag=False):
        return self.conv0(x)
class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
    def forward(self, ids, mask=None, use_cache=True):
        return {"states": self.embed(ids), "cache": torch.ones(1) if use_cache else None}
model, words = Net(), Words()
nets = {"a": model}
x = torch.zeros(1, 1, 32, 32)
B, H, W = 2, 40, 48
batch = {"x": x}
"""


@pytest.fixture
def bare_shell() -> Iterator[InteractiveShell]:
    """An IPython without a history file, as it comes up."""
    vars(builtins).pop("_", None)  # a doctest leaves its last value there, and IPython then keeps none of its own
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(bare_shell: InteractiveShell) -> InteractiveShell:
    """An IPython with the extension and two models."""
    bare_shell.run_line_magic("load_ext", "modelsummary_ipy")
    assert bare_shell.run_cell(SETUP).success
    return bare_shell


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
        ("%summary nets['a'] y=(1, 4)", "for example %summary nets['a'] (1, 1, 64, 64)"),
        ("%summary model.encode y=(1, 4)", "for example %summary model.encode (1, 1, 64, 64)"),
        ("%summary model(1, 2, 3)", "expected forward(x, scale=1); for example %summary model (1, 1, 64, 64)"),
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


def test_tab_completes_options_choices_and_names(shell: InteractiveShell) -> None:
    def complete(line: str) -> list[str]:
        with provisionalcompleter():
            return [completion.text for completion in shell.Completer.completions(line, len(line))]

    assert "--depth" in complete("%summary model --de")
    assert {"model", "x"} <= set(complete("%summary "))
    assert "B" not in complete("%summary ")
    assert set(complete("%summary model --engine ")) >= {"fake", "real"}
    assert complete("ms = %summary mod")[:1] == ["model"]
    assert complete("%%summary mod")[:1] == ["model"]
    assert "model" not in complete("ms = mod;  # %summ") + complete("other = 1")
    assert not {"In", "Out"} & set(complete("%summary "))


_WAYS = ("foreach", "single", "fused")


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("%summary wo", ["words"]),
        ("%summary words i", ["ids="]),
        ("%summary words ids=(1, 4) ", ["mask=", "use_cache=", "x", "batch", "nets", "--dtype"]),
        ("%summary words ids=", ["x", "nets", "batch"]),
        ("%summary words **ba", ["batch"]),
        ("%summary model.encode f", ["flag="]),
        ("%summary nets['a'] sc", ["scale="]),
        ("%summary model.conv0 i", ["input="]),
        ("ms = %summary model s", ["scale="]),
        ("%summary model --engine=st", ["static"]),
        ("%summary model --engine f", ["fake"]),
        ("%summary model --mode ", ["same", "train", "eval"]),
        ("%summary model --columns input,pa", ["params"]),
        ("%summary model --ignore grown-map,batch-m", ["batch-merged", "batch-mixed", "batch-moved"]),
        ("%summary model --dtype flo", ["float16", "float32", "float64"]),
        ("%summary model --dtype ids=b", ["bfloat16", "bool"]),
        ("%summary model --device c", ["cpu", "cuda"]),
        ("%summary model --expect conv", ["conv0=", "conv1="]),
        ("%summary model --depth ", ["1", "2", "3", "all"]),
        ("%summary model x --op", ["--ops", "--optimizer"]),
        ("%summary model --optimizer adam", ["adam", "adamw", *(f"{n}-{w}" for n in ("adam", "adamw") for w in _WAYS)]),
        ("%summary model --loss nn.M", ["nn.MSELoss()"]),
        ("%summary model --accumulate ", ["2", "4", "8"]),
        ("%summary model --columns zz", ["zz"]),  # nothing fits, and paths and keywords fit no better
        ("%summary model --zz", ["--zz"]),
        ("%summary --ops model x --op", ["--optimizer"]),
        ("%%summary wo", ["words"]),
        ("a = 1\n%summary wo", ["words"]),
    ],
)
def test_tab_offers_what_the_line_may_have_next_and_nothing_else(
    shell: InteractiveShell, line: str, offers: list[str]
) -> None:
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    texts = [completion.text for completion in found]
    assert set(offers) <= set(texts)
    assert not {"print", "range", "Net", "B", "In", "get_ipython"} & set(texts)
    if not line.endswith((" ", "=")):
        assert sorted(texts) == sorted(offers)
    for completion in found:  # what is replaced is what was begun
        assert completion.text.startswith(line[completion.start : completion.end])


def test_tab_inside_an_expression_and_outside_the_magic_is_ipythons_own(shell: InteractiveShell) -> None:
    def complete(cell: str) -> set[str]:
        with provisionalcompleter():
            return {completion.text for completion in shell.Completer.completions(cell, len(cell))}

    assert "B" in complete("%summary model (B, 1, ")
    assert "range" in complete("ran")
    assert "range" in complete("%%summary model\nran")
    assert "shape" in {text.rpartition(".")[2] for text in complete("%summary model x.sha")}


def test_tab_runs_no_code_of_the_users(shell: InteractiveShell) -> None:
    run(
        shell,
        "class Loud:\n    def __getattr__(self, name):\n        raise RuntimeError(name)\n"
        "    @property\n    def model(self):\n        ran.append(1)\n        return model\nran, loud = [], Loud()",
    )
    for line in ("%summary loud.model s", "%summary loud.gone s", "%summary loud[0] s", "%summary model(x)[0] s"):
        with provisionalcompleter():
            list(shell.Completer.completions(line, len(line)))
    assert run(shell, "ran") == []


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
    assert "interrupted in 1 (Stop), call 3, at In [" in printed.out
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
