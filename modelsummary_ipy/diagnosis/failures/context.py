"""What is known where a forward failed: the call, its tensors, where each was made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from modelsummary_ipy.diagnosis.failures.statements import Statement, drop_remark, read_statement
from modelsummary_ipy.model.torch_layers import LAYERS, OUTPUT_SETTINGS
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.fixes import Candidate, LineEdit
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.trace import Call, Failure, Formula, Link, ModuleFact, Source, TensorSpec, Trace

#: Where to look for inputs that work, in this order: at what the failed call wants, at other ranks and orders of axes,
#: at the nearest sizes, at larger ones.
STEER = ("steer",)
STEP = ("step",)
RESHAPE = ("reshape", "steer")
GROW = ("steer", "grow", "step")
ANYWHERE = ("steer", "step", "named", "reshape", "grow")

#: No fix is known.
NOTHING = Candidate()

#: What to measure of a call while sizes are searched for: how large a dim is of what it reads; ``None`` without one.
Measure = Callable[[Call], "int | None"]


def dim_of(axis: int, leaf: int = 0) -> Measure:
    """Measure one dim of one tensor that a call reads; both may be counted from the end."""

    def measure(call: Call) -> int | None:
        shape = call.inputs[leaf].shape if -len(call.inputs) <= leaf < len(call.inputs) else ()
        return shape[axis] if -len(shape) <= axis < len(shape) else None

    return measure


def product_from(axis: int) -> Measure:
    """Measure how many scalars the dims from ``axis`` on hold of the first tensor that a call reads."""
    return lambda call: math.prod(call.inputs[0].shape[axis:]) if call.inputs else None


@dataclass(frozen=True)
class Operand:
    """A tensor that took part in what failed.

    Attributes:
        spec: Its name, size, dtype and device.
        link: Where it was made.
        param: Index of the parameter or buffer that it is.
        formula: Its size as a formula of the input's, if known.
    """

    spec: TensorSpec
    link: Link | None = None
    param: int | None = None
    formula: Formula | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.spec.shape

    @property
    def rank(self) -> int:
        """Its number of axes."""
        return len(self.spec.shape)

    @property
    def numel(self) -> int:
        """How many scalars it holds."""
        return math.prod(self.spec.shape)

    @property
    def is_input(self) -> bool:
        """Whether it is the model's own input."""
        return self.link is not None and self.link.call < 0


@dataclass(frozen=True)
class Diagnosis:
    """Why a call failed and what to do.

    Attributes:
        reason: Why, with the arithmetic.
        expected: What would have fitted; ``""`` if there is no one such thing.
        fix: What to change, best first where there are several ways; nothing if not known.
        is_open: Whether any change of the failing line is worth a trial, because no reason is known.
        search: Where to look for inputs that work: ``STEER``, ``RESHAPE`` and the like.
        goal: What the failed call would have to read, to search sizes for: ``(what to measure of a call, value)``.
        candidates: Inputs worth trying before all others, one ``TensorSpec`` per input leaf.
        code: What kind of failure it is: see ``CODES`` in ``explain.py``.
        call: The call whose inputs are wrong, where it is not the failed one.
    """

    reason: str
    expected: str = ""
    fix: Candidate | Sequence[Candidate] = NOTHING
    search: tuple[str, ...] = ()
    goal: tuple[Measure, int] | None = None
    candidates: tuple[tuple[TensorSpec, ...], ...] = ()
    is_open: bool = False
    code: str = ""
    call: Call | None = None

    @property
    def fixes(self) -> list[Candidate]:
        """The ways to change it, best first."""
        return [fix for fix in ([self.fix] if isinstance(self.fix, Candidate) else self.fix) if fix]


