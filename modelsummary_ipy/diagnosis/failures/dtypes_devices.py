"""Dtypes, devices and indices: tensors that fit in size and are of the wrong kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelsummary_ipy.diagnosis.failures.context import STEER, Diagnosis, Part, Scene, write_source
from modelsummary_ipy.diagnosis.failures.fixes import find_line, fix_argument, fix_module, fix_operand
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword, change_operation, find_operands
from modelsummary_ipy.records.trace import Call, TensorSpec

__all__ = ["explain_device", "explain_dtype", "explain_index_range"]

_CASTS = {"float32": "float", "float64": "double", "float16": "half", "bfloat16": "bfloat16", "int64": "long",
          "bool": "bool"}  # fmt: skip
FLOATING = ("float32", "float64", "float16", "bfloat16", "complex64", "complex128")
_WEIGHTED = ("linear", "conv", "bilinear", "lstm", "gru", "rnn", "_norm", "matmul", "mm", "bmm", "addmm", "baddbmm",
             "scaled_dot", "prelu", "embedding_bag", "einsum", "grid_sample", "mv", "dot")  # fmt: skip
_LOOKUPS = ("embedding", "embedding_bag", "one_hot")


def explain_dtype(scene: Scene) -> Diagnosis | None:
    """Explain tensors whose dtypes an operation does not take together, or at all."""
    if scene.call is None or (not scene.data and not scene.parts):
        return None
    if scene.function in _LOOKUPS:
        return _explain_lookup(scene)
    if scene.function in ("sub", "sub_", "neg", "rsub"):
        return _explain_boolean(scene)
    if any(word in scene.function for word in _WEIGHTED):
        return _explain_mix(scene)
    return _explain_whole(scene)


def cast(dtype: str) -> str:
    """Write how a tensor becomes a dtype: ``".float()"``."""
    return f".{_CASTS[dtype]}()" if dtype in _CASTS else f".to(torch.{dtype})"


def _explain_lookup(scene: Scene) -> Diagnosis | None:
    part = scene.parts[0]
    if part.spec.dtype in ("int64", "int32"):
        return None
    reason = f"a table is read by whole numbers, {part.spec.dtype} came"
    return Diagnosis(
        reason, "int64 indices", fix_argument(scene, "{}.long()"), candidates=retype_input(scene, part, "int64")
    )


def retype_input(scene: Scene, part: Part, dtype: str, *, alone: bool = False) -> tuple[tuple[TensorSpec, ...], ...]:
    """Return the model's inputs with one of another dtype, if ``part`` is one of them.

    Args:
        scene: The failure.
        part: The tensor.
        dtype: What it is to be.
        alone: Whether inputs of the same dtype as it had stay what they are.
    """
    if part.link is None or part.link.call >= 0:
        return ()
    specs = [fact.spec for fact in scene.trace.inputs]
    leaf, old = part.link.leaf, specs[part.link.leaf].dtype
    same = [index == leaf or (not alone and spec.dtype == old) for index, spec in enumerate(specs)]
    return (tuple(replace(spec, dtype=dtype) if to else spec for spec, to in zip(specs, same, strict=True)),)


def _explain_boolean(scene: Scene) -> Diagnosis | None:
    if not any(part.spec.dtype == "bool" for part in scene.parts):
        return None
    line = scene.line

    def edit(items: list[str], write: Any) -> str | None:
        if len(items) == 2 and items[0] in ("(1)", "(1.0)"):
            return f"~{items[1]}"
        return None

    fix = change_operation(line, "sub", edit)
    if not fix:
        at = next(index for index, part in enumerate(scene.parts) if part.spec.dtype == "bool")
        fix = fix_operand(scene, at, "{}.float()") if len(scene.parts) > 1 else ""
    reason = "booleans can't be subtracted; ~mask turns a mask round"
    return Diagnosis(reason, "numbers, or ~ on a mask", fix)


def _explain_mix(scene: Scene) -> Diagnosis | None:
    weights = [spec for spec in scene.weights if spec.dtype in FLOATING]
    data = scene.data or scene.parts
    if weights:
        wanted = weights[0].dtype
        odd = next((part for part in data if part.spec.dtype != wanted and not _is_mask(part)), None)
        against = f"{scene.owner} has {wanted} weights"
    else:
        dtypes = [part.spec.dtype for part in data if not _is_mask(part)]
        floating = [dtype for dtype in dtypes if dtype in FLOATING]
        if not floating or len(set(dtypes)) < 2:
            return None
        wanted = min(floating, key=FLOATING.index)
        odd = next(part for part in data if part.spec.dtype != wanted and not _is_mask(part))
        against = f"the other tensor is {wanted}"
    if odd is None or scene.call is None or (scene.call.autocast is not None and odd.spec.dtype in FLOATING[2:]):
        return None
    reason = f"{odd.spec.dtype} came, {against}"
    maker = scene.producer(odd)
    if maker is not None and maker.kind == "op" and maker.type_name in ("double", "half", "float", "bfloat16", "to"):
        place = write_source(maker.source)
        reason += f": .{maker.type_name}() at {place} made it" if place else f": .{maker.type_name}() made it"
    elif scene.is_input(odd):
        reason += "; it is the model's input"
    position = data.index(odd) if scene.call.kind == "module" else scene.parts.index(odd)
    fix = fix_argument(scene, f"{{}}{cast(wanted)}", position=position)
    candidates = retype_input(scene, odd, wanted) if odd.spec.dtype != "bool" else ()
    return Diagnosis(reason, f"{wanted}, as the weights are" if weights else "one dtype", fix, candidates=candidates)


def _is_mask(part: Part) -> bool:
    return "mask" in part.spec.name and part.spec.dtype == "bool"


_REFUSES_WHOLE = frozenset(
    """softmax log_softmax softmin std var gelu silu hardswish mish softplus hardsigmoid celu logsigmoid glu mean
    max_pool1d max_pool2d avg_pool2d adaptive_max_pool2d adaptive_avg_pool2d interpolate unfold multinomial bernoulli
    rand_like randn_like stft dropout normalize norm cdist cosine_similarity fft""".split()  # noqa: SIM905  # words
)


def _explain_whole(scene: Scene) -> Diagnosis | None:
    """An operation that needs fractions, given whole numbers or booleans."""
    assert scene.call is not None
    part = scene.parts[0]
    if part.spec.dtype in FLOATING:
        return None
    if scene.function in ("mul_", "div_", "add_", "sub_", "pow_"):
        reason = f"the result is floating and is to be written into {part.spec.dtype}"
        line = scene.line
        sign = {"mul_": "*", "div_": "/", "add_": "+", "sub_": "-", "pow_": "**"}[scene.function]
        left, found, right = line.partition(f" {sign}= ")
        fix = f"{left} = {left} {sign} {right}" if found else ""
        return Diagnosis(reason, "a floating tensor to write into", fix)
    if scene.function not in _REFUSES_WHOLE:
        return None
    reason = f"{scene.function} is made for fractions, {part.spec.dtype} came"
    fix = fix_argument(scene, "{}.float()")
    return Diagnosis(reason, "a floating dtype", fix, candidates=retype_input(scene, part, "float32"))


def explain_device(scene: Scene) -> Diagnosis | None:
    """Explain tensors that are not on one device."""
    if scene.call is None:
        return None
    places: dict[str, list[str]] = {}
    for part in scene.parts:
        if part.shape or part.spec.device != "cpu":  # a number on the CPU goes with everything
            places.setdefault(part.spec.device, []).append(_name_part(scene, part))
    for weight in scene.weights if scene.call.kind == "module" else ():
        places.setdefault(weight.device, []).append(f"'{weight.name}'")
    if len(places) < 2:
        return None
    main = _main_device(scene)
    reason = "; ".join(f"{' and '.join(dict.fromkeys(names))} on {device}" for device, names in places.items())
    odd = next((part for part in scene.parts if part.spec.device != main and part.param is None), None)
    fix = _fix_device(scene, odd, main) if odd is not None else f"model.to({main!r})"
    return Diagnosis(reason, f"everything on {main}", fix)


def _main_device(scene: Scene) -> str:
    counts: dict[str, int] = {}
    for param in scene.trace.params:
        counts[param.device] = counts.get(param.device, 0) + max(param.num, 1)
    return max(counts, key=lambda name: counts[name]) if counts else scene.parts[0].spec.device


def _name_part(scene: Scene, part: Part) -> str:
    if part.param is not None:
        names = scene.trace.params[part.param].names
        return f"'{names[0]}'" if names else "a parameter"
    if scene.is_input(part):
        return "the model's input"
    maker = scene.producer(part)
    if maker is None:
        return "a tensor that is no buffer"
    place = write_source(maker.source)
    return f"{maker.type_name}() at {place}" if place and maker.kind == "op" else f"the output of '{maker.path}'"


def _fix_device(scene: Scene, odd: Part, main: str) -> str:
    """Make the stray tensor where the others are."""
    maker = scene.producer(odd)
    if maker is not None and maker.type_name in ("zeros", "ones", "full", "empty", "rand", "randn", "arange", "tensor",
                                                 "eye", "linspace"):  # fmt: skip
        line = find_line(scene, maker)
        new = add_keyword(line, maker.type_name, "device", _device_of(scene, odd, main))
        if new and maker.source == scene.failure.source:
            return new
        return f"at {write_source(maker.source)}: {new}" if new else ""
    position = scene.parts.index(odd)
    return fix_argument(scene, f"{{}}.to({main!r})", position=position)


def _device_of(scene: Scene, odd: Part, main: str) -> str:
    """Write where the others are, as the failing line can say it."""
    line = scene.line
    if scene.call is not None:
        operands = find_operands(line, scene.call.type_name)
        for part, text in zip(scene.parts, operands, strict=False):
            if part is not odd and part.spec.device == main and text.isidentifier():
                return f"{text}.device"
    return repr(main)


def explain_index_range(scene: Scene) -> Diagnosis | None:
    """Explain an index beyond the end of an embedding's table."""
    if scene.function not in _LOOKUPS or scene.failure.error_type != "IndexError" or not scene.parts:
        return None
    rows = scene.setting("num_embeddings")
    if scene.call is not None and scene.call.kind == "op" and len(scene.parts) > 1:
        rows = scene.parts[1].shape[0]
    if not isinstance(rows, int):
        return None
    words = scene.failure.message.partition("in self: ")[2].split()
    most = int(words[0]) if words and words[0].isdigit() else None
    came = f"{most} came" if most is not None else "a larger or a negative one came"
    reason = f"the table has rows 0 … {rows - 1}, {came}"
    counted = next((call for call in scene.walk_back(scene.parts[0].link, 8) if call.type_name == "arange"), None)
    goal = None
    if counted is not None and most is not None:
        count = max(scene.parts[0].shape, default=1)
        first = most + 1 - count
        came = f"{count} positions came" + (f", counted from {first}" if first else "")
        reason = f"{came}, {scene.owner} has {rows}"
        goal = (_longest, rows - first)
    fix = fix_module(scene, num_embeddings=most + 1) if most is not None else ""
    return Diagnosis(reason, f"indices 0 … {rows - 1}", fix, STEER if goal is not None else (), goal)


def _longest(call: Call) -> int | None:
    return max(call.inputs[0].shape, default=None) if call.inputs and call.inputs[0].shape else None
