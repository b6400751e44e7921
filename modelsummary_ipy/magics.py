"""``%summary``: a line of a notebook → ``ModelSummary``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
    output_can_be_silenced,
)
from IPython.core.magic_arguments import argument, construct_parser, magic_arguments
from traitlets import Bool, CaselessStrEnum, Int, List, Unicode

from modelsummary_ipy.command import evaluate, find_target, read_words, split_line
from modelsummary_ipy.errors import InputError

if TYPE_CHECKING:
    from modelsummary_ipy.autoshow import AutoShow
    from modelsummary_ipy.summary import ModelSummary

__all__ = ["SummaryMagics", "load", "unload"]

_MODES = ("same", "train", "eval")
_ENGINES = ("auto", "fake", "real", "static")
_OPTIMIZERS = ("sgd", "momentum", "adamw")


@magics_class
class SummaryMagics(Magics):
    """Holds ``%summary`` and its defaults: ``%config SummaryMagics.depth = 2``."""

    depth = Int(None, allow_none=True, help="Levels that stand open; None lets the table choose.").tag(config=True)
    ops = Bool(False, help="Whether operations are shown.").tag(config=True)
    columns = List(Unicode(), help="Columns to show; empty for the usual ones.").tag(config=True)
    ignore = List(Unicode(), help="Ids of rules that are not asked.").tag(config=True)
    mode = CaselessStrEnum(_MODES, "same", help="Mode the model is traced in.").tag(config=True)
    engine = CaselessStrEnum(_ENGINES, "auto", help="What traces the model.").tag(config=True)
    device = Unicode("", help="Where the trace pretends to be; empty for where the model is.").tag(config=True)
    optimizer = Unicode("adamw", help="Optimizer that the training estimate assumes.").tag(config=True)
    memory = Unicode("", help="Memory budget: 24GB.").tag(config=True)

    def __init__(self, shell: Any = None, **options: Any) -> None:
        super().__init__(shell, **options)
        self._ip: Any = shell
        self.auto: AutoShow | None = None
        self._last: dict[str, ModelSummary] = {}

    @magic_arguments()
    @argument("words", nargs="*", help="The model, and what to pass: see below.")
    @argument("--dtype", help="Dtype of made-up inputs; by default the layer that reads one decides.")
    @argument("--device", help="Where the trace pretends to be: cpu, cuda, meta. The model is not moved.")
    @argument("--mode", choices=_MODES, help="Mode the model is traced in (default: same, as it is).")
    @argument(
        "--engine",
        choices=_ENGINES,
        help="fake never runs it, real runs a copy, auto goes from one to the other, static: the tree (default: auto).",
    )
    @argument("--depth", type=int, help="Levels that stand open.")
    @argument("--ops", action="store_true", default=None, help="Show operations too.")
    @argument("--columns", help="Columns to show: input,output,params,macs,activation,formula,source.")
    @argument("--ignore", help="Ids of rules that are not asked, with commas.")
    @argument("--expect", help="Sizes you declare: {'conv0': 'B 16 H W', '': 'B 10'}.")
    @argument(
        "--memory",
        help="Memory budget of a card you need not have, 24GB: does it fit, and the largest batch.",
    )
    @argument("--optimizer", help="Optimizer of the training estimate: sgd, momentum or adamw (default: adamw).")
    @argument("--out", metavar="NAME", help="Store the summary under this name too.")
    @argument("--auto", choices=("on", "off"), help="Show the table of any module at the end of a cell, or no longer.")
    @argument("-i", "--interactive", action="store_true", help="Show a form that runs it again with other sizes.")
    @output_can_be_silenced
    @needs_local_scope
    @no_var_expand
    @line_cell_magic
    def summary(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Show what goes in and out of every layer of a model, what it costs, and what is not as it was meant.

        ::

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

        The model is not run, moved or changed; a size is never evaluated as data. Returns the ``ModelSummary``.
        """
        try:
            return self._run(line, cell, {**self._ip.user_ns, **(local_ns or {})})
        except InputError as wrong:
            raise UsageError(str(wrong)) from None

    # -- what a line asks for -----------------------------------------------------------------------------------------

    def _run(self, line: str, cell: str | None, names: dict[str, Any]) -> Any:
        options, words = self._parse(line)
        if options.auto:
            return self._set_auto(options.auto == "on", words)
        if cell is not None:
            return self._watch_cell(cell, options, words, names)
        if not words:
            return self._summarise_failure(options, names)
        return self._summarise(options, words, names)

    def _parse(self, line: str) -> tuple[Any, list[str]]:
        """Tell options from words: they may stand in any order, and a word is never cut."""
        parser = self.summary.parser
        takes_value = {name: action.nargs != 0 for action in parser._actions for name in action.option_strings}
        options: list[str] = []
        words: list[str] = []
        rest = iter(split_line(line))
        for word in rest:
            name, equals, _ = word.partition("=")
            if name in takes_value:
                options.append(word)
                if takes_value[name] and not equals:
                    options += [value] if (value := next(rest, None)) is not None else []
            elif word.startswith("--") or (word.startswith("-") and len(word) == 2 and not word[1].isdigit()):
                options.append(word)  # unknown: the parser says so
            else:
                words.append(word)
        return parser.parse_args(options), words

    def _summarise(self, options: Any, words: list[str], names: dict[str, Any]) -> Any:
        from modelsummary_ipy.inputs import check_model, read_call, read_inputs, set_dtypes
        from modelsummary_ipy.summary import ModelSummary

        target = find_target(words[0], names)
        check_model(target.model)
        inputs = None
        if target.call is not None:
            if len(words) > 1:
                raise InputError(
                    f"{' '.join(words[1:])!r} behind a call", "a call, or a model and its inputs, not both"
                )
            inputs = read_call(target.model, *target.call, method=target.method)
        elif len(words) > 1:
            args, kwargs = read_words(words[1:], names)
            if len(args) == 1 and not kwargs:
                inputs = read_inputs(target.model, args[0], dtypes=options.dtype)
            else:
                inputs = set_dtypes(read_call(target.model, tuple(args), kwargs), options.dtype)
        expect = self._read_expect(options.expect, names)
        keywords = self._keywords(options)
        made = ModelSummary(target.model, inputs, method=target.method, expect=expect, **keywords)
        self._view(made, options)
        if self.auto is not None and inputs is not None:
            self.auto.remember(target.model, inputs)
        return self._give(made, target.model, target.expression, options)

    def _give(self, made: ModelSummary, model: Any, expression: str, options: Any) -> Any:
        """Store, show what changed since the same expression was summarised last, and open the form if asked."""
        from IPython.display import display

        if options.out:
            if not options.out.isidentifier():
                raise InputError(f"--out {options.out}", "a name", "--out ms")
            self._ip.user_ns[options.out] = made
        if options.interactive:
            display(made)
            return made.form(name=expression, model=model)
        self._last[expression] = made
        return made

    def _keywords(self, options: Any) -> dict[str, Any]:
        ignore = _split(options.ignore) if options.ignore is not None else tuple(self.ignore)
        return {
            "device": options.device or self.device or None,
            "mode": options.mode or self.mode,
            "engine": options.engine or self.engine,
            "ignore": ignore,
            "memory": options.memory or self.memory or None,
            "optimizer": options.optimizer or self.optimizer,
        }

    def _view(self, made: ModelSummary, options: Any) -> None:
        from modelsummary_ipy.summary import make_view

        columns = _split(options.columns) if options.columns else tuple(self.columns)
        depth = options.depth if options.depth is not None else self.depth
        ops = options.ops if options.ops is not None else self.ops
        made.view = make_view(made.view, depth=depth, ops=ops, columns=columns or None)

    def _read_expect(self, text: str | None, names: dict[str, Any]) -> Mapping[str, Any] | None:
        if text is None:
            return None
        value = evaluate(ast.parse(text, mode="eval"), names)
        if not isinstance(value, Mapping):
            raise InputError(f"--expect {text}", "a dict of sizes by path", "--expect {'conv0':'B 16 H W'}")
        return value

    # -- calls that happen by themselves ------------------------------------------------------------------------------

    def _watch_cell(self, cell: str, options: Any, words: list[str], names: dict[str, Any]) -> Any:
        """Run the cell as IPython would, show the calls of the model in it, then let the cell's own error surface."""
        from IPython.display import display

        from modelsummary_ipy.inputs import check_model
        from modelsummary_ipy.summary import ModelSummary

        if len(words) != 1:
            raise InputError("%%summary " + " ".join(words), "one model whose calls to show", "%%summary model")
        target = find_target(words[0], names)
        check_model(target.model)
        shown: list[Any] = []
        keep, outer = self._ip.showtraceback, self._ip.displayhook.exec_result
        self._ip.showtraceback = lambda *args, **kwargs: None  # the cell's error is raised once, after the table
        try:
            with ModelSummary.watch(target.model, **self._keywords(options)) as calls:
                result = self._ip.run_cell(cell, store_history=False)
                shown.append(result)
        finally:
            self._ip.showtraceback = keep
            self._ip.displayhook.exec_result = outer  # the inner run took the place of the cell that holds it
        for made in calls:
            self._view(made, options)
        if options.out:
            self._ip.user_ns[options.out] = calls
        error = shown[0].error_before_exec or shown[0].error_in_exec
        if error is None:
            return calls
        display(calls)
        raise error

    def _summarise_failure(self, options: Any, names: dict[str, Any]) -> Any:
        """Trace again, without running it, the outermost module call in the last traceback."""
        from modelsummary_ipy.summary import ModelSummary
        from modelsummary_ipy.watch import find_failed_call

        error = getattr(sys, "last_value", None)
        if error is None:
            raise InputError("no model, and nothing has failed", "a model", "%summary model (1, 3, 224, 224)")
        call = find_failed_call(error)
        if call is None:
            wrong = f"the last error ({type(error).__name__}) did not come out of a module's call"
            raise InputError(wrong, "a model", "%summary model (1, 3, 224, 224)")
        made = ModelSummary(call.model, call.inputs, **self._keywords(options))
        self._view(made, options)
        return self._give(made, call.model, type(call.model).__name__, options)

    # -- the table of any module --------------------------------------------------------------------------------------

    def _set_auto(self, on: bool, words: list[str]) -> None:
        from modelsummary_ipy.autoshow import AutoShow

        if words:
            raise InputError(f"--auto with {' '.join(words)!r}", "--auto on or --auto off alone")
        if self.auto is not None:
            self.auto.close()
        self.auto = AutoShow(self._ip) if on else None


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


