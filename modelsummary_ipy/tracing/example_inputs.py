"""What the user gave, made into arguments of the copy's own tensors; a size gets the dtype of the layer it goes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from modelsummary_ipy.fake.index_values import INTEGERS, mark_input
from modelsummary_ipy.inputs.infer import COUNTED
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.isolation.object_cloner import Cloner
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.model.tensor_meta import name_dtype
from modelsummary_ipy.model.torch_layers import functions_of, names_of
from modelsummary_ipy.records.trace import Call, InputFact, Link, Trace
from modelsummary_ipy.torch_compat.fakes import FakeTensor
from modelsummary_ipy.tracing.prepared import Prepared
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.tensor_leaves import build_spec, find_argument_leaves

_MASK_NAMES = ("attention_mask", "padding_mask")
_LENGTH_NAMES = ("len", "lens", "length", "lengths")
_LOOKUPS = names_of("embedding", "embedding bag") | {"one_hot"}
#: Operations that take real numbers alone, and the dtype of the real parts of a complex number.
_REAL_ONLY = frozenset({"fft_rfft", "fft_rfft2", "fft_rfftn", "fft_ihfft", "view_as_complex", "complex"})
_REAL_OF = {"complex64": "float32", "complex128": "float64"}
_WEIGHTED = functions_of("linear", "convolution", "bilinear") | {"matmul", "mm", "bmm", "addmm"}


def list_sizes(request: TraceRequest) -> list[tuple[str, Size]]:
    """List the sizes among the arguments, by the name of the parameter they go to."""
    inputs, names = request.inputs, request.names
    found: list[tuple[str, Size]] = []
    named = [(names[i] if i < len(names) else str(i), value) for i, value in enumerate(inputs.args)]
    for name, value in (*named, *inputs.kwargs.items()):
        inner = list(value.items()) if isinstance(value, Mapping) else [(name, value)]
        for key, item in inner:
            found += [(str(key), size) for size in _sizes_in(item)]
    return found


def _sizes_in(value: Any) -> list[Size]:
    """List the sizes anywhere in a value, in the order in which they are filled in."""
    found: list[Size] = []

    def collect(leaf: Any) -> Any:
        if type(leaf) is Size:
            found.append(leaf)
        return leaf

    Cloner(collect, leaf_types=frozenset({Size}))(value)
    return found


def guess_dtypes(request: TraceRequest) -> TraceRequest:
    """Guess a dtype for every size: its own if it has one, by its parameter's name, else that of the parameters.

    That is the first real floating dtype among them, a complex one if all are: spectral weights are complex in models
    whose data are real.
    """
    floating = [p.dtype for p in request.shadow.tree.params if p.kind == "parameter" and _is_floating(p.dtype)]
    real = [dtype for dtype in floating if dtype not in _REAL_OF]
    default = (real or floating or [name_dtype(torch.get_default_dtype())])[0]
    guesses: list[str] = []
    for name, size in list_sizes(request):
        if size.dtype is not None:
            guesses.append(str(size.dtype).removeprefix("torch."))
        elif name in _MASK_NAMES or name.rpartition("_")[2] in (*COUNTED, "offsets", *_LENGTH_NAMES):
            guesses.append("int64")
        else:
            guesses.append(default)
    return replace(request, dtypes=tuple(guesses))


def _is_floating(dtype: str) -> bool:
    return dtype in ("float32", "float64", "float16", "bfloat16", "complex64", "complex128")


def prepare_inputs(request: TraceRequest, work: Shadow, ranges: Mapping[int, int] | None = None) -> Prepared:
    """Make the arguments of a forward for one copy of the model; a mask hides nothing, a length is the whole one.

    Args:
        request: Its sizes become tensors of that size; data is converted as the model's tensors were.
        ranges: For a real run: by size, the number of values an integer may take (rows of the embedding it goes to).
    """
    inputs, sizes = request.inputs, list_sizes(request)
    maker = _Maker(work, request.dtypes, ranges or {}, [(name, _find_fill(name, size, sizes)) for name, size in sizes])
    args = tuple(maker.make(value) for value in inputs.args)
    kwargs = {name: maker.make(value) for name, value in inputs.kwargs.items()}
    facts = []
    given = dict(find_argument_leaves(inputs.args, inputs.kwargs, whole=True))
    leaves = list(find_argument_leaves(args, kwargs, whole=True))
    places = Counter(id(tensor) for _, tensor in leaves)
    for name, tensor in leaves:
        size = maker.made.get(id(tensor))
        if size is None and work.fake_mode is not None:
            mark_input(tensor, name, _find_largest(given.get(name)))
        dims = tuple(size.dims) if size is not None else ("",) * tensor.dim()
        given_as: Literal["size", "data"] = "size" if size is not None else "data"
        facts.append(InputFact(build_spec(name, tensor), dims, given_as, is_shared=places[id(tensor)] > 1))
    return Prepared(args, kwargs, tuple(facts))


def _find_largest(given: Any) -> int | None:
    """Return the largest of a user's integers; ``None`` if they are none, or too many."""
    if not isinstance(given, Tensor) or isinstance(given, FakeTensor) or given.dtype not in INTEGERS:
        return None
    return int(given.max()) if given.device.type == "cpu" and 0 < given.numel() < 1 << 24 else None


