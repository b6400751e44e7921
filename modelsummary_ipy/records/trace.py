"""The facts of one summary: frozen dataclasses without tensors, modules or display strings.

Every package imports this file; it imports none. Shapes are ``tuple[int, ...]``, dtypes and devices are torch's names
without the ``torch.`` (``"float32"``, ``"cuda:0"``), bytes end in ``_bytes``, and ``None`` means "unknown".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

Kind = Literal["module", "op"]
ParamKind = Literal["parameter", "buffer"]
Status = Literal["ran", "failed", "unreached", "uncalled"]
Absence = Literal["", "elsewhere", "script", "weights", "threads"]
Severity = Literal["error", "warning", "note"]
EngineName = Literal["fake", "real", "static"]
Engine = Literal["auto", EngineName]
Mode = Literal["same", "train", "eval"]

#: What ``ModelSummary`` takes.
MODES: tuple[Mode, ...] = get_args(Mode)
ENGINES: tuple[Engine, ...] = get_args(Engine)

#: One formula per leaf, one string per dim: ``("B", "16", "⌈H/2⌉", "W + 8")``.
Formula = tuple[str, ...]

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class TensorSpec(NamedTuple):
    """One input or output tensor of a call.

    Attributes:
        name: Key path inside the call's inputs or outputs: ``""`` for a bare tensor, ``"[0]"``, ``"['logits']"``,
            ``".last_hidden_state"``; several arguments are named by parameter: ``"mask"``, ``"states[0]"``.
        shape: Its sizes; ``-1`` is the ragged dim of a nested tensor.
        dtype: ``"float32"``, ``"int64"``.
        device: ``"cpu"``, ``"cuda:0"``, ``"meta"``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str

    @property
    def nbytes(self) -> int:
        """Bytes of its elements, as if each were stored; a ragged dim counts as empty."""
        return math.prod(max(size, 0) for size in self.shape) * _itemsize(self.dtype)


