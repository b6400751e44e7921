"""What a model of an installed package was given: its lines are not the user's to change, its inputs are.

Each explanation holds only if the model runs with its fix, or at its sizes: whoever reads them has to try.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence

from modelsummary_ipy.diagnosis.failures.context import NOTHING, STEER, Diagnosis
from modelsummary_ipy.diagnosis.failures.given_shapes import INTEGERS, Way, list_unequal, list_ways
from modelsummary_ipy.diagnosis.failures.package_calls import FLOATING, Given, PackageCall, list_fields, name_field
from modelsummary_ipy.diagnosis.failures.rebuilds import write_rebuild
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.records.fixes import Candidate, GivenEdit
from modelsummary_ipy.records.trace import TensorSpec


def list_givens(package: PackageCall) -> Iterator[Diagnosis]:
    """List what may be wrong with the inputs of a package's model, each with a fix or with inputs to try."""
    givens = package.givens
    yield from _list_absent(package)
    yield from _list_fields_to_set(package)
    for given in _order(package):
        yield from _list_dtypes(package, given)
        for way in list_ways(package, given):
            yield _write(package, given, way, givens)
            if way.template and given.is_floating and _find_dtype(package) not in ("", given.spec.dtype):
                yield _write(package, given, way, givens, _find_dtype(package))
    for given in givens[1:]:
        alike = [other for other in givens[1:] if ("label" in other.name) == ("label" in given.name)]
        for way in list_unequal(givens[0], given):
            yield _write(package, given, way, alike)
    yield from _list_settings(package)


def explain_misspelt(root: PackageCall) -> Diagnosis | None:
    """Explain an input that went to the ``**kwargs`` of a forward by the parameter that was meant and is missing."""
    given = [item.name for item in root.givens]
    for name in given if _ASKS.search(root.ctx.failure.message) and len({*given}) == len(given) else ():
        absent = [other for other in root.names if other not in given]
        if name not in root.names and (near := difflib.get_close_matches(name, absent, 1, 0.5)):
            reason = f"forward has no parameter '{name}' (did you mean '{near[0]}'?), and **kwargs took it"
            return _diagnose(root, reason, near[0], root.change({name: "None", near[0]: f"{{{name}}}"}))
    return None


def list_exchanged(root: PackageCall) -> Iterator[Diagnosis]:
    """List pairs of inputs that may have been given in each other's place: of other ranks, or integers for numbers."""
    for one, other in itertools.combinations(root.givens, 2):
        is_alike = len(one.shape) == len(other.shape) and one.is_floating == other.is_floating
        if is_alike or one.leaf is None or other.leaf is None:
            continue
        reason = f"{one.name} got what {other.name} takes, and {other.name} what {one.name} takes"
        changed = {one: other.spec, other: one.spec}
        names = {one.name: other.name, other.name: one.name}
        text = f"model({', '.join(names.get(given.name, given.name) for given in root.givens)})"
        fix = Candidate(text, (GivenEdit(tuple(names.items())),), rank=-1)
        yield _diagnose(root, reason, "the other order", fix, changed)
        # A dtype that was chosen for the layer that reads an input stays with that layer.
        chosen = {given: spec._replace(dtype=given.spec.dtype) for given, spec in changed.items()}
        yield _diagnose(root, reason, "the other order", NOTHING, chosen)


def _write(package: PackageCall, given: Given, way: Way, alike: Sequence[Given], dtype: str = "") -> Diagnosis:
    """Write a change of one input, and of those that have its shape and dtype; with a dtype it is cast too."""
    same = [other for other in alike if other.spec._replace(name="") == given.spec._replace(name="")]
    template = f"{way.template}.{_CASTS[dtype]}()" if dtype else way.template
    fix = package.change(dict.fromkeys((other.name for other in same), template)) if template else NOTHING
    changed = {other: other.spec._replace(shape=way.shape, dtype=dtype or other.spec.dtype) for other in same}
    reason = f"{way.reason}; it is {given.spec.dtype}, the weights are {dtype}" if dtype else way.reason
    return _diagnose(package, reason, f"{given.name} {write_shape(way.shape)}", fix, changed)


def _diagnose(
    package: PackageCall,
    reason: str,
    expected: str,
    fix: Candidate | Sequence[Candidate],
    changed: dict[Given, TensorSpec] | None = None,
) -> Diagnosis:
    """Write an explanation, with the inputs at which the model is to run, if those are the user's own."""
    specs = [fact.spec for fact in package.ctx.trace.inputs]
    for given, spec in (changed or {}).items():
        if given.leaf is not None:
            specs[given.leaf] = spec._replace(name=specs[given.leaf].name)
    is_own = bool(changed) and all(given.leaf is not None for given in changed or ())
    candidates = (tuple(specs),) if is_own else ()
    return Diagnosis(reason, expected, fix, STEER, candidates=candidates, code="input", call=package.call)


def _order(package: PackageCall) -> list[Given]:
    """Put first what the failed call, or one around it, reads."""
    ctx, read = package.ctx, []
    for call in (ctx.call, *ctx.flow.around(ctx.call)):
        for link in call.input_links:
            made = [link, *(other for step in ctx.flow.walk_back(link, 8) for other in step.input_links)]
            read += [other.leaf for other in made if other is not None and other.call < 0]
    return sorted(package.givens, key=lambda given: read.index(given.leaf) if given.leaf in read else len(read))


_CASTS = {"float32": "float", "float64": "double", "float16": "half", "bfloat16": "bfloat16", "int64": "long"}


