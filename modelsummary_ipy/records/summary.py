"""What a summary holds: rows, costs, flags, changes, and all of them together as a ``Story``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from modelsummary_ipy.records.cache import Cache, Context
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.op_events import AxisFinding
from modelsummary_ipy.records.trace import Absence, Formula, Kind, Severity, Status, TensorSpec, Trace
from modelsummary_ipy.records.training import Training


class Row(NamedTuple):
    """One line of the summary: a call, or a module that was not called.

    Attributes:
        index: Position in the summary.
        path: Path of the module; for an operation the path of the module whose code called it.
        type_name: Class name, or the operation's name.
        kind: ``"module"`` or ``"op"``.
        depth: How deep it is nested in ``parent`` rows; 0 for the model.
        call_index: 0 for the first call of this module.
        inputs, outputs: Tensors in and out; empty for a row that did not run.
        own_params: Scalars of parameters registered directly on the module; 0 for an operation.
        num_params: Scalars of parameters in the subtree, each counted once; 0 for an operation.
        trainable_params: Those of ``num_params`` that require grad.
        status: ``"ran"``, ``"failed"``, ``"unreached"`` (the forward failed before it) or ``"uncalled"``.
        source: ``"net.py:41"``, ``"In [5] line 3"``, or ``None``.
        parent: Index of the row it is nested in, ``None`` for the model.
        call: Index into ``Trace.calls``; ``None`` for a module that was not called.
        module: Index into ``Trace.modules``; for an operation the module whose code called it.
        extra_repr: The module's own ``extra_repr``; for an operation its plain arguments.
        absence: Why an uncalled module has no call: ``"elsewhere"`` where modules below it ran and have rows that are
            not nested in this one, ``"script"`` inside TorchScript, ``"weights"`` where a module above it uses its
            weights itself, as ``MultiheadAttention`` does, ``"threads"`` where the forward starts threads;
            ``""`` for any other.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which no code calls on a record
    path: str
    type_name: str
    kind: Kind
    depth: int
    call_index: int = 0
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    own_params: int = 0
    num_params: int = 0
    trainable_params: int = 0
    status: Status = "ran"
    source: str | None = None
    parent: int | None = None
    call: int | None = None
    module: int | None = None
    extra_repr: str = ""
    absence: Absence = ""

    @property
    def placed_params(self) -> int:
        """``num_params`` without those that rows outside this one count: these add up over rows without children."""
        return self.own_params if self.absence == "elsewhere" else self.num_params


