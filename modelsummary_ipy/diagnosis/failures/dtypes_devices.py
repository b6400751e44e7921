"""Dtypes, devices and indices: tensors of the right shape and the wrong kind."""

from __future__ import annotations

import math
import re

from modelsummary_ipy.diagnosis.failures.context import NOTHING, STEER, Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_argument,
    fix_line,
    fix_module,
    fix_operand,
    place_line,
    read_arguments,
    read_line,
    set_value,
)
from modelsummary_ipy.diagnosis.failures.parameters import find_param_name
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds, name_setting
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword, change_operation
from modelsummary_ipy.diagnosis.failures.source_nodes import find_operands
from modelsummary_ipy.diagnosis.failures.statements import find_parameters
from modelsummary_ipy.diagnosis.torch_names import FACTORIES
from modelsummary_ipy.model.torch_layers import functions_of
from modelsummary_ipy.records.fixes import Candidate, InputEdit
from modelsummary_ipy.records.trace import Call, TensorSpec

_MOST_STEPS = 30
_CASTS = {"float32": "float", "float64": "double", "float16": "half", "bfloat16": "bfloat16", "int64": "long",
          "bool": "bool"}  # fmt: skip
FLOATING = ("float32", "float64", "float16", "bfloat16", "complex64", "complex128")
_WEIGHTED = functions_of(
    "linear", "bilinear", "convolution", "transposed convolution", "recurrent", "recurrent cell", "batch norm",
    "instance norm", "group norm", "layer norm", "local norm", "embedding bag",
) | {"matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "mv", "addmv", "dot", "vdot", "einsum", "tensordot",
     "scaled_dot_product_attention", "prelu", "grid_sample"}  # fmt: skip
_LOOKUPS = functions_of("embedding", "embedding bag") | {"one_hot"}


def explain_dtype(ctx: FailureContext) -> Diagnosis | None:
    """Explain tensors whose dtypes an operation does not accept together, or at all."""
    if not ctx.data and not ctx.operands:
        return None
    if ctx.function in _LOOKUPS:
        return _explain_lookup(ctx)
    if ctx.function in ("sub", "sub_", "neg", "rsub"):
        return _explain_boolean(ctx)
    if ctx.function in _WEIGHTED:
        return _explain_mix(ctx)
    return _explain_condition(ctx) or _explain_integers(ctx)


#: Which operand is a condition.
_CONDITIONS = {"masked_fill": 1, "masked_fill_": 1, "masked_select": 1, "masked_scatter": 1, "where": 0, "invert": 0,
               "bitwise_not": 0}  # fmt: skip


def _explain_condition(ctx: FailureContext) -> Diagnosis | None:
    """A mask is no tensor of booleans."""
    at = _CONDITIONS.get(ctx.function, -1)
    if not 0 <= at < len(ctx.operands) or ctx.operands[at].spec.dtype == "bool":
        return None
    reason = f"the mask is {ctx.operands[at].spec.dtype}: {ctx.function} reads booleans"
    return Diagnosis(reason, "a mask of bool", fix_operand(ctx, at, "{}.bool()"))


def cast(dtype: str) -> str:
    """Write how a tensor becomes a dtype: ``".float()"``."""
    return f".{_CASTS[dtype]}()" if dtype in _CASTS else f".to(torch.{dtype})"


def _explain_lookup(ctx: FailureContext) -> Diagnosis | None:
    x = ctx.operands[0]
    if x.spec.dtype in ("int64", "int32"):
        return None
    reason = f"embedding indices must be integers, got {x.spec.dtype}"
    return Diagnosis(reason, "int64 indices", fix_argument(ctx, "{}.long()"), candidates=retype_input(ctx, x, "int64"))


def retype_input(ctx: FailureContext, x: Operand, dtype: str) -> tuple[tuple[TensorSpec, ...], ...]:
    """Return the model's inputs with ``x``, if it is one of them, and those of its dtype in another dtype."""
    if not x.is_input:
        return ()
    specs = [fact.spec for fact in ctx.trace.inputs]
    return (tuple(spec._replace(dtype=dtype) if spec.dtype == x.spec.dtype else spec for spec in specs),)