def _find_dtype(package: PackageCall) -> str:
    """Return the dtype of the weights; ``""`` of a model without."""
    params = (param for param in package.ctx.trace.params if param.kind == "parameter" and param.dtype in FLOATING)
    return next((param.dtype for param in params), "")


def _list_dtypes(package: PackageCall, given: Given) -> Iterator[Diagnosis]:
    """Ids that are no integers, features under the name of ids, numbers of another precision than the weights."""
    name, dtype = given.name, given.spec.dtype

    def retype(wanted: str, reason: str) -> Diagnosis:
        fix = package.change({name: f"{{}}.{_CASTS[wanted]}()"})
        return _diagnose(package, reason, f"{name} of {wanted}", fix, {given: given.spec._replace(dtype=wanted)})

    if dtype in FLOATING and re.search(r"(?:^|_)ids$|labels?$|bbox|positions$", name):
        if name.endswith("input_ids") and len(given.shape) == 3:
            embeds = f"{name.removesuffix('input_ids')}inputs_embeds"
            fix = package.change({embeds: f"{{{name}}}", name: "None"})
            reason = f"{given.text} are features, where token ids belong: {embeds} takes them"
            yield _diagnose(package, reason, embeds, fix)
        what = "classes" if "label" in name else "ids" if name.endswith("ids") else "positions"
        yield retype("int64", f"{name} is {dtype}: {what} are integers")
    weights = _find_dtype(package)
    if given.is_floating and weights not in ("", dtype):
        yield retype(weights, f"{name} is {dtype}, the weights are {weights}")


#: What is said of an input that was not given: the message names it, or ``None`` came where a tensor was read.
_ASKS = re.compile(r"specify|provide|NoneType|must be (?:given|passed)|required|missing", re.I)


def _list_absent(package: PackageCall) -> Iterator[Diagnosis]:
    """An input that the model needs was not given, or two of which it takes one."""
    message, givens = package.ctx.failure.message, package.givens
    if not _ASKS.search(message):
        return
    had, first = [given.name for given in givens], givens[0].shape
    is_counted = givens[0].spec.dtype in INTEGERS
    batch, steps = f"{{{had[0]}}}.shape[0]", first[1] if len(first) > 1 else 1
    side = next(iter(list_fields(package, "image_size")), 224)
    channels = next(iter(list_fields(package, "num_channels")), 3)
    made = {
        "input_ids": f"torch.zeros({batch}, {steps if len(first) == 2 else 1}, dtype=torch.long)",
        "decoder_input_ids": f"{{{had[0]}}}" if is_counted else f"torch.zeros({batch}, 1, dtype=torch.long)",
        "pixel_values": f"torch.rand({batch}, {channels}, {side}, {side})",
        "bbox": f"torch.zeros({batch}, {steps}, 4, dtype=torch.long)",
    }
    for name, code in made.items():
        if name in package.names and name not in had:
            reason = f"{name} was not given, and the model reads it"
            if name.startswith("decoder"):
                reason = f"the decoder got no tokens: {name}, or labels of which they are made, are not given"
            yield _diagnose(package, reason, name, package.change({name: code}))
    for name in had[1:]:
        if re.search(rf"\b{name}\b", message):
            reason = f"{had[0]} and {name} were both given: the model takes one of them"
            yield _diagnose(package, reason, had[0], package.change({name: "None"}))


_NO_FIELD = re.compile(r"'\w+Config' object has no attribute '(\w+_token_id)'")


def _list_fields_to_set(package: PackageCall) -> Iterator[Diagnosis]:
    """A token that the configuration does not name, and heads that share no whole number of keys."""
    fact, message = package.fact, package.ctx.failure.message
    token = _NO_FIELD.search(message)
    name = token[1] if token is not None else "pad_token_id" if "padding token" in message else ""
    if name:
        tokens = (fact.config.get(key, -1) for key in ("pad_token_id", "eos_token_id"))
        value = next((token for token in tokens if 0 <= token < fact.config.get("vocab_size", 0)), 0)
        reason = f"config.{name} is not set, and the model reads it"
        yield _diagnose(package, reason, f"config.{name}", write_rebuild(fact, name, value))
    heads, shared = fact.config.get("num_attention_heads"), fact.config.get("num_key_value_heads")
    if type(heads) is int and type(shared) is int and shared > 0 and heads % shared:
        reason = f"config.num_attention_heads = {heads} is not divisible by config.num_key_value_heads = {shared}"
        counts = [count for count in range(1, heads + 1) if not heads % count]
        near = sorted(counts, key=lambda count: abs(count - shared))[:2]
        fixes = [write_rebuild(fact, "num_key_value_heads", count) for count in near]
        yield _diagnose(package, reason, "a divisor of the heads", fixes)


def _list_settings(package: PackageCall) -> Iterator[Diagnosis]:
    """Images of another size than the model's table of positions is for, where it can be fitted to them."""
    option = "interpolate_pos_encoding"
    pixels = next((given for given in package.givens if len(given.shape) == 4 and given.is_floating), None)
    if option not in package.names or pixels is None:
        return
    for side in list_fields(package, "image_size"):
        if pixels.shape[2:] != (side, side):
            own = f"{write_times((side, side))}{name_field(package, side, 'image_size')}"
            reason = f"{pixels.name} is {write_times(pixels.shape[2:])}, the positions are those of {own}"
            reason += f": {option}=True fits them to other sizes"
            spec = pixels.spec._replace(shape=(*pixels.shape[:2], side, side))
            fix = package.change({option: "True"})
            yield _diagnose(package, reason, f"{pixels.name} {write_shape(spec.shape)}", fix, {pixels: spec})