def _find_fill(name: str, size: Size, sizes: list[tuple[str, Size]]) -> int | None:
    """Find the one value that a made-up integer input has by its name: a mask's or a length's; ``None`` for others."""
    if "mask" in name:
        return 0 if name.endswith("padding_mask") else 1  # torch's padding masks are true where to leave out
    if name.rpartition("_")[2] not in _LENGTH_NAMES or len(size.shape) != 1:
        return None
    for _, other in sizes:
        if len(other.shape) > 1 and size.shape[0] in other.shape[:2]:
            return other.shape[1] if other.shape[0] == size.shape[0] else other.shape[0]
    return 1


class _Maker:
    def __init__(
        self, work: Shadow, dtypes: tuple[str, ...], ranges: Mapping[int, int], fills: list[tuple[str, int | None]]
    ) -> None:
        self._work = work
        self._dtypes = dtypes
        self._ranges = ranges
        self._fills = fills
        self._next = 0
        self._generator = torch.Generator().manual_seed(0)  # the user's generators are not drawn from
        self.made: dict[int, Size] = {}

    def make(self, value: Any) -> Any:
        return self._work.fill_in(value, self._make_tensor, Size)

    def _make_tensor(self, size: Size) -> Tensor:
        number, self._next = self._next, self._next + 1
        dtype = getattr(torch, self._dtypes[number])
        name, fill = self._fills[number]
        fill = fill if not (dtype.is_floating_point or dtype.is_complex) else None
        if self._work.fake_mode is not None:
            with self._work.fake_mode:
                tensor = torch.empty(size.shape, dtype=dtype, device=self._work.device)
                if fill is not None:
                    tensor = torch.full_like(tensor, fill)
            mark_input(tensor, name)
        elif fill is not None:
            tensor = torch.full(tuple(size.shape), fill, dtype=dtype, device="cpu").to(self._work.device)
        else:
            tensor = self._make_values(size, dtype, self._ranges.get(number, 2)).to(self._work.device)
        self.made[id(tensor)] = size
        return tensor

    def _make_values(self, size: Size, dtype: torch.dtype, most: int) -> Tensor:
        shape = tuple(size.shape)
        if dtype.is_floating_point or dtype.is_complex:
            return torch.randn(shape, generator=self._generator, device="cpu").to(dtype)
        if dtype == torch.bool:
            return torch.ones(shape, dtype=dtype, device="cpu")
        return torch.randint(0, max(most, 1), shape, generator=self._generator, device="cpu").to(dtype)