def _explain_boolean(ctx: FailureContext) -> Diagnosis | None:
    if not any(x.spec.dtype == "bool" for x in ctx.operands):
        return None
    line = ctx.line

    def edit(items: list[str]) -> str | None:
        return f"~{items[1]}" if len(items) == 2 and items[0] in ("(1)", "(1.0)") else None

    fix = fix_line(ctx, change_operation(line, "sub", edit))
    if not fix:
        at = next(index for index, x in enumerate(ctx.operands) if x.spec.dtype == "bool")
        fix = fix_operand(ctx, at, "{}.float()") if len(ctx.operands) > 1 else NOTHING
    reason = "bool tensors can't be subtracted; ~mask inverts a mask"
    return Diagnosis(reason, "a number dtype, or ~ on a mask", fix)


def _explain_mix(ctx: FailureContext) -> Diagnosis | None:
    weights = [spec for spec in ctx.weights if spec.dtype in FLOATING]
    data = ctx.data or ctx.operands
    if any(x.spec.name.endswith(".batch_sizes") for x in data):  # a packed sequence counts and sorts by integers
        data = tuple(x for x in data if x.spec.name.endswith(".data"))
    if weights:
        wanted = weights[0].dtype
        odd = next((x for x in data if x.spec.dtype != wanted and not _is_mask(x)), None)
        against = f"{ctx.owner} has {wanted} weights"
    else:
        dtypes = [x.spec.dtype for x in data if not _is_mask(x)]
        floating = [dtype for dtype in dtypes if dtype in FLOATING]
        if not floating or len(set(dtypes)) < 2:
            return None
        wanted = min(floating, key=FLOATING.index)
        odd = next(x for x in data if x.spec.dtype != wanted and not _is_mask(x))
        against = f"the other tensor is {wanted}"
    if odd is None or (ctx.call.autocast is not None and odd.spec.dtype in FLOATING[2:]):
        return None
    reason = f"got {odd.spec.dtype}, {against}"
    maker = ctx.flow.producer(odd.link)
    if maker is not None and maker.kind == "op" and maker.type_name in ("double", "half", "float", "bfloat16", "to"):
        place = f" at {maker.source.text}" if maker.source is not None else ""
        reason += f": .{maker.type_name}(){place} made it"
    elif odd.is_input:
        reason += "; it is the model's input"
    position = data.index(odd) if ctx.call.kind == "module" else ctx.operands.index(odd)
    features = ctx.setting("in_features", ctx.setting("input_size"))
    flat = {math.prod(odd.shape[axis:]) for axis in range(odd.rank)}
    if weights and odd.spec.dtype == "int64" and isinstance(features, int) and features not in {0, 1, *flat}:
        reason += f"; no dim has {features} features: classes have them when they are one-hot"
        fix = fix_argument(ctx, f"F.one_hot({{}}, {features}).{_CASTS[wanted]}()", position=position)
        return Diagnosis(reason, f"{wanted}, as the weights are", fix)
    # A cast would keep the real part alone, with a warning.
    is_complex = odd.spec.dtype.startswith("complex")
    if is_complex and maker is not None and (part := _take_real(ctx, maker)):
        return Diagnosis(f"{reason}: a transform is complex, and is added to real numbers", "real numbers", part)
    change = ".abs()" if is_complex else cast(wanted)
    own = next((x for x in ctx.operands if x.param is not None), None) if ctx.call.kind == "op" else None
    if is_complex and own is not None and own.param is not None and (made := _make_complex(ctx, own.param)):
        return Diagnosis(f"{reason}: real weights of complex numbers", f"{odd.spec.dtype} weights", made)
    if odd.spec.dtype in FLOATING and (promoted := find_promotion(ctx, odd, wanted)):
        return Diagnosis(f"{reason}: {promoted[0]}", f"{wanted}, as the weights are", promoted[1])
    fix = fix_argument(ctx, f"{{}}{change}", position=position)
    candidates = retype_input(ctx, odd, wanted) if odd.spec.dtype != "bool" else ()
    is_read = odd.spec.dtype != "float32"  # as arrays of numpy and images are; else it is the model that is unusual
    fixes = [_retype(ctx, candidates[0]), fix] if candidates and is_read else fix
    return Diagnosis(reason, f"{wanted}, as the weights are" if weights else "one dtype", fixes, candidates=candidates)


def _retype(ctx: FailureContext, specs: tuple[TensorSpec, ...]) -> Candidate:
    """Call the model with inputs of another dtype: ``model(x.float(), mask)``; nothing if they have no names."""
    old = [fact.spec for fact in ctx.trace.inputs]
    names = [spec.name or "x" for spec in old]
    if ctx.trace.method != "forward" or not all(name.isidentifier() for name in names):
        return NOTHING
    casts = ["" if one == other else cast(other.dtype) for one, other in zip(old, specs, strict=True)]
    words = [f"{name}{change}" for name, change in zip(names, casts, strict=True)]
    return Candidate(f"model({', '.join(words)})", (InputEdit(specs),))