def _itemsize(dtype: str) -> int:
    """Bytes of one element, read off the name: ``"bfloat16"`` has 2, ``"bool"`` 1, a packed ``"quint4x2"`` 1."""
    bits = re.search(r"\d+", dtype)
    return max(int(bits.group()) // 8, 1) if bits else 1


class Link(NamedTuple):
    """Where a tensor was made: the index of the call and the index of the leaf among that call's outputs.

    ``call`` is -1 for a leaf of the model's own input; then ``leaf`` counts the input leaves of the trace.
    """

    call: int
    leaf: int


class Source(NamedTuple):
    """A line of the user's code.

    Attributes:
        file: What a person calls the file: ``"net.py"``, ``"In [5]"``; never a kernel's temporary path.
        line: 1-based line in that file or cell.
        function: The name of the function the line is in: ``"forward"``.
        filename: The code object's own ``co_filename``, to read the text by ``linecache``; never shown.
    """

    file: str
    line: int
    function: str = ""
    filename: str = ""

    @property
    def text(self) -> str:
        """The line as people read it: ``"net.py:41"``, ``"In [5] line 3"``."""
        return f"{self.file} line {self.line}" if self.file.startswith("In [") else f"{self.file}:{self.line}"


class AtenOp(NamedTuple):
    """One aten operation that ran inside a call, what MACs are counted on.

    Attributes:
        op: ``"aten.addmm.default"``.
        inputs: Sizes of its tensor arguments in order, lists of tensors flattened; ``None`` for an optional tensor
            argument that was not given; a quantized layer's packed weight counts as a tensor. -1 is a ragged size.
        outputs: Sizes of its tensor results in order.
        arguments: Its plain arguments by schema name, those that a cost formula may need (``groups``, ``transposed``);
            ``None`` where one was left at its default.
        dtype: Of the first tensor result.
    """

    op: str
    inputs: tuple[tuple[int, ...] | None, ...]
    outputs: tuple[tuple[int, ...], ...]
    arguments: tuple[tuple[str, Any], ...] = ()
    dtype: str = "float32"


class ParamFact(NamedTuple):
    """One parameter or buffer, by identity: tied weights are one ``ParamFact`` with several names.

    Attributes:
        index: Position in ``Trace.params``.
        names: Every path it is registered under, ``"encoder.weight"``; empty if only reachable unregistered.
        shape: Sizes; ``()`` while lazy.
        num: Number of scalars; 0 while lazy.
        nbytes: Bytes of its storage that it really takes (packed 4-bit weights and expanded views included right); what
            it shares with a parameter before it is left out, so these add up.
        trainable: Whether it requires grad.
        kind: ``"parameter"`` or ``"buffer"``.
        lazy: Whether it had no size when the tree was read.
        local_shape: Of a sharded one: the size of this rank's part. ``shape`` and ``num`` are global, ``nbytes`` are
            this rank's.
        ranks: The number of ranks that it is sharded over or repeated on.
        triangle: Of a square buffer whose rows hold one number up to so many places behind the diagonal, and another
            number after it: how many, and both numbers.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which no code calls on a record
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    device: str
    num: int
    nbytes: int
    trainable: bool
    kind: ParamKind = "parameter"
    lazy: bool = False
    local_shape: tuple[int, ...] | None = None
    ranks: int = 1
    triangle: tuple[int, float, float] | None = None


class ModuleFact(NamedTuple):
    """One module instance of the model, by identity.

    Attributes:
        index: Position in ``Trace.modules``.
        paths: Every path it is registered under, in ``named_modules(remove_duplicate=False)`` order; empty for a
            module that is not registered (kept in a plain list, or made during the forward).
        type_name: Class name, ``"Conv2d"``.
        type_module: Where the class is defined, ``"torch.nn.modules.conv"``.
        parent: Index of the module that registers its first path, ``None`` for the model itself.
        children: Indices of registered children, in registration order, each once.
        params: Indices of ``Trace.params`` registered directly on it (parameters and buffers, in order).
        settings: Its plain attributes: ``{"stride": (1, 1), "padding": (5, 5), "batch_first": False}``.
        extra_repr: Its own ``extra_repr``.
        training: Its mode when traced.
        found: Where a module that is not registered was found: ``"layers[0]"`` for ``self.layers = [nn.Linear(…)]``,
            ``""`` if it is registered or was met only during the forward.
        lazy: Whether it had parameters without a size before the trace.
        made: Whether the forward itself made it, again at every call.
        loose: Parameters that it keeps in plain lists and dicts, ``(("scales[0]", 12),)``: their place and index.
        reads: Names that its forward, and the methods that it leads to, mention; ``None`` if it looks attributes up by
            name (``getattr``, ``children()``) or is not written in Python.
        reads_elsewhere: Names that its other methods mention, those that set it up aside.
        bounds: Integers in the code of its forward, if that compares two numbers or takes the smaller one; ``None`` if
            it does neither.
        config: Of a model of the ``transformers`` the integers of its configuration by name, those of parts of it as
            ``"text_config.vocab_size"``; the name of its class as ``"_class"``, what it was loaded from as
            ``"_name_or_path"``.
        forward_file: ``co_filename`` of its ``forward``, and ``forward_line`` its first line; ``""`` and 0 if unknown.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which no code calls on a record
    paths: tuple[str, ...]
    type_name: str
    type_module: str = ""
    parent: int | None = None
    children: tuple[int, ...] = ()
    params: tuple[int, ...] = ()
    settings: Mapping[str, Any] = _EMPTY
    extra_repr: str = ""
    training: bool = False
    found: str = ""
    lazy: bool = False
    made: bool = False
    loose: tuple[tuple[str, int], ...] = ()
    reads: frozenset[str] | None = None
    reads_elsewhere: frozenset[str] = frozenset()
    bounds: frozenset[int] | None = None
    forward_file: str = ""
    forward_line: int = 0
    config: Mapping[str, Any] = _EMPTY

    @property
    def path(self) -> str:
        """Its first path; where it was found if it is not registered."""
        return self.paths[0] if self.paths else self.found


class Call(NamedTuple):
    """One execution of a module or of an operation.

    Attributes:
        index: Position in ``Trace.calls``: the order in which calls *began*, so a parent comes before its children.
        kind: ``"module"`` or ``"op"``.
        path: Path of the module; for an operation the path of the module whose code called it.
        type_name: ``"Conv2d"``; for an operation its name as people write it: ``"view"``, ``"add"``, ``"cat"``.
        parent: Index of the call it ran in; ``None`` for the model's own.
        depth: Number of calls it is nested in.
        call_index: 0 for the first call of this module, 1 for the second; for an operation, among equal names in the
            same parent call.
        module: Index into ``Trace.modules``; for an operation the module whose code called it.
        inputs: Tensors that went in, positional arguments first.
        outputs: Tensors that came out; empty if it failed.
        input_links: Per input leaf, where the tensor was made; ``None`` for parameters, constants and the unknown.
        output_links: Per output leaf, where the tensor was made: a leaf module or an operation points to itself, a
            container to the innermost call that made it.
        input_params: Per input leaf the index of the parameter or buffer that it is, or ``None``.
        arguments: Non-tensor arguments of an operation, by name where known, else by position: ``("dim", 1)``,
            ``("1", -1)``. Tensors inside are written as ``Ellipsis``. For modules: non-tensor arguments of the call.
        params: Indices of parameters and buffers that this call itself touched (not those its children did).
        aten_ops: The aten operations that ran directly in this call, not in its children: those that multiply and add,
            and unknown ones; what counts nothing is not recorded.
        status: ``"ran"`` or ``"failed"``; the innermost failed call is the culprit, the calls around it fail too.
        source: The user's line that made the call, ``None`` where there is none.
        grad: Whether autograd recorded it.
        autocast: Dtype of the autocast region it ran in, or ``None``.
        inplace: Whether it wrote into its first argument (``relu_``, ``x[0] = 1``, ``out=``).
        saved: Storages that autograd saved while it ran, not those its children saved: ``(storage number, bytes)``.
        live_bytes: The largest sum of live tensor storages while it ran, children included; ``None`` if not measured
            or if it made no storage.
        made_bytes: The largest storage that it made itself, not in its children.
        lines: For an operation: the user's lines that led to it, innermost first (helpers called by forward).
        lazy: Whether the module had parameters without a size when the call began.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which no code calls on a record
    kind: Kind
    path: str
    type_name: str
    parent: int | None
    depth: int
    call_index: int = 0
    module: int | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    input_links: tuple[Link | None, ...] = ()
    output_links: tuple[Link | None, ...] = ()
    input_params: tuple[int | None, ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()
    params: tuple[int, ...] = ()
    aten_ops: tuple[AtenOp, ...] = ()
    status: Status = "ran"
    source: Source | None = None
    grad: bool = False
    autocast: str | None = None
    inplace: bool = False
    saved: tuple[tuple[int, int], ...] = ()
    live_bytes: int | None = None
    made_bytes: int = 0
    lines: tuple[Source, ...] = ()
    lazy: bool = False


def join_path(path: str, name: str) -> str:
    """Return the path of what a module has under a name."""
    return f"{path}.{name}" if path else name


def path_below(path: str, above: str) -> str:
    """Return a path as it is named from a module above it; the whole path where that is not above it."""
    return path.removeprefix(f"{above}.") if above else path


def zip_leaves(
    specs: Iterable[TensorSpec], formulas: Iterable[Formula | None]
) -> Iterator[tuple[TensorSpec, Formula | None]]:
    """Yield every leaf with its formula; ``None`` where there are fewer of these."""
    return zip(specs, chain(formulas, repeat(None)), strict=False)


@dataclass(frozen=True, slots=True)
class InputFact:
    """One tensor of the model's own input: what was given, and the names of its dims.

    Attributes:
        spec: Its name, size, dtype and device, as traced.
        dims: A name per dim, ``""`` where it has none: ``("B", "", "H", "W")``.
        given: ``"size"``, ``"data"`` or ``"inferred"``.
        is_shared: Whether the same tensor is given in another place too; links name only the last of them.
    """

    spec: TensorSpec
    dims: tuple[str, ...] = ()
    given: Literal["size", "data", "inferred"] = "size"
    is_shared: bool = False


class Held(NamedTuple):
    """What a name of a function stood for.

    Attributes:
        kind: The name of its type: ``"Tensor"``, ``"int"``, ``"tuple"``; ``"type"`` of a class, ``"module"`` of an
            import.
        words: The number or text itself, the name of a class or an import, the types of the items of a list, a tuple or
            a container of layers, the keys of a dict as code.
        shape: Of a tensor.
    """

    kind: str
    words: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """How a forward failed, as facts. ``diagnosis/failures`` writes the report.

    Attributes:
        call: Index of the innermost call that failed; ``None`` if the forward failed outside every call (its own
            arguments do not fit, say).
        error_type: ``"RuntimeError"``.
        message: The exception's own message.
        source: The user's innermost line.
        source_text: That line's code, stripped; ``""`` if it can't be read.
        limit: What kept the trace from going on, where that is no failure of the model; ``""`` otherwise.
        advice: What to do about that.
        interrupted: Whether it did not fail at all: whoever waited for it interrupted it.
        names: What the names of the failed function stood for, ``{"x": …, "self.act": …}``.
        near: The known names that are like one that was not found, the likeliest first.
    """

    call: int | None
    error_type: str
    message: str
    source: Source | None = None
    source_text: str = ""
    limit: str = ""
    advice: str = ""
    interrupted: bool = False
    names: Mapping[str, Held] = field(default_factory=dict)
    near: tuple[str, ...] = ()

    def is_like(self, other: Failure | None) -> bool:
        """Return whether another forward failed in the same call, at the same line."""
        return other is not None and self._place == other._place

    @property
    def _place(self) -> tuple[str, int | None, Source | None]:
        return self.error_type, self.call, self.source


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that one trace recorded.

    Attributes:
        calls: In the order they began.
        modules: Every module of the model, by identity; ``modules[0]`` is the model.
        params: Every parameter and buffer, by identity.
        inputs: The model's input leaves, in the order ``Link(-1, leaf)`` counts them.
        outputs: The model's output leaves.
        engine: What traced it.
        engine_reason: Why it was not the fake engine (``".item() at net.py:41"``); ``""`` otherwise.
        failure: How it failed, ``None`` if it did not.
        method: What was called: ``"forward"``, ``"encode"``.
        peak_bytes: Largest sum of live tensor storages during the forward, ``None`` if not measured.
        knows_saved: Whether what autograd saves was written down.
        input_storages: ``(storage number, bytes)`` of what the forward was called with.
        starts_threads: Whether it started threads, whose calls are not among these.
        trained: Indices of the parameters that a backward of the output would reach; ``None`` if that is unknown.
    """

    calls: tuple[Call, ...]
    modules: Sequence[ModuleFact]
    params: Sequence[ParamFact] = ()
    inputs: tuple[InputFact, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    engine: EngineName = "fake"
    engine_reason: str = ""
    failure: Failure | None = None
    method: str = "forward"
    peak_bytes: int | None = None
    knows_saved: bool = False
    input_storages: tuple[tuple[int, int], ...] = ()
    starts_threads: bool = False
    trained: frozenset[int] | None = None

    @property
    def model_type(self) -> str:
        """Class name of the model."""
        return self.modules[0].type_name