def correct_dtypes(request: TraceRequest, prepared: Prepared, trace: Trace) -> TraceRequest | None:
    """Compare guessed dtypes with the layers that read the inputs.

    Args:
        prepared: The arguments that were made of it.
        trace: The trace; it may have failed.

    Returns:
        The request with better guesses, ``None`` if the guesses will do.
    """
    better = list(request.dtypes)
    number = 0
    sizes = list_sizes(request)
    for leaf, fact in enumerate(prepared.facts):
        if fact.given != "size":
            continue
        _, size = sizes[number]
        if size.dtype is None and (wanted := _wanted_dtype(trace, leaf, better[number])) is not None:
            better[number] = wanted
        number += 1
    return replace(request, dtypes=tuple(better)) if tuple(better) != request.dtypes else None


def _wanted_dtype(trace: Trace, leaf: int, guess: str) -> str | None:
    """Return the dtype that the first layer to read an input leaf wants, ``None`` if the guess will do."""
    for call in trace.calls:
        for position, link in enumerate(call.input_links):
            if _find_input(trace, link) != leaf or call.inputs[position].dtype != guess:
                continue
            if call.type_name in _LOOKUPS:
                is_index = position == 0
                return "int64" if is_index and guess not in ("int64", "int32") else None
            if call.type_name in _REAL_ONLY and guess in _REAL_OF:
                return _REAL_OF[guess]
            own = _weight_dtype(trace, call)
            if own is not None and own != guess and call.autocast is None:
                return own
    return None


#: Operations whose result has the values of their first tensor: ``tokens[:, 0]`` goes to an embedding as tokens do.
_MOVING = frozenset({
    "getitem", "select", "narrow", "unsqueeze", "squeeze", "view", "reshape", "flatten", "unflatten", "transpose",
    "permute", "t", "T", "mT", "contiguous", "clone", "expand", "repeat", "flip", "roll", "chunk", "split", "unbind",
})  # fmt: skip


def _find_input(trace: Trace, link: Link | None) -> int | None:
    """Return the input leaf that a tensor is, or is a part of; ``None`` for what was computed."""
    while link is not None and link.call != -1:
        maker = trace.calls[link.call]
        is_moved = maker.kind == "op" and maker.type_name in _MOVING and len(maker.input_links) > 0
        link = maker.input_links[0] if is_moved else None
    return None if link is None else link.leaf


def _weight_dtype(trace: Trace, call: Call) -> str | None:
    """Return the dtype of the weight that a layer of torch's multiplies its input with, ``None`` for other calls."""
    if call.kind == "op":
        touched = call.params if call.type_name in _WEIGHTED else ()
    else:
        fact = trace.modules[call.module] if call.module is not None else None
        multiplies = fact is not None and fact.type_module.startswith("torch.nn.modules") and not fact.children
        touched = fact.params if multiplies and fact is not None else ()
    dtypes = [trace.params[p].dtype for p in touched if p < len(trace.params) and _is_floating(trace.params[p].dtype)]
    return dtypes[0] if dtypes else None


def find_ranges(trace: Trace, facts: tuple[InputFact, ...]) -> dict[int, int]:
    """Find, for every size, how many values an integer input may take: the rows of the embeddings that read it."""
    ranges: dict[int, int] = {}
    number = -1
    for leaf, fact in enumerate(facts):
        if fact.given != "size":
            continue
        number += 1
        for call in trace.calls:
            if all(_find_input(trace, link) != leaf for link in call.input_links):
                continue
            rows = _count_rows(call, trace) if call.type_name in _LOOKUPS else None
            if rows is not None:
                ranges[number] = min(rows, ranges.get(number, rows))
    return ranges


def _count_rows(call: Call, trace: Trace) -> int | None:
    """Return the rows of the table that a lookup reads; ``None`` if they are unknown."""
    if call.kind == "op":
        return call.inputs[1].shape[0] if len(call.inputs) > 1 and call.inputs[1].shape else None
    assert call.module is not None
    rows = trace.modules[call.module].settings.get("num_embeddings")
    return rows if isinstance(rows, int) else None