@dataclass(frozen=True)
class FailureContext:
    """The failed call with what is around it.

    Attributes:
        story: All that is known of the trace.
        failure: How it failed.
        call: The innermost call that failed; one without inputs if the forward failed outside every call.
        edits: Changes of lines that were made before; a statement is read with them.
    """

    story: Story
    failure: Failure
    call: Call
    edits: tuple[LineEdit, ...] = ()

    def at_line_of(self, call: Call) -> FailureContext:
        """Return the context in which the line that made an earlier call is the one to change."""
        return replace(self, failure=replace(self.failure, source=call.source, source_text=""), call=call)

    @property
    def trace(self) -> Trace:
        """The records of the trace."""
        return self.story.trace

    @lazy
    def flow(self) -> Dataflow:
        """Which call made each tensor, and which read it."""
        return Dataflow(self.trace)

    @lazy
    def fact(self) -> ModuleFact | None:
        """The module that failed; for an operation the one whose code called it."""
        return None if self.call.module is None else self.trace.modules[self.call.module]

    @lazy
    def function(self) -> str:
        """The torch function that failed: ``"linear"`` for a Linear layer and ``F.linear`` alike; ``""`` if none."""
        if self.call.kind == "op":
            return self.call.type_name
        if not self.is_torch_layer:
            return ""
        layer = LAYERS.get(self.call.type_name)
        return layer.function if layer is not None else _name_loss(self.call.type_name)

    @property
    def is_torch_layer(self) -> bool:
        """Whether what failed is a layer of torch's own, whose inside is its own business."""
        fact = self.fact
        return self.call.kind == "module" and fact is not None and fact.type_module.startswith("torch.")

    @lazy
    def operands(self) -> tuple[Operand, ...]:
        """The inputs of the failed call."""
        return self.operands_of(self.call)

    def operands_of(self, call: Call) -> tuple[Operand, ...]:
        """Return the inputs of a call."""
        formulas = self.story.input_formulas.get(self.story.row_of_call.get(call.index, -1), ())
        found = []
        for index, spec in enumerate(call.inputs):
            link = call.input_links[index] if index < len(call.input_links) else None
            param = call.input_params[index] if index < len(call.input_params) else None
            found.append(Operand(spec, link, param, formulas[index] if index < len(formulas) else None))
        return tuple(found)

    @lazy
    def data(self) -> tuple[Operand, ...]:
        """The inputs that are no parameters."""
        return tuple(x for x in self.operands if x.param is None)

    @lazy
    def weights(self) -> tuple[TensorSpec, ...]:
        """The parameters and buffers that took part: of an operation its arguments, of a layer all it has."""
        if self.call.kind == "op":
            return tuple(x.spec for x in self.operands if x.param is not None)
        facts = [self.trace.params[index] for index in self.fact.params] if self.fact is not None else []
        return tuple(TensorSpec(p.names[0] if p.names else "", p.shape, p.dtype, p.device) for p in facts)

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting of the module that failed."""
        return self.fact.settings.get(name, default) if self.fact is not None else default

    def given(self, name: str, default: Any = None) -> Any:
        """Return a setting of the layer that failed, or an argument of the operation."""
        return self.flow.setting(self.call, name, default)

    @lazy
    def statement(self) -> Statement | None:
        """The statement that failed, as the user's file or cell has it."""
        return self.read(self.failure.source)

    def read(self, source: Source | None) -> Statement | None:
        """Return a statement of the user's, with the changes that were made before."""
        found = read_statement(source)
        for edit in self.edits if found is not None else ():
            if found is not None and (edit.filename, edit.first) == (found.filename, found.first):
                found = found._replace(text=edit.text)
        return found

    def read_at(self, line: int) -> Statement | None:
        """Return the statement at a line of the file that failed, with the changes that were made before."""
        return self.read(self.failure.source._replace(line=line)) if self.failure.source is not None else None

    @property
    def is_in_package(self) -> bool:
        """Whether the line that failed is an installed package's, which is not the user's to change."""
        return self.failure.source is not None and self.failure.source.filename.startswith(PACKAGES)

    @lazy
    def line(self) -> str:
        """The failing statement without the remark at its end, where fixes are written into it."""
        found = self.statement
        return drop_remark(self.failure.source_text if found is None else found.text)

    @lazy
    def earlier(self) -> int:
        """How often the failing line ran the operation that failed before, in this call of its module."""
        call = self.call
        return sum(
            other.type_name == call.type_name and other.source == call.source and other.parent == call.parent
            for other in self.trace.calls[: max(call.index, 0)]
        )

    @lazy
    def arguments(self) -> dict[str, Any]:
        """The failed call's own plain arguments by name."""
        return dict(self.call.arguments)

    def list_unread(self) -> list[ModuleFact]:
        """List the modules that have not run yet."""
        ran = {call.module for call in self.trace.calls}
        return [fact for fact in self.trace.modules if fact.index not in ran]

    def describe_giver(self, x: Operand, axis: int) -> str:
        """Write where a dim got its size: ``"'fc1' (Linear) outputs"``, ``"the model's input has"``."""
        if x.is_input:
            return "the model's input has"
        origin = self.flow.find_origin(x.link, x.shape, axis, OUTPUT_SETTINGS)
        if origin is None:
            return "the input has" if self.flow.is_like_input(x.link, x.shape) else "there are"
        return f"{name_call(origin)} outputs"

    def change_input(self, x: Operand, **changes: Any) -> tuple[tuple[TensorSpec, ...], ...]:
        """Return the model's inputs to try, with another shape or dtype of ``x``; ``()`` if it is none of them."""
        if x.link is None or not x.is_input:
            return ()
        specs = [fact.spec for fact in self.trace.inputs]
        specs[x.link.leaf] = specs[x.link.leaf]._replace(**changes)
        return (tuple(specs),)

    @lazy
    def parent(self) -> Call | None:
        """The call that the failed one ran in."""
        return None if self.call.parent is None else self.trace.calls[self.call.parent]

    @property
    def owner(self) -> str:
        """Path of the module that failed, in quotes; ``"the model"`` for the model itself."""
        return name_owner(self.call)