def find_promotion(ctx: FailureContext, odd: Operand, wanted: str) -> tuple[str, Candidate] | None:
    """Find where a tensor of the wanted dtype met one of the odd dtype, and took that: a table made by numpy."""
    for call in ctx.flow.walk_back(odd.link, _MOST_STEPS):
        dtypes = [spec.dtype for spec in call.inputs]
        at = ctx.at_line_of(call)
        if call.kind == "op" and {wanted, odd.spec.dtype} <= set(dtypes) and not at.is_in_package:
            place = dtypes.index(odd.spec.dtype)
            fix = fix_operand(at, place, f"{{}}{cast(wanted)}")
            texts = read_arguments(at)
            name = texts[place] if place < len(texts) else "a tensor"
            where = f" at {call.source.text}" if call.source is not None else ""
            return (f"{name}{where} is, and what meets it becomes so", fix) if fix else None
    return None


def _make_complex(ctx: FailureContext, param: int) -> Candidate:
    """Make a parameter of complex numbers: ``nn.Parameter(torch.randn(4, 8, dtype=torch.cfloat))``."""
    fact = ctx.trace.params[param]
    if not fact.names or fact.kind != "parameter":
        return NOTHING
    return set_value(fact.names[0], f"nn.Parameter(torch.randn({', '.join(map(str, fact.shape))}, dtype=torch.cfloat))")


def _take_real(ctx: FailureContext, maker: Call) -> Candidate:
    """Take the real part of a transform that is added to a tensor of real numbers, on the line that transforms."""
    if maker.type_name not in ("add", "sub") or {spec.dtype[:5] for spec in maker.inputs} != {"compl", "float"}:
        return NOTHING
    link = next(link for spec, link in zip(maker.inputs, maker.input_links, strict=False) if spec.dtype[:5] == "compl")
    transform = next((call for call in ctx.flow.walk_back(link, 3) if call.type_name.startswith("fft")), None)
    line = read_line(ctx, transform.source) if transform is not None else ""
    if transform is None or not line:
        return NOTHING
    earlier = ctx.at_line_of(transform).earlier
    changed = change_operation(line, transform.type_name, lambda items: items, earlier, around="{}.real")
    return place_line(ctx, transform, changed)


def _is_mask(x: Operand) -> bool:
    return "mask" in x.spec.name and x.spec.dtype == "bool"


_FLOATING_ONLY = frozenset(
    """softmax log_softmax softmin std var gelu silu hardswish mish softplus hardsigmoid celu logsigmoid glu mean
    max_pool1d max_pool2d avg_pool2d adaptive_max_pool2d adaptive_avg_pool2d interpolate unfold multinomial bernoulli
    rand_like randn_like stft dropout normalize norm cdist cosine_similarity fft""".split()  # noqa: SIM905  # words
)


def _explain_integers(ctx: FailureContext) -> Diagnosis | None:
    """An operation that needs floating point, given integers or booleans."""
    x = ctx.operands[0]
    if x.spec.dtype in FLOATING:
        return None
    if ctx.function in ("mul_", "div_", "add_", "sub_", "pow_"):
        reason = f"the result is floating point and is written into {x.spec.dtype}"
        line = ctx.line
        sign = {"mul_": "*", "div_": "/", "add_": "+", "sub_": "-", "pow_": "**"}[ctx.function]
        left, found, right = line.partition(f" {sign}= ")
        fix = fix_line(ctx, f"{left} = {left} {sign} {right}") if found else NOTHING
        return Diagnosis(reason, "a floating-point tensor to write into", fix)
    if ctx.function not in _FLOATING_ONLY:
        return None
    reason = f"{ctx.function} needs floating point, got {x.spec.dtype}"
    fix = fix_argument(ctx, "{}.float()")
    return Diagnosis(reason, "a floating-point dtype", fix, candidates=retype_input(ctx, x, "float32"))