def add_known(*numbers: int | None) -> int | None:
    """Add numbers up; ``None``, for unknown, if one of them is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


@dataclass(frozen=True, slots=True)
class Cost:
    """What one row costs.

    Attributes:
        mult_adds: Multiply-adds of the call and all in it; ``None`` if any part is unknown.
        own_mult_adds: Without its children.
        activation_bytes: What it makes autograd save for backward, children included; ``None`` if unknown.
        own_activation_bytes: Without its children.
        approximate: Whether a backend's workspace or autocast makes ``activation_bytes`` approximate.
    """

    mult_adds: int | None = None
    own_mult_adds: int | None = None
    activation_bytes: int | None = None
    own_activation_bytes: int | None = None
    approximate: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """Where the memory goes, in bytes; ``None`` is unknown.

    Attributes:
        param_bytes, buffer_bytes: What parameters and buffers take, each storage once.
        input_bytes: The storages that the forward is called with.
        activation_bytes: What autograd saves for backward, each storage once, parameters left out.
        gradient_bytes: One gradient per parameter that requires grad, of its dtype.
        optimizer_bytes: State the optimizer keeps beside them, on the same device; its step counts are left out.
        forward_peak_bytes: The largest sum of live tensor storages during a forward without autograd, inputs included,
            parameters, buffers and workspaces of kernels left out.
        peak_bytes: The most that lives at one time in a training step (``Training``).
        run_bytes: The most that lives in a forward without autograd in the precision of the step, parameters and
            buffers included; ``None`` where that is the model's own.
        optimizer: Its name: ``"adamw"``.
        approximate: Whether a backend's workspace or autocast makes ``activation_bytes`` approximate.
        saved_input_bytes: Those of ``activation_bytes`` that are storages of the input.
        budget_bytes: ``--memory``, or the memory of the device the model is on; ``None`` if not requested.
        budget_text: The same as it is shown, in the unit that was typed: ``"24 GB"``.
        batch: Size of the batch that was traced, ``None`` if the input has none.
        most_for_inference, most_for_training: The largest batch that fits the budget, found by tracing; 0 if not even
            one does, ``None`` if unknown or not requested.
    """

    param_bytes: int
    buffer_bytes: int
    input_bytes: int
    activation_bytes: int | None = None
    gradient_bytes: int = 0
    optimizer_bytes: int | None = 0
    forward_peak_bytes: int | None = None
    peak_bytes: int | None = None
    optimizer: str = "adamw"
    approximate: bool = False
    saved_input_bytes: int = 0
    budget_bytes: int | None = None
    budget_text: str = ""
    batch: int | None = None
    most_for_inference: int | None = None
    most_for_training: int | None = None
    run_bytes: int | None = None

    @property
    def inference_bytes(self) -> int | None:
        """Parameters, buffers and the peak of live tensors during the forward (the input is one of them)."""
        if self.run_bytes is not None:
            return self.run_bytes
        if self.forward_peak_bytes is None:
            return None
        return self.param_bytes + self.buffer_bytes + self.forward_peak_bytes

    @property
    def training_bytes(self) -> int | None:
        """The peak of a training step: all that lives when most does, parameters, buffers and input included."""
        return self.peak_bytes

    @property
    def breakdown(self) -> Mapping[str, tuple[int, float]]:
        """Bits and megabytes (of 10⁶ bytes) of a training step: ``parameters, input, forward_backward, total``.

        As ``pytorch_modelsize`` broke it down; to its keys come ``buffers`` and ``optimizer``. ``forward_backward`` is
        what autograd saves besides the input, and the gradients. What is unknown is left out. The total is the step's
        peak: at no moment all parts live at once, and while most does, others may.
        """
        parts = {
            "parameters": self.param_bytes,
            "buffers": self.buffer_bytes,
            "input": self.input_bytes,
            "forward_backward": None
            if self.activation_bytes is None
            else self.activation_bytes - self.saved_input_bytes + self.gradient_bytes,
            "optimizer": self.optimizer_bytes,
            "total": self.training_bytes,
        }
        return {name: (8 * nbytes, nbytes / 1e6) for name, nbytes in parts.items() if nbytes is not None}

    @property
    def fits_inference(self) -> bool | None:
        """Whether the forward fits the budget; ``None`` if either is unknown."""
        return _fits(self.inference_bytes, self.budget_bytes)

    @property
    def fits_training(self) -> bool | None:
        """Whether a training step fits the budget; ``None`` if either is unknown."""
        return _fits(self.training_bytes, self.budget_bytes)


def _fits(needed: int | None, budget: int | None) -> bool | None:
    return None if needed is None or budget is None else needed <= budget


#: What a flag counts: a number, or the numbers of a shape; a name where there is none.
Number = int | str | tuple[int, ...] | tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """A finding on a row.

    Attributes:
        rule: Its id in kebab-case, ``"grown-map"``.
        severity: ``"error"``, ``"warning"`` or ``"note"``.
        row: Index of its row.
        path: That row's path.
        message: What was found, with the numbers.
        fix: What to change, in code; ``""`` if there is none.
        code: Which of the rule's findings it is, ``"reduced"`` of ``batch-lost``; the rule's id where it has one kind.
        numbers: What the message says, by name: sizes, shapes and counts.
        more: Indices of further rows that have the same of the same cause, on the same line of code.
    """

    rule: str
    severity: Severity
    row: int
    path: str
    message: str
    fix: str = ""
    code: str = ""
    numbers: Mapping[str, Number] = field(default_factory=dict, hash=False)
    more: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What differs in one row between two summaries: see ``diff.py``.

    Attributes:
        path: Path of the row.
        what: ``"added"``, ``"removed"``, ``"type"``, ``"params"``, ``"frozen"`` or ``"trainable"`` (the same
            parameters), ``"settings"``, ``"size"`` or ``"moved"`` (a size that moved as its formula predicts).
        old, new: Row indices in the older and the newer summary, ``None`` where it is absent.
        expected: Whether the formula predicted it; ``None`` where there is no formula.
    """

    path: str
    what: Literal["added", "removed", "type", "params", "frozen", "trainable", "settings", "size", "moved"]
    old: int | None
    new: int | None
    expected: bool | None = None


@dataclass(frozen=True, slots=True)
class Retrace:
    """The same forward at other sizes.

    Attributes:
        sizes: What was changed, by name of a dim: ``{"B": 9}``; all else stayed.
        trace: The records of that trace, also if it failed; it has no aten operations.
        partners: Per call of the first trace the index of the same call in this one, ``None`` where it has none.
    """

    sizes: Mapping[str, int]
    trace: Trace
    partners: tuple[int | None, ...]


