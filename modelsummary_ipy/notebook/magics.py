"""``%summary``: a line of a notebook → ``ModelSummary``."""

from __future__ import annotations

import argparse
import re
import sys
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from traitlets import Bool, CaselessStrEnum, Float, Int, List, Unicode

from modelsummary_ipy.notebook import completion
from modelsummary_ipy.notebook.cells import find_use, offer_fix
from modelsummary_ipy.notebook.first_table import FirstTable, since_last
from modelsummary_ipy.notebook.idle_imports import IdleImports
from modelsummary_ipy.notebook.line_syntax import evaluate, read_words, split_line
from modelsummary_ipy.notebook.options import (
    check_last,
    check_name,
    is_silenced,
    part_options,
    read_depth,
    read_dtypes,
    read_expect,
    read_optimizer_name,
    split_names,
    write_help,
    write_option,
)
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import ENGINES, MODES
from modelsummary_ipy.records.training import OPTIMIZERS, PRECISIONS
from modelsummary_ipy.records.view import View, make_view

if TYPE_CHECKING:
    from modelsummary_ipy.inputs import ModelInputs
    from modelsummary_ipy.notebook.autoshow import AutoShow
    from modelsummary_ipy.notebook.target import Target
    from modelsummary_ipy.summary import ModelSummary
    from modelsummary_ipy.tracing.progress import Keeping

_A_LOSS = "a loss of yours, or one of torch: nn.CrossEntropyLoss()"