class Pair(NamedTuple):
    """Two operands of the failed call whose sizes do not fit.

    Attributes:
        ctx: The failure.
        both: The operands.
        places: Which of the operands they are.
        axes: The dims in which they differ, counted from the end as negative numbers, the last one first.
    """

    ctx: FailureContext
    both: tuple[Operand, Operand]
    places: tuple[int, int]
    axes: list[int]

    def each(self) -> Iterator[tuple[Operand, Operand, int, int]]:
        """Yield each operand with the other one, its place and the other's."""
        (left, right), (here, there) = self.both, self.places
        yield left, right, here, there
        yield right, left, there, here

    @property
    def is_spatial(self) -> bool:
        """Whether they are feature maps or signals of one rank that differ in their sides alone."""
        left, right = self.both
        return left.rank == right.rank > 2 and all(left.rank + axis >= 2 for axis in self.axes)

    def find_larger(self) -> int:
        """Return which of them is larger in the last dim in which they differ."""
        return int(self.both[0].shape[self.axes[0]] <= self.both[1].shape[self.axes[0]])


def _name_loss(type_name: str) -> str:
    """Write the function of a loss: ``"triplet_margin_loss"`` for ``TripletMarginLoss``; ``""`` for other classes."""
    if not type_name.endswith("Loss"):
        return ""
    if type_name.startswith("BCE"):
        return "binary_cross_entropy" + ("_with_logits" if "Logits" in type_name else "")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type_name).lower()
    return {"kldiv_loss": "kl_div", "kl_div_loss": "kl_div", "cross_entropy_loss": "cross_entropy"}.get(name, name)


def name_owner(call: Call) -> str:
    """Write the path of a module in quotes; ``"the model"`` for the model itself."""
    return f"'{call.path}'" if call.path else "the model"


def name_call(call: Call) -> str:
    """``"'fc1' (Linear)"`` for a module, ``"cat()"`` for an operation."""
    return f"'{call.path}' ({call.type_name})" if call.kind == "module" else f"{call.type_name}()"


def is_of_package(fact: ModuleFact) -> bool:
    """Return whether a module's class is an installed package's, and not torch's own."""
    return fact.forward_file.startswith(PACKAGES) and not fact.type_module.startswith("torch.")


def build_context(story: Story, edits: tuple[LineEdit, ...] = ()) -> FailureContext | None:
    """Collect what is known of the failed call; ``None`` if nothing failed."""
    failure = story.trace.failure
    if failure is None:
        return None
    nowhere = Call(-1, "module", "", story.trace.model_type, None, 0)
    call = story.trace.calls[failure.call] if failure.call is not None else nowhere
    failure = replace(failure, message=failure.message.replace("FakeTensor", "Tensor"))
    return FailureContext(story, failure, call, edits)


def list_inside(trace: Trace, path: str) -> list[ModuleFact]:
    """List the module at a path and all that are in it."""
    return [fact for fact in trace.modules if not path or f"{fact.path}.".startswith(f"{path}.")]
