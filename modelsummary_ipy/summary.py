"""``ModelSummary``: a façade over the stages of ``pipeline/`` and the outputs of ``display/``."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from modelsummary_ipy.diagnosis.expectations import check_expect, check_ignore
from modelsummary_ipy.display import Comparison, Exports, Series
from modelsummary_ipy.inputs import ModelInputs, check_model, describe_type, read_inputs
from modelsummary_ipy.pipeline import Facts, Request, check_context, read_assumptions, trace_model
from modelsummary_ipy.pipeline.examples import example_found, write_call
from modelsummary_ipy.records.dims import Dim
from modelsummary_ipy.records.errors import CheckError, InputError
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.view import View, WhenFormulas, make_view, show_memory, show_modules
from modelsummary_ipy.tracing.loss_path import GivenLoss
from modelsummary_ipy.tracing.progress import keeping_rows
from modelsummary_ipy.tracing.watch import watch_calls

if TYPE_CHECKING:
    from pandas import DataFrame

    from modelsummary_ipy.notebook.form.form import SummaryForm
    from modelsummary_ipy.records.trace import Engine, Mode
    from modelsummary_ipy.tracing.progress import Observer


class ModelSummary(Facts, Exports):
    """The input and output shapes of every layer of a model, its costs, and the rows that are probably a mistake.

    The forward runs on a copy of the model with fake tensors: no arithmetic is done, and the model, its buffers,
    modes, hooks and every generator are afterwards as they were.

    Args:
        model: The model; an instance of ``torch.nn.Module``.
        inputs: What to pass: sizes, data or both. A flat sequence of ints is one size, ``(1, 3, 224, 224)``; a list or
            tuple of other things the positional arguments; a dict the keyword arguments if its keys are parameters.
            ``None`` shows the module tree alone.
        more: Further positional arguments, as in a call of the model: ``ModelSummary(model, x, mask)``.
        input_size: The same, read as sizes only.
        input_data: The same, read as data only.
        method: What to call instead of ``forward``: ``"encode"``.
        dtypes: Dtype of made-up inputs: one, or one per size, or by parameter name. By default that of the layer that
            reads the input.
        device: Device of the trace: ``"cpu"``, ``"cuda"``, ``"meta"``. The model is not moved.
        mode: ``"same"``, ``"train"`` or ``"eval"``.
        engine: ``"fake"`` never runs the model; ``"real"`` runs a copy of it; ``"auto"`` runs it
            only if the forward is data-dependent and the run is short; ``"static"`` shows the module tree.
        expect: Shapes you declare, by path: ``{"conv0": "B 16 H W", "": "B 10"}``.
        ignore: Ids of rules not to run: ``["grown-map"]``.
        memory: Memory budget of a GPU, which need not be here: ``"24GB"`` or bytes.
            A display has a training step where this or something that the step is made of is given, and where its
            columns show memory or the backward.
        optimizer: Optimizer of the training step: ``"adamw"`` (the default), ``"sgd-single"``, ``"adam-fused"``, a
            class of ``torch.optim`` or your own one, which is copied.
        loss: Loss of the training step, a function of the output and, if it takes two, of a target that is made up. By
            default the model's own, or the sum of what it gives.
        precision, accumulate: Of the training step: ``"as is"``, ``"bf16"``, ``"bf16-mixed"`` or ``"fp16-mixed"``
            (with a gradient scaler), and its batches.
        context: Length of a context to measure, of a model that gives a cache back: ``"32k"`` or positions.
        trace_once: Whether the forward's Python runs exactly once: for one that writes, or takes long. What only
            further traces show is then unknown: formulas, which sizes work, fixes, what depends on the batch.
        arguments: Inputs by the names of the method's parameters, as the magic takes them: ``input_ids=(1, 64)``.
        observer: Called with ``(calls so far, path)`` at every module call; a true result cancels.

    Raises:
        InputError: If the arguments make no sense, before anything is traced. That the *model* fails is no error of the
            arguments: ``error`` holds it, and ``rows`` all that ran.

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
        *more: Any,
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
        optimizer: Any = None,
        loss: Callable[..., Any] | None = None,
        precision: str | None = None,
        accumulate: int | None = None,
        context: int | str | None = None,
        trace_once: bool = False,
        observer: Observer | None = None,
        **arguments: Any,
    ) -> None:
        try:
            check_model(model)
            if more:
                inputs = (inputs, *more)
            assumed = read_assumptions(model, memory, optimizer, loss, precision, accumulate, context)
            declared = check_expect(expect, dict(model.named_modules(remove_duplicate=False)) if expect else {})
            ways: dict[str, Any] = {"input_size": input_size, "input_data": input_data, "arguments": arguments}
            given: ModelInputs | None = None
            if arguments or inputs is not None or input_size is not None or input_data is not None:
                options = inspect.signature(ModelSummary).parameters
                with nullcontext() if trace_once else example_found(model, method, partial(write_call, method)):
                    given = read_inputs(model, inputs, method=method, dtypes=dtypes, options=options, **ways)
            request = Request(given, method, device, mode, engine, declared, check_ignore(ignore), trace_once)
            super().__init__(trace_model(model, request, observer), assumed)
            self.view = View()
            if loss is not None and method == "forward":
                self.pipeline.follow_loss(GivenLoss(loss))
            check_context(self.pipeline, assumed.context)
        except InputError as error:
            raise error.with_traceback(None)  # noqa: B904  # its sentence says it all: no frames of ours above it

    @property
    def summary(self) -> DataFrame:
        """The leaf modules as a DataFrame with the columns ``Name, Type, InSz, OutSz, Params``."""
        from modelsummary_ipy.display.render.frame import seed_frame

        return seed_frame(self.pipeline.bare)

    @property
    def dims(self) -> Mapping[str, Dim]:
        """The dims of the input by name, and which of them an operation reads across; one of one entry is not in it.

        Along a dim that none reads across a batch can be cut, and its parts computed one by one or on several ranks.
        """
        return self.pipeline.dims

    def _build_story(self, formulas: WhenFormulas = "usual", *, everything: bool = False) -> Story:
        if formulas == "usual" and "formula" in self.view.columns:
            formulas = "always"
        with_step = self.view.needs_step or self.assumed.is_asked
        with_step |= everything and not self.pipeline.traced.shadow.is_large
        return self.pipeline.shown(self.assumed, formulas, with_step=with_step)

    @property
    def _shown_view(self) -> View:
        view = self.view if self.assumed.budget is None else show_memory(self.view)
        return show_modules(view) if self.engine == "static" else view

    def show(
        self,
        *,
        depth: int | Literal["all"] | None = None,
        ops: bool | None = None,
        columns: Collection[str] | None = None,
        memory: str | int | None = None,
        optimizer: Any = None,
        flops: bool | None = None,
        context: int | str | None = None,
        fix: bool = False,
        plan: bool = False,
    ) -> None:
        """Display another view of the same summary; in a plain script, print it.

        Args:
            depth: Levels that are open; ``"all"`` opens every one, in a page as large as that takes.
            ops, columns: Whether operations are shown, and which columns.
            memory, optimizer, context: Another budget, ``"24GB"``, another optimizer, another context, ``"32k"``.
            flops: Whether FLOPs are shown in the place of MACs: two each.
            fix: Whether to print the best fix of a failure too, as a diff.
            plan: Whether to show what to checkpoint so that a training step fits the budget too.
        """
        from IPython import get_ipython
        from IPython.display import display

        shown = copy.copy(self)  # shares the pipeline
        shown.view = make_view(self.view, depth=depth, ops=ops, columns=columns, flops=flops)
        shown.assumed = read_assumptions(self.pipeline.model(), memory, optimizer, context=context, base=self.assumed)
        check_context(self.pipeline, shown.assumed.context)
        for part in (shown, shown.plan()) if plan else (shown,):
            if get_ipython() is None:
                sys.stdout.write(f"{part}\n")
            else:
                display(part)
        if fix and self.error is not None:
            sys.stdout.write(f"{self.error.patch or self.error.fix or 'no fix was found'}\n")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        with keeping_rows():  # a display that is interrupted shows what there is
            return super()._repr_mimebundle_(include, exclude)

    def check(self) -> ModelSummary:
        """Return the summary if it is clean: one line for a test or a script.

        Raises:
            CheckError: If the forward failed, a rule warns, or a declared size is broken.
        """
        grave = [flag for flag in self.flags if flag.severity != "note"]
        if self.error is not None:
            raise CheckError(str(self.error)) from self.error
        if grave:
            lines = [f"{one.path or 'model'}: {one.message}{f' ({one.fix})' if one.fix else ''}" for one in grave]
            raise CheckError("\n".join([f"{len(grave)} finding(s)", *lines]))
        return self

    @classmethod
    def watch(cls, model: nn.Module, **options: Any) -> AbstractContextManager[Series]:
        """Summarise the calls of ``model`` that the block makes, with the inputs that came.

        The block runs as it would; the calls are traced when it ends, also if it ends with an exception.

        Returns:
            A context, which gives a list that holds, after the block, one summary for every run of equal calls.
            Options are keywords of the constructor, except those for inputs.

        Raises:
            InputError: If ``model`` is none.

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
        return cls._watch(model, options)

    @classmethod
    @contextmanager
    def _watch(cls, model: nn.Module, options: Mapping[str, Any]) -> Iterator[Series]:
        series = Series()
        with ExitStack() as stack:
            seen = stack.enter_context(watch_calls(model))
            try:
                yield series
            finally:
                stack.close()
                for call in seen:
                    made = cls(call.model, call.inputs, **options)
                    if call.path is not None:
                        made.pipeline.follow_loss(call.path)
                    series.add(made, call.times, call.inputs.as_line())

    def diff(self, other: ModelSummary) -> Comparison:
        """Return what changed from ``other``, the older summary, to this one.

        Shapes that moved as their formula predicts are kept apart from those that did not.

        Raises:
            InputError: If ``other`` is no summary.

        Example:
            >>> old = ModelSummary(nn.Sequential(nn.Linear(4, 2)), (8, 4))
            >>> new = ModelSummary(nn.Sequential(nn.Linear(4, 3)), (8, 4))
            >>> [(change.path, change.what) for change in new.diff(old).changes]
            [('', 'size'), ('0', 'params'), ('0', 'size')]
        """
        if not isinstance(other, ModelSummary):
            raise InputError(f"{describe_type(other)} to compare with", "an older ModelSummary", "ms.diff(older)")
        return Comparison(other._build_story(), self._build_story())

    def form(self, *, name: str = "model", model: nn.Module | None = None) -> SummaryForm:
        """Return a form of widgets that summarises the model again with other sizes, dtypes, device and mode.

        Args:
            name: What the model is called in the line that "Copy as code" copies.
            model: The model, if nothing else keeps it; a summary does not.

        Raises:
            InputError: If the model is gone, or the summary was made without inputs.
        """
        from modelsummary_ipy.notebook.form.open import open_form

        return open_form(self, name, model)