@magics_class
class SummaryMagics(Magics):
    """Holds ``%summary`` and its defaults: ``%config SummaryMagics.depth = 2``."""

    depth = Int(None, allow_none=True, help="Levels that are open; by default the table chooses.").tag(config=True)
    ops = Bool(False, help="Whether operations are shown.").tag(config=True)
    columns = List(Unicode(), help="Columns to show; empty for the usual ones.").tag(config=True)
    ignore = List(Unicode(), help="Ids of rules that are not run.").tag(config=True)
    mode = CaselessStrEnum(MODES, "same", help="Mode the model is traced in.").tag(config=True)
    engine = CaselessStrEnum(ENGINES, "auto", help="What traces the model.").tag(config=True)
    device = Unicode("", help="Device of the trace; empty for the model's own.").tag(config=True)
    optimizer = CaselessStrEnum(
        OPTIMIZERS, None, allow_none=True, help="Optimizer of a training step that every summary traces."
    ).tag(config=True)
    memory = Unicode("", help="Memory budget: 24GB.").tag(config=True)
    formula_seconds = Float(
        1.5, min=0, help="Seconds for formulas and which sizes work, besides those that the first trace took."
    ).tag(config=True)
    preload = Bool(
        True, help="Whether what a first summary needs is imported while the kernel is idle, once torch is."
    ).tag(config=True)

    def __init__(self, shell: Any = None, **options: Any) -> None:
        super().__init__(shell, **options)
        self._ip: Any = shell
        self.auto: AutoShow | None = None
        self.first_table = FirstTable(shell)
        self.idle_imports = IdleImports(shell, lambda: self.preload)
        # By expression, while the user holds them: in ``Out`` or under a name.
        self._last: weakref.WeakValueDictionary[str, ModelSummary] = weakref.WeakValueDictionary()

    @magic_arguments()
    @argument("words", nargs="*", help="The model, and what to pass: see below.")
    @argument(
        "--dtype",
        help="Dtype of made-up inputs: float16 for all, int64,bool in their order, or ids=int64,mask=bool by name; "
        "by default that of the layer that reads the input.",
    )
    @argument("--device", help="Device of the trace: cpu, cuda, meta. The model is not moved.")
    @argument("--mode", choices=MODES, help="Mode the model is traced in (default: same, as it is).")
    @argument(
        "--engine",
        choices=ENGINES,
        help="fake never runs it, real runs a copy, auto: real only if fake can't, static: no trace (default: auto).",
    )
    @argument("--depth", type=read_depth, help="Levels that are open, or all (then the page has no limit of 100 KB).")
    @argument("--ops", action=argparse.BooleanOptionalAction, default=None, help="Show operations too, or not.")
    @argument(
        "--columns", help="Columns to show: input,output,formula,params,macs,backward,train,activation,peak,source."
    )
    @argument("--flops", action="store_true", help="Show FLOPs in the place of MACs: two each.")
    @argument("--ignore", help="Ids of rules that are not run, with commas.")
    @argument(
        "--expect",
        action="append",
        help="A size you declare: conv0='B 16 H W', 'B 10' for the output, or a dict of several. May be repeated.",
    )
    @argument(
        "--memory", help="Memory budget of a GPU, which need not be here, 24GB: does it fit, and the largest batch."
    )
    @argument(
        "--optimizer",
        help="Optimizer of the training step: adamw (default), sgd, momentum, adam, adafactor, lion, with -single or "
        "-fused; or a variable that holds one.",
    )
    @argument("--precision", choices=PRECISIONS[1:], help="Precision of the training step, if not that of the model.")
    @argument("--accumulate", type=int, metavar="N", help="Add the gradients of N batches before the optimizer's step.")
    @argument("--context", help="Length of a context, 32k: its cache, prefill and decode; with --memory what fits.")
    @argument(
        "--plan",
        action="store_true",
        help="Find what to checkpoint so that the step fits --memory, and what else helps.",
    )
    @argument("--loss", help="Loss of the training step: nn.CrossEntropyLoss(), a variable; default: sum of outputs.")
    @argument("--fix", action="store_true", help="If it fails, show the best fix as a diff, and offer it as a cell.")
    @argument("--trace-once", action="store_true", help="Run the forward's Python exactly once: no formulas, no fixes.")
    @argument("--out", metavar="NAME", help="Store the summary under this name too.")
    @argument("--auto", choices=("on", "off"), help="Show the table of any module at the end of a cell, or stop.")
    @argument("-i", "--interactive", action="store_true", help="Show a form that runs it again with other sizes.")
    @needs_local_scope
    @no_var_expand
    @line_cell_magic
    def summary(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Show the input and output shapes of every layer of a model, its costs, and what is probably a mistake.

            %summary model (1, 3, 224, 224)          one input of that size
            %summary model (B=8, 3, H=224, W=224)    dims with names
            %summary model (B, 3, H, W)              variables name the dims
            %summary model ids=(1, 128):int64 use_cache=False
            %summary model batch                     live data: tensor, array, tuple, dict, tokenizer output
            %summary model(**batch)                  the line that failed, as it is written
            %summary vae.encode(x)                   another method
            %summary model                           a size that works is found
            %summary                                 the call that failed last
            %%summary model                          the calls that the cell makes
            %summary -i model (1, 3, 224, 224)       a form
            %summary --auto on                       every module at the end of a cell

        The model is not run, moved or changed; a size is never evaluated as data. Returns the ModelSummary;
        a ; at the end shows nothing.
        """
        __tracebackhide__ = True  # what a watched cell raises is the cell's own
        try:
            given = self._run(line, cell, {**self._ip.user_ns, **(local_ns or {})})
        except InputError as wrong:
            # The error behind this one stays within reach: `%summary` alone reads the last one.
            last = getattr(sys, "last_value", None)
            raise UsageError(_format_error(wrong)) from (last.__cause__ if isinstance(last, UsageError) else last)
        if cell is not None:
            return given
        use = find_use(self._ip)
        if use == "dropped" and given is not None and not is_silenced(line):
            from IPython.display import display

            display(given)  # IPython shows the value of a cell's last line alone
        return None if is_silenced(line) and use != "kept" else given

    # -- what a line summarises ----------------------------------------------------------------------------------------

    def _run(self, line: str, cell: str | None, names: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        options, words = self._parse(line)
        if options.plan and not (options.memory or self.memory):
            raise InputError("--plan without a budget", "--memory with a unit", "--memory 24GB --plan")
        check_name(options.out, words, names, self._ip.user_ns_hidden)
        self._make_view(View(), options)  # a column that there is not is said before any work
        if options.auto:
            return self._set_auto(options.auto == "on", words)
        if cell is not None:
            return self._watch_cell(cell, options, words, names)
        from modelsummary_ipy.tracing.progress import keeping_rows

        try:
            with self.first_table.showing_progress(), keeping_rows() as keeping:  # an interrupt leaves the rows so far
                if words:
                    given = self._summarise(options, words, names, line, keeping)
                else:
                    given = self._summarise_failure(options, names, keeping)
        except KeyboardInterrupt:
            raise UsageError("interrupted before there was a row to show") from None
        if keeping.is_interrupted and not options.interactive:
            given.pipeline.stop()
        return given

    def _parse(self, line: str) -> tuple[Any, list[str]]:
        parser = self.summary.parser
        takes_value = {name: action.nargs != 0 for action in parser._actions for name in action.option_strings}
        options, words = part_options(split_line(line), takes_value)
        check_last(options, takes_value)
        try:
            return parser.parse_args(options), words
        except UsageError as wrong:
            raise InputError(str(wrong)) from None

    def _summarise(self, options: Any, words: list[str], names: dict[str, Any], line: str, keeping: Keeping) -> Any:
        from modelsummary_ipy import ModelSummary
        from modelsummary_ipy.notebook.target import find_target

        target = find_target(words, names)
        inputs = self._read_inputs(target, options, names)
        expect = read_expect(options.expect, names)
        made = ModelSummary(target.model, inputs, method=target.method, expect=expect, **self._keywords(options, names))
        if re.fullmatch(r"[^\W\d][\w.]*", target.expression):
            made.pipeline.name = target.expression
        self._view(made, options)
        if self.auto is not None and inputs is not None:
            self.auto.remember(target.model, inputs)
        is_kept = find_use(self._ip) == "kept"
        quiet = is_silenced(line) or is_kept
        if is_kept and made.error is not None:
            print(made.error.message.partition("\n")[0])  # noqa: T201  # a value that is kept shows no table
        return self._give(made, target.model, target.expression, options, keeping, quiet=quiet)

    def _read_inputs(self, target: Target, options: Any, names: Mapping[str, Any]) -> ModelInputs | None:
        from modelsummary_ipy.inputs import read_arguments, read_call, set_dtypes
        from modelsummary_ipy.pipeline.examples import example_found

        def write(inputs: ModelInputs) -> str:
            expression = target.expression if target.method == "forward" else f"{target.expression}.{target.method}"
            return f"%summary {expression} {inputs.as_line()}"

        dtypes = read_dtypes(options.dtype)
        words = read_words(list(target.words), names, target.expression) if target.call is None else ([], {})
        with nullcontext() if options.trace_once else example_found(target.model, target.method, write):
            if target.call is not None:
                return set_dtypes(read_call(target.model, *target.call, method=target.method), dtypes)
            if target.words:
                return read_arguments(target.model, *words, method=target.method, dtypes=dtypes)
        return None

    def _give(
        self, made: ModelSummary, model: Any, expression: str, options: Any, keeping: Keeping, *, quiet: bool = False
    ) -> Any:
        """Store, show what changed since the same expression was summarised last, and open the form if wanted."""
        from IPython.display import display

        from modelsummary_ipy.display.comparison import are_comparable

        if options.out:
            self._ip.user_ns[options.out] = made
        plan = None
        try:
            if options.fix:
                offer_fix(self._ip, made.error)
            plan = made.plan(name=expression) if options.plan else None
        except KeyboardInterrupt:  # there are rows to show
            keeping.is_interrupted = True
        before, self._last[expression] = self._last.get(expression), made
        if quiet or before is None or not are_comparable(before.story, made.story):
            before = None
        if self.first_table.has_page and not quiet and not options.interactive:
            self.first_table.expect(made, before)
        elif before is not None:
            changes = since_last(made, before)
            if changes.unexpected:  # what moved as its formula predicts is no news
                display(changes)
        if plan is not None and not quiet:
            display(plan)
        return made.form(name=expression, model=model) if options.interactive else made

    def _keywords(self, options: Any, names: Mapping[str, Any]) -> dict[str, Any]:
        ignore = split_names(options.ignore) if options.ignore is not None else tuple(self.ignore)
        return {
            "device": options.device or self.device or None,
            "mode": options.mode or self.mode,
            "engine": options.engine or self.engine,
            "ignore": ignore,
            "memory": options.memory or self.memory or None,
            "optimizer": read_optimizer_name(options.optimizer, names) if options.optimizer else self.optimizer,
            "precision": options.precision,
            "accumulate": options.accumulate,
            "loss": _read_loss(options.loss, names) if options.loss else None,
            "context": options.context,
            "trace_once": options.trace_once,
        }

    def _view(self, made: ModelSummary, options: Any) -> None:
        made.pipeline.allow(self.formula_seconds)
        made.view = self._make_view(replace(made.view, from_magic=True), options)

    def _make_view(self, base: View, options: Any) -> View:
        columns = split_names(options.columns) if options.columns else tuple(self.columns)
        return make_view(
            base,
            depth=options.depth if options.depth is not None else self.depth,
            ops=options.ops if options.ops is not None else self.ops,
            columns=columns or None,
            flops=options.flops or None,
        )

    # -- calls that happen by themselves ------------------------------------------------------------------------------

    def _watch_cell(self, cell: str, options: Any, words: list[str], names: dict[str, Any]) -> Any:
        """Run the cell as IPython would, show the calls of the model in it, then let the cell's own error surface."""
        __tracebackhide__ = True
        from IPython.display import display

        from modelsummary_ipy.notebook.cells import run_inside
        from modelsummary_ipy.notebook.target import find_target
        from modelsummary_ipy.summary import ModelSummary

        target = find_target(words, names) if words else None
        if target is None or target.words or target.call is not None or target.method != "forward":
            raise InputError("%%summary " + " ".join(words), "one model whose calls to show", "%%summary model")
        with ModelSummary.watch(target.model, **self._keywords(options, names)) as calls:
            ran = run_inside(self._ip, cell)
        for made in calls:
            self._view(made, options)
        if options.out:
            self._ip.user_ns[options.out] = calls
        error = ran.error_before_exec or ran.error_in_exec
        if error is None and ran.result is None:
            return calls
        if ran.error_before_exec is None:
            display(calls)
        if error is not None:
            raise error
        if self._ip.displayhook.exec_result is not None:
            self._ip.displayhook.exec_result.result = ran.result
        return None  # the cell's own value stays what `_` and `Out` hold

    def _summarise_failure(self, options: Any, names: Mapping[str, Any], keeping: Keeping) -> Any:
        """Trace again, without running it, the outermost module call in the last traceback."""
        from modelsummary_ipy.notebook.last_failure import find_last_failure
        from modelsummary_ipy.summary import ModelSummary

        failed = find_last_failure()
        model = failed.call.model
        made = ModelSummary(model, failed.call.inputs, **self._keywords(options, names))
        self._view(made, options)
        made.pipeline.name = failed.name or made.pipeline.name
        failed.print(made.error)
        return self._give(made, model, type(model).__name__, options, keeping)

    # -- the table of any module --------------------------------------------------------------------------------------

    def _set_auto(self, on: bool, words: list[str]) -> None:
        from modelsummary_ipy.notebook.autoshow import AutoShow

        if words:
            raise InputError(f"--auto with {' '.join(words)!r}", "--auto on or --auto off alone")
        if self.auto is not None:
            self.auto.close()
        self.auto = AutoShow(self._ip) if on else None


# IPython's decorators leave their own markup in it.
SummaryMagics.summary.__doc__ = write_help(SummaryMagics.summary.parser)


def _read_loss(text: str, names: Mapping[str, Any]) -> Any:
    """Evaluate a loss; one in quotes, ``--loss 'lambda out: out.sum()'``, is what stands in them."""
    loss = evaluate(text, names, expected=_A_LOSS)
    return evaluate(loss, names, expected=_A_LOSS) if isinstance(loss, str) else loss


def _format_error(wrong: InputError) -> str:
    """Write an error in one line, with options as the magic takes them: ``--device cpu`` for ``device='cpu'``."""
    shown = InputError(write_option(wrong.received), wrong.expected, write_option(wrong.example))
    return " ".join(str(shown).split())


# -- loading ----------------------------------------------------------------------------------------------------------


def load(shell: Any) -> None:
    """Register the magic and its completion."""
    magics = SummaryMagics(shell)
    shell.register_magics(magics)
    completion.hook(shell, SummaryMagics.summary.parser)


def unload(shell: Any) -> None:
    """Take away all that ``load`` and later lines registered."""
    manager = shell.magics_manager
    magics = manager.registry.pop(SummaryMagics.__name__, None)
    for kind in ("line", "cell"):
        manager.magics[kind].pop("summary", None)
    if magics is not None:
        magics.parent = None
        if magics.auto is not None:
            magics.auto.close()
        magics.first_table.close()
        magics.idle_imports.close()
        shell.configurables[:] = [known for known in shell.configurables if known is not magics]
    completion.unhook(shell)