def explain_device(ctx: FailureContext) -> Diagnosis | None:
    """Explain tensors that are not on one device."""
    if _NO_CUDA.search(ctx.failure.message):
        names = find_parameters(ctx.failure.source)
        known = next((name for name in names if not re.search(rf"\b{name}(?: = |\.cuda|\.to\()", ctx.line)), "")
        device = f"{known}.device" if known else "next(self.parameters()).device"
        fix = fix_line(
            ctx, _MOVES.sub(lambda found: f".to({device})" if found[0][0] == "." else f"device={device}", ctx.line)
        )
        reason = "the line makes a tensor on CUDA, which this machine does not have"
        return Diagnosis(reason, "the device of the weights or the input", fix)
    places: dict[str, list[str]] = {}
    for x in ctx.operands:
        if x.shape or x.spec.device != "cpu":  # a number on the CPU works with any device
            places.setdefault(x.spec.device, []).append(_name_operand(ctx, x))
    for weight in ctx.weights if ctx.call.kind == "module" else ():
        places.setdefault(weight.device, []).append(f"'{weight.name}'")
    if len(places) < 2:
        return None
    main = _main_device(ctx)
    reason = "; ".join(f"{' and '.join(dict.fromkeys(names))} on {device}" for device, names in places.items())
    odd = next((x for x in ctx.operands if x.spec.device != main and x.param is None), None)
    fix = _fix_device(ctx, odd, main) if odd is not None else NOTHING
    return Diagnosis(reason, f"everything on {main}", fix)


#: What puts a tensor on CUDA, or makes it there.
#: What torch says of CUDA where there is none: a build without it, one with it on a machine without a card or driver.
_NO_CUDA = re.compile(r"not compiled with CUDA|NVIDIA (?:GPU|driver)|No CUDA GPUs|no CUDA-capable device")
_PLACE = r"(?:[\"']cuda(?::\d+)?[\"']|(?:self\.)?device|torch\.device\([^()]*\))"
_MOVES = re.compile(rf"\.cuda\([^()]*\)|\.to\({_PLACE}\)|\bdevice={_PLACE}")


def _main_device(ctx: FailureContext) -> str:
    counts: dict[str, int] = {}
    for param in ctx.trace.params:
        counts[param.device] = counts.get(param.device, 0) + max(param.num, 1)
    return max(counts, key=lambda name: counts[name]) if counts else ctx.operands[0].spec.device


def _name_operand(ctx: FailureContext, x: Operand) -> str:
    if x.param is not None:
        names = ctx.trace.params[x.param].names
        return f"'{names[0]}'" if names else "a parameter"
    if x.is_input:
        return "the model's input"
    maker = ctx.flow.producer(x.link)
    if maker is None:
        return "a tensor that is no buffer"
    if maker.kind == "op" and maker.source is not None:
        return f"{maker.type_name}() at {maker.source.text}"
    return f"the output of '{maker.path}'"


def _fix_device(ctx: FailureContext, odd: Operand, main: str) -> Candidate:
    """Make the tensor on the device of the others."""
    maker = ctx.flow.producer(odd.link)
    if maker is not None and maker.type_name in FACTORIES:
        new = add_keyword(read_line(ctx, maker.source), maker.type_name, "device", _device_of(ctx, odd, main))
        return place_line(ctx, maker, new)
    position = ctx.operands.index(odd)
    return fix_argument(ctx, f"{{}}.to({main!r})", position=position)


def _device_of(ctx: FailureContext, odd: Operand, main: str) -> str:
    """Write the device of the others, as an expression in the failing line."""
    for x, text in zip(ctx.operands, find_operands(ctx.line, ctx.call.type_name), strict=False):
        if x is not odd and x.spec.device == main and text.isidentifier():
            return f"{text}.device"
    return repr(main)


