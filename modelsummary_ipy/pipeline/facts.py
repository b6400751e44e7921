"""What is known of a summary, as its user reads it: a property for each stage."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from modelsummary_ipy.display import Plan
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.pipeline.request import Assumptions, read_assumptions
from modelsummary_ipy.pipeline.stages import Pipeline
from modelsummary_ipy.records.cache import Cache, Context
from modelsummary_ipy.records.errors import ForwardError, InputError
from modelsummary_ipy.records.summary import Cost, Flag, Memory, Row, Story
from modelsummary_ipy.records.trace import Formula
from modelsummary_ipy.records.training import Training


class Facts:
    """What is known of a summary, stage by stage, as its user reads it."""

    _rendering = staticmethod(collector_paused)

    def __init__(self, pipeline: Pipeline, assumed: Assumptions) -> None:
        self.pipeline = pipeline
        self.assumed = assumed

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every call in execution order, parents before children, and the modules that were not called."""
        return self.pipeline.rows

    def __getitem__(self, path: str) -> Row:
        """Return the first row of a path.

        Raises:
            KeyError: If no row has it; the message names the nearest paths.
            TypeError: If it is no text.
        """
        for row in self.rows:
            if row.path == path:
                return row
        if not isinstance(path, str):
            raise TypeError(f"{path!r} is no path of a row, such as 'conv1'; rows are numbered in .rows")
        near = difflib.get_close_matches(path, {row.path for row in self.rows}, 3, 0.5)
        raise KeyError(f"no row {path!r}" + (f"; did you mean {', '.join(map(repr, near))}?" if near else ""))

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What the rules found, in row order."""
        return self.pipeline.flags

    @property
    def formulas(self) -> Mapping[int, tuple[Formula | None, ...]]:
        """Per row index, per output leaf, its shape as a formula of the input's: ``("B", "16", "H + 8", "W + 8")``.

        A leaf has ``None`` where no formula predicts every trace that was made at other sizes.
        """
        return self.pipeline.found.outputs

    @property
    def constraints(self) -> tuple[str, ...]:
        """Which sizes work, as text, each tried on both sides: ``("H and W divisible by 16", "C = 3")``."""
        return self.pipeline.found.constraints

    @property
    def costs(self) -> Mapping[int, Cost]:
        """Per row index, its multiply-adds and the bytes autograd saves in it, with all in it and by itself.

        An unknown number is ``None``. Of more than 5,000 modules bytes are measured when this is read.
        """
        return self.pipeline.weighed.costs

    @property
    def total_mult_adds(self) -> int | None:
        """Multiply-adds of one forward, batch included; what ``unknown_ops`` names is left out. ``None`` untraced."""
        return replace(self.pipeline.bare, costs=self.pipeline.counted.costs).total_mult_adds

    def mult_adds_by(self, what: Literal["type", "op"] = "type") -> Mapping[str, int]:
        """Return the multiply-adds of one forward by kind, as far as they are known, the most first.

        Args:
            what: ``"type"`` for the type of the row that does them, a layer's class or an operation of the forward:
                ``{"Linear": …, "scaled_dot_product_attention": …}``; ``"op"`` for the aten operation: ``"addmm"``.

        Raises:
            InputError: If ``what`` is neither.
        """
        if what == "type":
            return replace(self.pipeline.bare, costs=self.pipeline.counted.costs).mult_adds_by_type
        if what != "op":
            raise InputError(f"mult_adds_by({what!r})", "'type' or 'op'", "ms.mult_adds_by('type')")
        found: dict[str, int] = {}
        for name, count in (pair for pairs in self.pipeline.operations.values() for pair in pairs):
            found[name] = found.get(name, 0) + (count or 0)
        return dict(sorted(((name, count) for name, count in found.items() if count), key=lambda pair: -pair[1]))

    @property
    def backward_mult_adds(self) -> Mapping[int, int | None]:
        """Per row index, the multiply-adds of its backward in a training step; ``{}`` where no step can be traced.

        What a checkpoint runs again counts; a loss counts in no row. The forward's are in ``costs``.
        """
        return self.pipeline.backward(self.training)

    @property
    def unknown_ops(self) -> tuple[str, ...]:
        """Operations whose multiply-adds are unknown, as ``register_mult_adds`` takes them: ``"mylib::fused_mlp"``."""
        return self.pipeline.counted.unknown_ops

    @property
    def cache(self) -> Cache | None:
        """What the forward gives back to be passed to the next one, a key-value cache or a state; ``None`` if nothing.

        Its bytes as a formula come from traces at other batches and lengths, and agree with all of them.
        """
        return self.pipeline.cache

    @property
    def cache_bytes(self) -> int | None:
        """Bytes of that cache at the sizes that were traced; ``None`` if there is none."""
        return None if self.pipeline.cache is None else self.pipeline.cache.nbytes

    @property
    def context(self) -> Context | None:
        """What the context takes that was asked for; ``None`` if none was."""
        return self.pipeline.context(self.assumed.context, self.assumed.budget)

    @property
    def memory(self) -> Memory:
        """Where the memory goes, what a training step takes, and, with a budget, the largest batch that fits it."""
        return self.pipeline.memory(self.assumed)

    @property
    def training(self) -> Training:
        """One step of training, forward, backward and optimizer: where its memory peaks, and what stands there.

        Raises:
            InputError: If the loss that was given gives no number to go backward from.
        """
        step = self.pipeline.training(self.assumed.step)
        if step.is_loss_wrong:
            received = f"loss={self.assumed.step.loss!r}: {step.reason}"
            raise InputError(received, "a function that gives one number", "loss=nn.CrossEntropyLoss()")
        return step

    def plan(
        self, memory: str | int | None = None, batch: int | None = None, *, seconds: Any = 30.0, name: str = "model"
    ) -> Plan:
        """Find which modules to checkpoint so that a training step fits a budget, and what else helps.

        Each is tried on a copy with fake tensors; nothing of the user's changes.

        Args:
            memory: The budget, ``"24GB"`` or bytes; by default that of the summary.
            batch: Another batch than the one of the summary's inputs.
            seconds: After so long no more is tried; the plan names what was not.
            name: What the model is called in the code to paste.

        Raises:
            InputError: If there is no budget or no such batch, or nothing can be trained.
        """
        from modelsummary_ipy.pipeline.plan import check_batch, find_plan

        assumed = read_assumptions(None, memory, base=self.assumed)
        if assumed.budget is None:
            raise InputError("no budget", "an amount of memory with a unit", "ms.plan(memory='24GB')")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise InputError(f"seconds={seconds!r}", "a number above zero", "seconds=30")
        check_batch(batch, self.pipeline.batch.base.get("B"))
        self.training  # noqa: B018  # a wrong loss is an error of the argument
        return find_plan(self.pipeline, assumed, batch, seconds, name)

    @property
    def error(self) -> ForwardError | None:
        """How the forward failed, ``None`` if it did not."""
        return self.pipeline.error

    @property
    def engine(self) -> str:
        """What traced it: ``"fake"``, ``"real"`` or ``"static"``."""
        return self.pipeline.bare.trace.engine

    @property
    def engine_reason(self) -> str:
        """Why it was not the fake engine, ``""`` if it was."""
        return self.pipeline.bare.trace.engine_reason

    @property
    def total_params(self) -> int:
        """Scalars of all parameters, each tensor counted once whatever its names."""
        return self.pipeline.bare.total_params

    @property
    def trainable_params(self) -> int:
        """Those of ``total_params`` that require grad."""
        return self.pipeline.bare.trainable_params

    @property
    def story(self) -> Story:
        """All facts behind the summary, with the flags; formulas only if they were found before."""
        return self.pipeline.known(self.assumed)

    @property
    def _failure_text(self) -> str:
        return "" if self.error is None else self.error.message

    @property
    def _operations(self) -> Mapping[int, Sequence[tuple[str, int | None]]]:
        return self.pipeline.operations


def check_context(pipeline: Pipeline, length: int | None) -> None:
    """Check that a context can be measured, before anything is shown.

    Raises:
        InputError: If the forward gives no cache back, or no context of it can be so long.
    """
    trace, request = pipeline.traced.trace, pipeline.traced.request
    if length is None or trace.failure is not None:
        return
    traces = pipeline.cache_traces()
    if traces is not None:
        traces.check(length)
    elif pipeline.bare_cache is None:
        example = "use_cache=True" if request is not None and "use_cache" in request.names else ""
        raise InputError(f"context={length:,}, and the forward gives no cache back", "a model that gives one", example)
