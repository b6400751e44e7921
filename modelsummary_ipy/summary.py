"""``ModelSummary``: the only place where the stages meet, from what the user gave to what is shown."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from modelsummary_ipy.costs.memory import check_optimizer, estimate_memory, fit_batch, read_budget, write_budget
from modelsummary_ipy.costs.row_costs import count_costs, list_operations, sum_mult_adds
from modelsummary_ipy.diagnosis.annotate import annotate
from modelsummary_ipy.diagnosis.expectations import check_expect, check_ignore
from modelsummary_ipy.diagnosis.failures import explain
from modelsummary_ipy.diagnosis.rules import find_flags, find_questions
from modelsummary_ipy.display.rows import build_rows
from modelsummary_ipy.display.series import Series
from modelsummary_ipy.inputs.model_inputs import ModelInputs, check_device, check_model, read_inputs
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.isolation.shadow import Mode
from modelsummary_ipy.records.errors import CheckError, ForwardError, InputError
from modelsummary_ipy.records.summary import Cost, Flag, Memory, Row, Story
from modelsummary_ipy.records.trace import Formula, Trace
from modelsummary_ipy.records.view import View, make_view
from modelsummary_ipy.shapes.constraints import find_constraints
from modelsummary_ipy.shapes.formulas import BatchFacts, find_batch, find_formulas, trace_again
from modelsummary_ipy.tracing.attempts import Attempts
from modelsummary_ipy.tracing.engine import Engine, Traced, run_engine, trace_bytes
from modelsummary_ipy.tracing.tracer import Observer
from modelsummary_ipy.tracing.watch import watch_calls

if TYPE_CHECKING:
    from pandas import DataFrame

    from modelsummary_ipy.display.comparison import Comparison
    from modelsummary_ipy.notebook.form.form import SummaryForm

__all__ = ["ModelSummary"]

#: A trace of more calls than this is shown without formulas, unless they were asked for by name.
_MANY_CALLS = 5000
_MODES = ("same", "train", "eval")
_ENGINES = ("auto", "fake", "real", "static")


class ModelSummary:
    """What goes in and out of every layer of a model, what it costs, and which rows are not what was meant.

    The forward runs on a shadow of the model whose tensors are fake: no arithmetic is done, and the model, its buffers,
    modes, hooks and every generator are afterwards as they were.

    Args:
        model: The model; an instance of ``torch.nn.Module``.
        inputs: What to pass: sizes, data or both. A flat sequence of ints is one size, ``(1, 3, 224, 224)``; a list or
            tuple of other things the positional arguments; a dict the keyword arguments if its keys are parameters.
            ``None`` shows the module tree alone.
        input_size: The same, read as sizes only.
        input_data: The same, read as data only.
        method: What to call instead of ``forward``: ``"encode"``.
        dtypes: Dtype of made-up inputs: one, or one per size, or by parameter name. By default the layer that reads an
            input decides.
        device: Where the trace pretends to be: ``"cpu"``, ``"cuda"``, ``"meta"``. The model is not moved.
        mode: ``"same"``, ``"train"`` or ``"eval"``.
        engine: ``"fake"`` never runs the model; ``"real"`` runs a copy of it; ``"auto"`` begins with fakes and goes
            on to a real run if the forward needs values and the run is short; ``"static"`` shows the module tree.
        expect: Sizes you declare, by path: ``{"conv0": "B 16 H W", "": "B 10"}``.
        ignore: Ids of rules not to ask: ``["grown-map"]``.
        memory: Memory budget of a card one need not have: ``"24GB"`` or bytes.
        optimizer: What the training estimate assumes: ``"sgd"``, ``"momentum"`` or ``"adamw"``.
        observer: Hears ``(calls so far, path)`` at every module call; a true answer cancels with ``TraceCancelled``.

    Raises:
        InputError: If the arguments make no sense, before anything is traced. That the *model* fails is no error of the
            arguments: it is told in ``error``, and ``rows`` holds all that ran.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
        >>> ms = ModelSummary(net, (1, 1, 28, 28))
        >>> ms["0"].outputs[0].shape, ms.total_params
        ((1, 16, 28, 28), 160)
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any = None,
        *,
        input_size: Any = None,
        input_data: Any = None,
        method: str = "forward",
        dtypes: Any = None,
        device: Any = None,
        mode: Mode = "same",
        engine: Engine = "auto",
        expect: Mapping[str, Any] | None = None,
        ignore: Collection[str] = (),
        memory: str | int | None = None,
        optimizer: str = "adamw",
        observer: Observer | None = None,
    ) -> None:
        check_model(model)
        _check_choice("mode", mode, _MODES)
        _check_choice("engine", engine, _ENGINES)
        check_optimizer(optimizer)
        declared = check_expect(expect, dict(model.named_modules(remove_duplicate=False)) if expect else {})
        ignored = check_ignore(ignore)
        budget = read_budget(memory)
        where = check_device(device) if device is not None else None
        given: ModelInputs | None = inputs if isinstance(inputs, ModelInputs) else None
        if given is None and (inputs is not None or input_size is not None or input_data is not None):
            given = read_inputs(
                model, inputs, input_size=input_size, input_data=input_data, method=method, dtypes=dtypes
            )
        self.view = View()
        self._ignore = ignored
        self._budget = budget
        self._optimizer = optimizer
        self._method = method
        self._mode = mode
        self._engine = engine
        self._device = device
        self._model = weakref.ref(model)  # for the form; a summary in Out[] keeps no model alive
        with collector_paused():
            self._traced: Traced = run_engine(
                model, given, method=method, device=where, mode=mode, engine=engine, observer=observer
            )
            rows = build_rows(self._traced.trace)
        if given is None:
            self._inputs = self._traced.inputs
        else:
            forget = self._traced.shadow.forget_values
            self._inputs = replace(given, args=forget(given.args), kwargs=forget(given.kwargs))
        self._story = Story(self._traced.trace, rows, expect=declared)
        self._has_flags = False
        self._batch: BatchFacts | None = None
        self._has_formulas = False
        self._measured: Trace | None = None
        self._counted: Trace | None = None
        self._error: ForwardError | None = None

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every call in execution order, parents before children, and the modules that were not called."""
        return self._story.rows

    def __getitem__(self, path: str) -> Row:
        """Return the first row of a path.

        Raises:
            KeyError: If no row has it; the message names the nearest paths.
        """
        for row in self._story.rows:
            if row.path == path:
                return row
        import difflib

        near = difflib.get_close_matches(path, {row.path for row in self._story.rows}, 3, 0.5)
        raise KeyError(f"no row {path!r}" + (f"; did you mean {', '.join(map(repr, near))}?" if near else ""))

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What the rules found, in row order."""
        if not self._has_flags:
            with collector_paused():
                self._find_suspects()
                self._story = replace(self._story, flags=find_flags(self._story_for_rules(), self._ignore))
            self._has_flags = True
        return self._story.flags

    @property
    def formulas(self) -> Mapping[int, tuple[Formula | None, ...]]:
        """Per row index, per output leaf, its size as a formula of the input's: ``("B", "16", "H + 8", "W + 8")``.

        A leaf has ``None`` where no formula predicts every trace that was made at other sizes.
        """
        self._find_formulas()
        return self._story.formulas

    @property
    def constraints(self) -> tuple[str, ...]:
        """Which sizes work, in words, each tried on both sides: ``("H and W divisible by 16", "C = 3")``."""
        self._find_formulas()
        return self._story.constraints

    def _find_batch(self) -> BatchFacts:
        """Trace once more with one more in the batch: what the rules need, at the price of one trace."""
        if self._batch is None:
            trace = self._story.trace
            traced = self._traced
            found = find_batch(traced.shadow, self._inputs, list(traced.dtypes), self._method, trace, self._story.rows)
            named = [replace(fact, dims=dims) for fact, dims in zip(trace.inputs, found.names, strict=True)]
            self._batch = found
            self._story = replace(
                self._story,
                trace=replace(trace, inputs=tuple(named)),
                batch=found.batch,
                failed_at=found.failed_at,
                retraces=() if found.retrace is None else (found.retrace,),
            )
        return self._batch

    def _find_suspects(self) -> None:
        """Trace at the sizes that settle what the rules suspect; most models give rise to none."""
        batch = self._find_batch()
        for sizes in find_questions(self._story_for_rules(), self._ignore):
            again = trace_again(batch, self._story.trace, sizes)
            if again is not None:
                self._story = replace(self._story, retraces=(*self._story.retraces, again))

    def _story_for_rules(self) -> Story:
        """The story with the batch under the name that rules know it by, whatever the user calls it."""
        batch, trace = self._find_batch(), self._story.trace
        if batch.batch_name in ("", "B"):
            return self._story
        inputs = [
            replace(fact, dims=tuple("B" if name == batch.batch_name else name for name in fact.dims))
            for fact in trace.inputs
        ]
        return replace(self._story, trace=replace(trace, inputs=tuple(inputs)))

    def _find_formulas(self) -> None:
        """Trace at some more sizes: formulas, and which sizes work; only what is shown or asked for pays for them."""
        if self._has_formulas:
            return
        self.flags  # noqa: B018  # they are found without formulas, whatever is asked for first
        batch = self._find_batch()
        traced, story = self._traced, self._story
        try:
            with collector_paused():
                found = find_formulas(
                    traced.shadow, self._inputs, list(traced.dtypes), self._method, story.trace, story.rows, batch
                )
                limits = find_constraints(story.trace, found)
        except Exception as error:  # noqa: BLE001  # our own mistake must not cost the user the rows
            warnings.warn(f"no formulas, for {type(error).__name__}: {error}; please report it", stacklevel=3)
            self._has_formulas = True
            return
        if found.prober is not None:
            found.prober.forget()
        self._has_formulas = True
        self._story = replace(
            story,
            formulas=found.outputs,
            input_formulas=found.inputs,
            constraints=tuple(limit.text for limit in limits),
        )

    @property
    def costs(self) -> Mapping[int, Cost]:
        """Per row index, its multiply-adds and the bytes autograd saves in it, with all in it and by itself.

        ``None`` stands where a number is unknown. Of more than 5,000 modules bytes are measured when asked for here.
        """
        self._find_costs(self._measure())
        return self._story.costs

    @property
    def total_mult_adds(self) -> int | None:
        """Multiply-adds of one forward, batch included; what ``unknown_ops`` names is left out. ``None`` untraced."""
        if not self._story.costs:
            self._find_costs(self._story.trace)
        return sum_mult_adds(self._story.costs)

    @property
    def unknown_ops(self) -> tuple[str, ...]:
        """Operations whose multiply-adds nobody told, as ``register_mult_adds`` takes them: ``"mylib::fused_mlp"``."""
        if not self._story.costs:
            self._find_costs(self._story.trace)
        return self._story.unknown_ops

    @property
    def memory(self) -> Memory:
        """Where the memory goes, what a training step takes, and, with a budget, the largest batch that fits it."""
        self._find_costs(self._measure())
        if self._story.memory is None:
            self._story = replace(self._story, memory=self._estimate_memory())
        assert self._story.memory is not None
        return self._story.memory

    def _find_costs(self, trace: Trace) -> None:
        if self._counted is not trace:
            with collector_paused():
                costs, unknown = count_costs(trace, self._story.rows)
            self._story = replace(self._story, costs=costs, unknown_ops=unknown)
            self._counted = trace

    def _measure(self) -> Trace:
        """Return a trace with bytes: the first one, or if it did without them one more, with grad."""
        if self._measured is None:
            first, traced = self._traced.trace, self._traced
            self._measured = first
            if first.engine == "fake" and first.failure is None and not first.knows_saved and self._inputs is not None:
                again = trace_bytes(traced.shadow, self._inputs, list(traced.dtypes), self._method).trace
                if again.failure is None and len(again.calls) == len(first.calls):
                    self._measured = again
        return self._measured

    def _estimate_memory(self) -> Memory:
        trace = self._measure()
        cost = self._story.costs.get(0)
        about = cost is not None and cost.approximate
        memory = estimate_memory(trace, optimizer=self._optimizer, approximate=about, budget=self._budget)
        if self._budget is None:
            return memory
        batch = self._find_batch()
        size, prober = batch.base.get("B"), batch.prober
        if prober is None or size is None:
            return replace(memory, batch=size)

        def measure(other: int) -> Memory | None:
            probe = prober.measure({"B": other})
            if probe is None or probe.failure is not None:
                return None
            return estimate_memory(probe, optimizer=self._optimizer, budget=self._budget)

        return fit_batch(memory, size, measure)

    @property
    def error(self) -> ForwardError | None:
        """How the forward failed, ``None`` if it did not."""
        failure = self._story.trace.failure
        if failure is None:
            return None
        if self._error is None:
            self._error = self._explain()
            self._error.__cause__ = self._traced.error
        return self._error

    def _explain(self) -> ForwardError:
        """Say why the forward failed and which inputs would work; the search traces again, with fakes only."""
        if len(self._story.trace.calls) <= _MANY_CALLS:
            self._find_formulas()  # whatever is asked for first, the words are the same
        traced, trace = self._traced, self._story.trace
        if self._inputs is None:
            return explain(self._story)
        attempts = Attempts(traced.shadow, self._inputs, trace.inputs, traced.dtypes, self._method, len(trace.calls))
        return explain(self._story, probe=attempts.ask, write=attempts.write)

    @property
    def engine(self) -> str:
        """What traced it: ``"fake"``, ``"real"`` or ``"static"``."""
        return self._story.trace.engine

    @property
    def engine_reason(self) -> str:
        """Why it was not the fake engine, ``""`` if it was."""
        return self._story.trace.engine_reason

    @property
    def total_params(self) -> int:
        """Scalars of all parameters, each tensor counted once whatever its names."""
        return self._story.total_params

    @property
    def trainable_params(self) -> int:
        """Those of ``total_params`` that require grad."""
        return self._story.trainable_params

    @property
    def story(self) -> Story:
        """All facts behind the summary, with the flags; formulas only if they were asked for before."""
        self.flags  # noqa: B018  # fills them in
        return self._story

    def _full_story(self, *, formulas: bool = True) -> Story:
        """All that is shown: what is expensive to know only if it is shown or asked for."""
        if formulas and len(self._story.trace.calls) <= _MANY_CALLS:
            self._find_formulas()
        first = self._traced.trace
        is_wanted = "activation" in self.view.columns or self._budget is not None
        if is_wanted or first.knows_saved or not self._traced.shadow.is_large:
            self.memory  # noqa: B018  # fills in costs too
        else:
            self._find_costs(first)
        return self.story

    # -- how it is shown ----------------------------------------------------------------------------------------------

    @property
    def summary(self) -> DataFrame:
        """The leaf modules as a DataFrame with the columns ``Name, Type, InSz, OutSz, Params``."""
        from modelsummary_ipy.display.render.frame import seed_frame

        return seed_frame(self._story)

    def to_frame(self) -> DataFrame:
        """Return every row and every column as a DataFrame of raw numbers."""
        from modelsummary_ipy.display.render.frame import to_frame

        return to_frame(self._full_story())

    def to_dict(self) -> dict[str, Any]:
        """Return everything that is known as plain values, ready for JSON."""
        from modelsummary_ipy.display.render.frame import to_dict

        return to_dict(self._full_story())

    def to_text(self) -> str:
        """Return the summary as text."""
        from modelsummary_ipy.display.render.text import render_text

        return render_text(self._full_story(), self.view, **self._words())

    def to_markdown(self) -> str:
        """Return the summary as markdown."""
        from modelsummary_ipy.display.render.markdown import render_markdown

        return render_markdown(self._full_story(), self.view, **self._words())

    def to_html(self, *, standalone: bool = False, formulas: bool = True, flags: Sequence[Flag] = ()) -> str:
        """Return the summary as HTML.

        Args:
            flags: Findings to show besides the summary's own.
            standalone: Whether to return a complete page instead of a notebook's output.
            formulas: Whether to trace for formulas and for which sizes work, if nobody has asked for them before; most
                of the time goes into them. A forward that failed is explained with them whatever is said here.
        """
        from modelsummary_ipy.display.render.html import render_html
        from modelsummary_ipy.display.render.source_listing import build_details

        words = self._words()
        story = self._full_story(formulas=formulas)
        story = replace(story, flags=(*story.flags, *flags)) if flags else story
        details = build_details(annotate(story))
        operations = list_operations(story.trace, story.rows)
        return render_html(story, self.view, standalone=standalone, details=details, operations=operations, **words)

    def annotated(self, only: str | None = None, *, sizes: bool = True) -> str:
        """Return the source of every traced function, and beside each line what it made: ``# B 32 16 = 8 32 16``.

        Calls that made different things stand side by side, flags below their line. The notes are comments, so a part
        can be pasted back as it is.

        Args:
            only: A path or a class: only functions that such a module ran.
            sizes: Whether the sizes of this trace follow the formulas.

        Raises:
            KeyError: If no traced function with a readable source is of ``only``.
        """
        from modelsummary_ipy.display.render.source_listing import Annotated, render_listings

        self._find_formulas()
        listings = annotate(self.story, only)
        if only is not None and not listings:
            raise KeyError(f"no readable source ran in {only!r}; it takes a path or a class: {self._name_classes()}")
        return Annotated(render_listings(listings, sizes=sizes))

    def _name_classes(self) -> str:
        types = dict.fromkeys(name for listing in annotate(self.story) for name in listing.type_names)
        return ", ".join(list(types)[:8])

    def _words(self) -> dict[str, Any]:
        """What the renderers are told beside the story."""
        error = self.error
        passes = self._traced.passes or None
        return {"passes": passes, "failure_text": "" if error is None else error.message}

    def save(self, path: str | Path) -> Path:
        """Write the summary to a file; its ending says how: ``.html .txt .md .json .csv``.

        Raises:
            InputError: If the ending is none of these.
        """
        from modelsummary_ipy.display.render.frame import render_csv, render_json

        target = Path(path)
        writers: dict[str, Callable[[], str]] = {
            ".html": lambda: self.to_html(standalone=True),
            ".txt": self.to_text,
            ".md": self.to_markdown,
            ".json": lambda: render_json(self._full_story()),
            ".csv": lambda: render_csv(self._full_story()),
        }
        if target.suffix not in writers:
            raise InputError(
                f"can't save as {target.name!r}", f"an ending among {' '.join(writers)}", "ms.save('net.html')"
            )
        target.write_text(writers[target.suffix](), encoding="utf-8")
        return target

    def show(
        self,
        *,
        depth: int | None = None,
        ops: bool | None = None,
        columns: Collection[str] | None = None,
        memory: str | int | None = None,
        optimizer: str | None = None,
    ) -> None:
        """Display another view of the same summary; in a plain script, print it.

        Args:
            depth: Levels that stand open.
            ops: Whether operations are shown.
            columns: Which columns to show.
            memory: Another memory budget, ``"24GB"``.
            optimizer: Another optimizer for the training estimate.
        """
        shown, budget, assumed, known = self.view, self._budget, self._optimizer, self._story.memory
        view = make_view(shown, depth=depth, ops=ops, columns=columns)
        if optimizer is not None:
            check_optimizer(optimizer)
        wanted = read_budget(memory)
        self.view = view
        if wanted is not None or optimizer is not None:
            self._budget, self._optimizer = wanted or budget, optimizer or assumed
            self._story = replace(self._story, memory=None)
        try:
            from IPython import get_ipython
            from IPython.display import display

            if get_ipython() is None:
                sys.stdout.write(f"{self}\n")
            else:
                display(self)
        finally:
            if (self._budget, self._optimizer) != (budget, assumed):
                self._budget, self._optimizer = budget, assumed
                self._story = replace(self._story, memory=known)
            self.view = shown

    def check(self) -> ModelSummary:
        """Return the summary if it is clean: one line for a test or a script.

        Raises:
            CheckError: If the forward failed, a rule warns, or a declared size is broken.
        """
        grave = [flag for flag in self.flags if flag.severity != "note"]
        if self.error is not None:
            raise CheckError(str(self.error)) from self.error
        if grave:
            lines = [
                f"{flag.path or 'model'}: {flag.message}" + (f" ({flag.fix})" if flag.fix else "") for flag in grave
            ]
            raise CheckError("\n".join([f"{len(grave)} finding(s)", *lines]))
        return self

    @classmethod
    @contextmanager
    def watch(cls, model: nn.Module, **options: Any) -> Iterator[Series]:
        """Summarise the calls of ``model`` that the block makes, with the inputs that came.

        The block runs as it would; the calls are traced when it ends, also if it ends with an exception.

        Args:
            model: The model to watch.
            options: Keywords of the constructor, except those that say the inputs.

        Yields:
            A list that holds, after the block, one summary for every run of equal calls.

        Example:
            >>> net = nn.Linear(4, 2)
            >>> import torch
            >>> with ModelSummary.watch(net) as calls:
            ...     for batch in torch.zeros(3, 8, 4):
            ...         _ = net(batch)
            >>> calls.times, calls[0][""].outputs[0].shape
            ([3], (8, 2))
        """
        check_model(model)
        series = Series()
        with ExitStack() as stack:
            seen = stack.enter_context(watch_calls(model))
            try:
                yield series
            finally:
                stack.close()
                for call in seen:
                    series.add(cls(call.model, call.inputs, **options), call.times, call.inputs.as_line())

    def diff(self, other: ModelSummary) -> Comparison:
        """Return what changed from ``other``, the older summary, to this one.

        Sizes that moved as their formula predicts are told apart from those that did not.

        Example:
            >>> old = ModelSummary(nn.Sequential(nn.Linear(4, 2)), (8, 4))
            >>> new = ModelSummary(nn.Sequential(nn.Linear(4, 3)), (8, 4))
            >>> [(change.path, change.what) for change in new.diff(old).changes]
            [('', 'size'), ('0', 'params'), ('0', 'size')]
        """
        from modelsummary_ipy.display.comparison import Comparison

        return Comparison(other._full_story(), self._full_story())

    def form(self, *, name: str = "model", model: nn.Module | None = None) -> SummaryForm:
        """Return a form of widgets that summarises the model again with other sizes, dtypes, device and mode.

        Args:
            name: What the model is called in the line that "Insert as code" writes.
            model: The model, if nobody else keeps it; a summary does not.

        Raises:
            InputError: If the model is gone, or the summary was made without inputs.
        """
        from modelsummary_ipy.notebook.form.form import SummaryForm
        from modelsummary_ipy.notebook.form.settings import Settings, dtype_of, write_size

        alive = model if model is not None else self._model()
        if alive is None:
            raise InputError("the model is gone", "the model kept under a name, or given", "ms.form(model=model)")
        if self._inputs is None:
            raise InputError(
                "a summary without inputs", "a size to begin with", "ModelSummary(model, (1, 3, 224, 224)).form()"
            )
        fixed = {
            "method": self._method,
            "expect": self._story.expect,
            "ignore": self._ignore,
            "optimizer": self._optimizer,
        }

        def make(inputs: ModelInputs, **keywords: Any) -> ModelSummary:
            return ModelSummary(alive, inputs, **{**fixed, **keywords})

        leaves = [leaf for _, leaf in self._inputs.leaves()]
        settings = Settings(
            tuple(map(write_size, leaves)),
            tuple(map(dtype_of, leaves)),
            "" if self._device is None else str(self._device),
            self._mode,
            self._engine,
            "" if self._budget is None else write_budget(self._budget),
            self.view.depth,
            self.view.ops,
            self.view.columns,
        )
        options = [("ignore", ",".join(self._ignore))] if self._ignore else []
        options += [("optimizer", self._optimizer)] if self._optimizer != "adamw" else []
        called = name if self._method == "forward" else f"{name}.{self._method}"
        return SummaryForm(self._inputs, make, self, called, settings, options)

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": self.to_text(), "text/html": self.to_html(), "text/markdown": self.to_markdown()}
        kept = {key: value for key, value in bundle.items() if not include or key in include}
        return {key: value for key, value in kept.items() if not exclude or key not in exclude}


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}={value!r}", f"one of {', '.join(map(repr, choices))}", f"{name}={choices[0]!r}")