# -- loading ----------------------------------------------------------------------------------------------------------


def load(shell: Any) -> None:
    """Register the magic and its completion."""
    magics = SummaryMagics(shell)
    shell.register_magics(magics)
    for key in ("%summary", "%%summary"):
        shell.set_hook("complete_command", _complete, str_key=key)


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
        shell.configurables[:] = [known for known in shell.configurables if known is not magics]
    dispatch = shell.strdispatchers.get("complete_command")
    for key in ("%summary", "%%summary"):
        if dispatch is not None:
            dispatch.strs.pop(key, None)


def _complete(shell: Any, event: Any) -> list[str]:
    """Complete options, and names that are modules or data; the choices of an option behind it."""
    before = event.text_until_cursor.split()
    behind = before[-1] if event.text_until_cursor.endswith(" ") else (before[-2] if len(before) > 1 else "")
    choices = {
        "--mode": _MODES,
        "--engine": _ENGINES,
        "--auto": ("on", "off"),
        "--optimizer": ("sgd", "momentum", "adamw"),
    }
    if behind in choices:
        return list(choices[behind])
    options = [name for action in SummaryMagics.summary.parser._actions for name in action.option_strings]
    return [*options, *_names_of_interest(shell.user_ns)]


def _names_of_interest(names: Mapping[str, Any]) -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    kinds = (torch.nn.Module, torch.Tensor, Mapping)
    return [name for name, value in names.items() if not name.startswith("_") and isinstance(value, kinds)]


def describe_options() -> Callable[..., Any]:
    """Return the parser of the magic's options, for the documentation."""
    return construct_parser(SummaryMagics.summary)  # type: ignore[no-any-return]