def explain_index_range(ctx: FailureContext) -> Diagnosis | None:
    """Explain an index beyond the end of an embedding's table."""
    if ctx.function == "gather" and ctx.operands:
        return _explain_positions(ctx)
    if ctx.function not in _LOOKUPS or ctx.failure.error_type != "IndexError" or not ctx.operands:
        return None
    rows = ctx.setting("num_embeddings")
    if ctx.call.kind == "op" and len(ctx.operands) > 1:
        rows = ctx.operands[1].shape[0]
    if not isinstance(rows, int):
        return None
    words = ctx.failure.message.partition("in self: ")[2].split()
    most = int(words[0]) if words and words[0].isdigit() else None
    got = f"got {most}" if most is not None else "got a larger or a negative index"
    reason = f"the table has rows 0 … {rows - 1}, {got}"
    before = ctx.flow.walk_back(ctx.operands[0].link, 8)
    counted = next((call for call in before if call.type_name in ("arange", "cumsum")), None)
    goal = None
    if counted is not None and most is not None:
        count = max(ctx.operands[0].shape, default=1)
        first = most + 1 - count
        positions = f"{count} positions" + (f", counted from {first}" if first else "")
        reason = f"input has {positions}, {ctx.owner} has {rows}"
        goal = (_longest, rows - first)
    fix = fix_module(ctx, num_embeddings=most + 1) if most is not None else NOTHING
    if other := _find_table(ctx, most):
        reason += f"; '{other}' has as many"
        return Diagnosis(reason, f"indices 0 … {rows - 1}", fix_line(ctx, _rename_layer(ctx, other)))
    if field := name_setting(ctx, rows):
        reason += f" ({field})"
    options = [*(list_rebuilds(ctx, rows, most + 1) if most is not None else ()), fix]
    if most is not None and _is_in_larger_table(ctx, most):
        options = [fix, *options]
    elif most == rows and ctx.operands[0].rank == 1 and ctx.setting("padding_idx") is None:
        options = [fix_argument(ctx, "{} - 1"), *options]  # one class a sample, counted from 1
    search = STEER if goal is not None else ()
    return Diagnosis(reason, f"indices 0 … {rows - 1}", options, search, goal)


def _is_in_larger_table(ctx: FailureContext, most: int) -> bool:
    """Return whether the same indices were looked up in another table, which has just as many rows as they need."""
    sources = ctx.flow.sources(ctx.operands[0].link)
    return any(
        call.status == "ran" and ctx.flow.setting(call, "num_embeddings") == most + 1
        and ctx.flow.sources(call.input_links[0]) == sources
        for call in ctx.trace.calls if call.input_links
    )  # fmt: skip


def _find_table(ctx: FailureContext, most: int | None) -> str:
    """Return the one table beside it that nothing reads, as wide and with a row for the index."""
    fact = ctx.fact
    if fact is None or most is None or ctx.is_in_package:
        return ""
    beside = [
        other.path for other in ctx.list_unread()
        if other.type_name == "Embedding" and other.path.rpartition(".")[0] == fact.path.rpartition(".")[0]
        and other.settings.get("embedding_dim") == fact.settings.get("embedding_dim")
        and other.settings.get("num_embeddings", 0) > most
    ]  # fmt: skip
    return beside[0] if len(beside) == 1 else ""


def _rename_layer(ctx: FailureContext, path: str) -> str:
    """Call another layer of the same module in the failing line, where it is called with these arguments."""
    old, new = ctx.call.path.rpartition(".")[2], path.rpartition(".")[2]
    places = [found.start() for found in re.finditer(rf"(?<=self\.){old}(?=\()", ctx.line)]
    at = places[ctx.earlier] if 0 <= ctx.earlier < len(places) else places[-1] if places else -1
    return f"{ctx.line[:at]}{new}{ctx.line[at + len(old) :]}" if at >= 0 else ""


def _explain_positions(ctx: FailureContext) -> Diagnosis | None:
    """A buffer of a largest length is read at positions that are counted from behind the number of padding."""
    found = re.search(r"index (\d+) is out of bounds for dimension (\d+) with size (\d+)", ctx.failure.message)
    name = find_param_name(ctx, ctx.operands[0])
    if found is None or not name or len(ctx.operands) < 2:
        return None
    most, size, count = int(found[1]), int(found[3]), max(ctx.operands[1].shape, default=1)
    field = name_setting(ctx, size)
    reason = f"'{name}' has {size} positions" + (f" ({field})" if field else "")
    reason += f", {count} tokens were given, and one is at {most}"
    if most < count + 2 and count <= size:
        reason += ": they are counted from behind the number of padding"
    needed = dict.fromkeys((most + 1, count + 1, count + 2))  # of RoBERTa two more than there are tokens
    fixes = [fix for length in needed for fix in list_rebuilds(ctx, size, length)]
    goal = (_longest_index, size - (most + 1 - count))
    return Diagnosis(reason, f"positions 0 … {size - 1}", fixes, STEER, goal)


def _longest(call: Call) -> int | None:
    return max(call.inputs[0].shape, default=None) if call.inputs and call.inputs[0].shape else None


def _longest_index(call: Call) -> int | None:
    return max(call.inputs[1].shape, default=None) if len(call.inputs) > 1 else None