@dataclass(frozen=True)
class Story:
    """All that is known of one trace. What is derived from the trace is a table keyed by row index.

    Attributes:
        trace: The records of the trace.
        rows: Its rows, in execution order.
        formulas: Per row, per output leaf, a formula or ``None``; empty until computed.
        input_formulas: The same for input leaves.
        costs: Per row; empty until computed.
        memory: ``None`` until computed.
        flags: What the rules found.
        expect: Declared sizes by path, ``{"conv0": "B 16 H W"}``.
        batch: Per row index, per output leaf, its whole size when the dim named ``B`` became B + 1 and all else
            stayed (``None`` where the row or leaf was not there then): what differs from the leaf's own size moves
            with the batch. Empty if that trace was not made or failed; then ``failed_at`` has the reason.
        constraints: Which sizes work, as text: ``("H and W divisible by 16",)``.
        failed_at: Sizes at which a re-trace failed, with the reason as text.
        retraces: The traces at other sizes that the rules read; the one at B + 1 comes first, also if it failed.
        unknown_ops: Operations whose mult-adds are not known.
        stopped: Which search a time limit ended, and how to go on; ``""`` if none.
        internal_errors: What of this package failed, ``"rule grown-map failed: please report it"``.
        axis_findings: Operations that do to axes what is probably not meant, as rules read them.
        origins: Per row, per output leaf, what each dim comes from, ``("B", "the features of qkv", "T")``; ``None`` for
            one of which that is not known.
        training: The training step; ``None`` until traced.
        cache: What the forward gives back for the next one; ``None`` if nothing, or until looked for.
        context: What a context takes; ``None`` unless requested.
        backward: Multiply-adds of the backward by row, all in it included; empty where no step was traced.
    """

    trace: Trace
    rows: tuple[Row, ...]
    formulas: Mapping[int, tuple[Formula | None, ...]] = field(default_factory=dict)
    input_formulas: Mapping[int, tuple[Formula | None, ...]] = field(default_factory=dict)
    costs: Mapping[int, Cost] = field(default_factory=dict)
    memory: Memory | None = None
    flags: tuple[Flag, ...] = ()
    expect: Mapping[str, Any] = field(default_factory=dict)
    batch: Mapping[int, tuple[tuple[int, ...] | None, ...]] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    failed_at: tuple[tuple[str, str], ...] = ()
    retraces: tuple[Retrace, ...] = ()
    unknown_ops: tuple[str, ...] = ()
    stopped: str = ""
    internal_errors: tuple[str, ...] = ()
    axis_findings: tuple[AxisFinding, ...] = ()
    origins: Mapping[int, tuple[tuple[str | None, ...], ...]] = field(default_factory=dict)
    training: Training | None = None
    backward: Mapping[int, int | None] = field(default_factory=dict)
    cache: Cache | None = None
    context: Context | None = None

    @lazy
    def row_of_call(self) -> Mapping[int, int]:
        """Row index by call index."""
        return {row.call: row.index for row in self.rows if row.call is not None}

    @lazy
    def children(self) -> Mapping[int, tuple[int, ...]]:
        """Row indices by the row they are nested in, in order."""
        found: dict[int, list[int]] = {}
        for row in self.rows:
            if row.parent is not None:
                found.setdefault(row.parent, []).append(row.index)
        return {parent: tuple(rows) for parent, rows in found.items()}

    @lazy
    def total_mult_adds(self) -> int | None:
        """Multiply-adds of all rows as far as they are known; ``None`` if none were counted."""
        known = [cost.own_mult_adds for cost in self.costs.values() if cost.own_mult_adds is not None]
        return sum(known) if known else None

    @lazy
    def mult_adds_by_type(self) -> Mapping[str, int]:
        """Multiply-adds by the type of the row that does them itself, as far as they are known; the most first."""
        found: dict[str, int] = {}
        for row in self.rows:
            cost = self.costs.get(row.index)
            if cost is not None and cost.own_mult_adds:
                found[row.type_name] = found.get(row.type_name, 0) + cost.own_mult_adds
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    @lazy
    def total_params(self) -> int:
        """Scalars of all registered parameters, each counted once."""
        return sum(p.num for p in self.trace.params if p.kind == "parameter" and p.names)

    @lazy
    def trainable_params(self) -> int:
        """Those of ``total_params`` that require grad."""
        return sum(p.num for p in self.trace.params if p.kind == "parameter" and p.names and p.trainable)
