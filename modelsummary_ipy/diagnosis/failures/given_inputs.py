"""What a model of an installed package was given: its lines are not the user's to change, its inputs are.

Each explanation holds only if the model runs with its fix, or at its sizes: whoever reads them has to try.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from modelsummary_ipy.diagnosis.failures.context import NOTHING, STEER, Diagnosis
from modelsummary_ipy.diagnosis.failures.package_calls import FLOATING, Given, PackageCall
from modelsummary_ipy.diagnosis.failures.rebuilds import write_rebuild
from modelsummary_ipy.diagnosis.failures.size_moves import read_channels
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import ModuleFact, TensorSpec

_INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
#: Fewer rows or columns are no image.
_LEAST_SIDE = 8
_Shape = tuple[int, ...]


class _Way(NamedTuple):
    """Another input: what becomes of it, its shape then, and why; without a template it is only said."""

    template: str
    shape: _Shape
    reason: str


def list_givens(package: PackageCall) -> Iterator[Diagnosis]:
    """List what may be wrong with the inputs of a package's model, each with a fix or with inputs to try."""
    givens = package.givens
    yield from _list_absent(package)
    yield from _list_fields_to_set(package)
    for given in _order(package):
        yield from _list_dtypes(package, given)
        ways = (_list_images, _list_read_widths, _list_widths, _list_orders, _list_ranks, _list_missing_dims)
        for way in (way for list_ways in ways for way in list_ways(package, given)):
            yield _write(package, given, way, givens)
            if way.template and given.is_floating and _find_dtype(package) not in ("", given.spec.dtype):
                yield _write(package, given, way, givens, _find_dtype(package))
    for given in givens[1:]:
        alike = [other for other in givens[1:] if ("label" in other.name) == ("label" in given.name)]
        for way in _list_unequal(givens[0], given):
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


def _write(package: PackageCall, given: Given, way: _Way, alike: Sequence[Given], dtype: str = "") -> Diagnosis:
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


def _list_configured(package: PackageCall) -> list[ModuleFact]:
    """List the model and the parts of it that have a configuration."""
    lead = f"{package.fact.path}." if package.fact.path else ""
    return [fact for fact in package.ctx.trace.modules if fact.config and f"{fact.path}.".startswith(lead)][:50]


def _name_field(package: PackageCall, size: int, pattern: str) -> str:
    """Name the field of a configuration that is a size: ``" (config.num_channels)"``; ``""`` if none is."""
    for fact in _list_configured(package):
        for name, value in fact.config.items():
            if value == size and re.search(pattern, name):
                return f" (config.{name})"
    return ""


def _list_fields(package: PackageCall, pattern: str) -> list[int]:
    fields = (item for fact in _list_configured(package) for item in fact.config.items())
    found = [value for name, value in fields if type(value) is int and value > 0 and re.search(pattern, name)]
    return list(dict.fromkeys(found))


# -- images -----------------------------------------------------------------------------------------------------------


def _list_images(package: PackageCall, given: Given) -> Iterator[_Way]:
    """Channels last, grey or with a fourth channel, without a batch."""
    shape, rank, name = given.shape, len(given.shape), given.name
    if not given.is_floating or rank not in (3, 4, 5):
        return
    channels = [*_list_fields(package, r"num_channels|in_chan"), *read_channels(package.ctx)[0]]
    wanted = next((size for size in channels if size in (1, 3, 4)), 0)
    if not wanted or max(shape[-3:]) < _LEAST_SIDE:
        return
    field = _name_field(package, wanted, r"num_channels|in_chan")
    many = f"{wanted} channel{'s' if wanted > 1 else ''}"
    last = f"the {many} come last in {given.text}"
    if rank == 5 and shape[-1] == wanted:
        batch, frames, height, width, _ = shape
        for order, size in (
            ("0, 1, 4, 2, 3", (batch, frames, wanted, height, width)),
            ("0, 4, 1, 2, 3", (batch, wanted, frames, height, width)),
        ):
            place = "third" if order[3] == "1" else "second"
            yield _Way(f"{{}}.permute({order})", size, f"{last}, the model takes them {place}{field}")
    if rank == 5 and wanted in shape[1:3]:
        swapped = (shape[0], shape[2], shape[1], *shape[3:])
        at = shape.index(wanted, 1)
        place = "third" if at == 1 else "second"
        reason = f"the {many} are dim {at} of {given.text}, the model takes them {place}{field}"
        yield _Way("{}.transpose(1, 2)", swapped, reason)
    if rank == 4:
        yield from _list_batches_of_images(given, wanted, last, field)
    if rank == 3 and shape[0] in (1, wanted):
        more = ".expand(-1, 3, -1, -1)" if (shape[0], wanted) == (1, 3) else ""
        one = f"{given.text} is one image: the model takes a batch"
        yield _Way(f"{{}}.unsqueeze(0){more}", (1, wanted, *shape[1:]), one)
    if rank == 3 and shape[2] == wanted:
        reason = f"{given.text} is one image, with its {many} last: the model takes a batch, the channels second{field}"
        yield _Way("{}.permute(2, 0, 1).unsqueeze(0)", (1, wanted, *shape[:2]), reason)
    if rank == 3 and shape[1] == shape[2]:
        more = f".expand(-1, {wanted}, -1, -1)" if wanted > 1 else ""
        reason = f"{name} has no dim of channels, {write_shape(shape)}: the model takes {many}{field}"
        yield _Way(f"{{}}.unsqueeze(1){more}", (shape[0], wanted, *shape[1:]), reason)


def _list_batches_of_images(given: Given, wanted: int, last: str, field: str) -> Iterator[_Way]:
    batch, first, height, width = given.shape
    if first not in (1, 3, 4) and width in (1, 3, 4):
        more = "" if width == wanted else "[:, :3]" if (width, wanted) == (4, 3) else f".expand(-1, {wanted}, -1, -1)"
        if width in (1, wanted) or more == "[:, :3]":
            words = last if width == wanted else f"the {width} of channels comes last in {given.text}"
            takes = f"takes {wanted} of them second" if more else "takes them second"
            reason = f"{words}: the model {takes}{field}"
            yield _Way(f"{{}}.permute(0, 3, 1, 2){more}", (batch, wanted, first, height), reason)
    if first == 1 != wanted:
        reason = f"{given.text} has 1 channel, the model takes {wanted}{field}"
        yield _Way(f"{{}}.expand(-1, {wanted}, -1, -1)", (batch, wanted, height, width), reason)
    if (first, wanted) == (4, 3):
        reason = f"{given.text} has 4 channels, the model takes 3{field}: the fourth is mostly transparency"
        yield _Way("{}[:, :3]", (batch, 3, height, width), reason)


def _list_ranks(package: PackageCall, given: Given) -> Iterator[_Way]:
    """What is no image, clip, spectrogram or set of choices at all: what the model takes is said."""
    shape, rank, name = given.shape, len(given.shape), given.name
    if rank == 4 and given.is_floating:  # how many frames is not known from images
        frames = _list_fields(package, "num_frames") or [16, 8]
        field = _name_field(package, frames[0], "num_frames")
        for count in frames[:2]:
            many = f"{count} frames{field}" if field else f"{count} frames run"
            for words, size in (
                ("[B, frames, C, H, W]", (shape[0], count, *shape[1:])),
                ("[B, C, frames, H, W]", (*shape[:2], count, *shape[2:])),
            ):
                yield _Way("", size, f"{given.text} has no dim of frames: the model takes clips, {words}; {many}")
    takes = f"{given.text} has {rank} dims: the model takes"
    if rank < 3 and name == "pixel_values":
        for side in _list_fields(package, "image_size"):
            channels = next(iter(_list_fields(package, "num_channels")), 3)
            yield _Way("", (shape[0], channels, side, side), f"{takes} images, [B, C, H, W]")
    if rank == 2 and given.is_floating:
        for bins in _list_fields(package, "mel_bins"):
            for steps in (*(2 * size for size in _list_fields(package, "max_source_positions")), 1024):
                for size in ((shape[0], bins, steps), (shape[0], steps, bins)):
                    yield _Way("", size, f"{takes} spectrograms, of {bins} mel bins (config.num_mel_bins)")
    if rank == 2 and "MultipleChoice" in package.fact.type_name:
        reason = f"{given.text} has no dim of choices: the model takes [B, choices, T]"
        yield _Way("{}.unsqueeze(1)", (shape[0], 1, shape[1]), reason)


# -- dtypes -----------------------------------------------------------------------------------------------------------


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


# -- orders and dims --------------------------------------------------------------------------------------------------


def _list_orders(package: PackageCall, given: Given) -> Iterator[_Way]:
    """A dim of one too many or too few, and two dims the other way round."""
    shape, rank = given.shape, len(given.shape)
    for axis in range(1, rank):
        if shape[axis] == 1 and rank > 2:
            left = (*shape[:axis], *shape[axis + 1 :])
            reason = f"{given.text} has {rank} dims: the model takes {rank - 1}, without the 1 of dim {axis}"
            yield _Way(f"{{}}.squeeze({axis})", left, reason)
    if rank == 1:
        yield _Way("{}.unsqueeze(0)", (1, *shape), f"{given.text} has no batch: the model takes 2 dims")
    if rank == 3 and given.is_floating and shape[1] != shape[2] and 1 not in shape[1:]:
        turned = (shape[0], shape[2], shape[1])
        pattern = r"mel_bins|feat_per|num_input_channels|input_size|context_length|hidden_size|d_model|channels$"
        fields = ((axis, field) for axis in (2, 1) if (field := _name_field(package, shape[axis], pattern)))
        axis, field = next(fields, (0, ""))
        what = f"the {shape[axis]}{field} are dim {axis} of {given.text}, and belong in dim {3 - axis}"
        yield _Way(
            "{}.transpose(1, 2)", turned, what if field else f"the model takes {given.text} with dims 1 and 2 exchanged"
        )


def _list_read_widths(package: PackageCall, given: Given) -> Iterator[_Way]:
    """Features that are not as many as the linear layer reads which failed."""
    ctx = package.ctx
    width = ctx.setting("in_features") if ctx.function == "linear" else None
    links = [x.link for x in ctx.data[:1]]
    is_read = given.leaf is not None and any(
        link is not None and link.call < 0 and link.leaf == given.leaf for link in links
    )
    if is_read and isinstance(width, int) and len(given.shape) > 1 and width > 1:
        field = _name_field(package, width, r"dim$|size$|_in$|channels$|width$")
        reason = f"{given.text} has {given.shape[-1]} features in dim {len(given.shape) - 1}, {ctx.owner} takes {width}"
        yield _Way("", (*given.shape[:-1], width), f"{reason}{field}")


def _list_missing_dims(_: PackageCall, given: Given) -> Iterator[_Way]:
    """A dim of one that is not there, and both channels of a recording."""
    shape, rank = given.shape, len(given.shape)
    if rank == 3 and given.name.endswith("input_ids") and not given.is_floating:
        reason = f"{given.text} has 3 dims: the model takes 2, the first two as one batch say"
        yield _Way("{}.flatten(0, 1)", (shape[0] * shape[1], shape[2]), reason)
    if not given.is_floating or rank not in (2, 3):
        return
    if rank == 3 and given.name == "input_values" and shape[1] == 2:
        reason = f"{given.text} has 2 channels: the model takes one signal a sample, their mean say"
        yield _Way("{}.mean(1)", (shape[0], shape[2]), reason)
    for axis, size in ((1, (shape[0], 1, *shape[1:])), (rank, (*shape, 1))):
        reason = f"{given.text} has {rank} dims: the model takes {rank + 1}, with a 1 in dim {axis}"
        yield _Way(f"{{}}.unsqueeze({axis})", size, reason)


def _list_widths(package: PackageCall, given: Given) -> Iterator[_Way]:
    """Features that are not as many as the model reads, and boxes of more or fewer than four numbers."""
    shape, name = given.shape, given.name
    if "bbox" in name and len(shape) == 3 and shape[-1] != 4:
        yield _Way("", (*shape[:-1], 4), f"{given.text} has {shape[-1]} numbers for each box: left, top, right, bottom")
    if not given.is_floating or len(shape) != 3:
        return
    pattern = r"mel_bins|feat_per"
    if re.search("embeds|hidden|features", name):
        pattern += r"|hidden_size|embedding_size|n_embd|d_model|(?:^|\.)dim$|embedding_dim"
    for width in _list_fields(package, pattern):
        field = _name_field(package, width, pattern)
        if width != shape[2] and (width != shape[1] or "embeds" in name):
            reason = f"{given.text} has {shape[2]} features in dim 2, the model takes {width}{field}"
            yield _Way("", (*shape[:-1], width), reason)
        if width not in shape[1:] and "mel_bins" in field:
            reason = f"{given.text} has {shape[1]} mel bins in dim 1, the model takes {width}{field}"
            yield _Way("", (shape[0], width, shape[2]), reason)


# -- several inputs ---------------------------------------------------------------------------------------------------


def _list_unequal(main: Given, given: Given) -> Iterator[_Way]:
    """Batches and lengths that are not those of the first input, and labels of another number of dims."""
    shape, first, name = given.shape, main.shape, given.name
    if not shape or not first:
        return
    is_broadcast = shape[0] == 1 and "label" not in name and len(shape) < 3
    if shape[0] != first[0] and not is_broadcast:
        reason = f"{name} has a batch of {shape[0]}, {main.name} of {first[0]}"
        yield _Way("", (first[0], *shape[1:]), reason)
    is_sequence = (
        len(first) > 1
        and not main.name.startswith("pixel")
        and name.startswith("decoder_") <= (main.name.startswith("decoder_"))
    )
    if is_sequence and len(shape) > 1 and shape[1] != first[1] and not name.startswith("pixel"):
        rest = (shape[0], first[1], *shape[2:])
        reason = f"{name} has {shape[1]} steps, {main.name} has {first[1]}: one for each"
        yield _Way(f"{{}}[:, :{first[1]}]" if shape[1] > first[1] and "label" not in name else "", rest, reason)
    if "label" in name and given.spec.dtype in _INTEGERS:
        takes = "the model takes one label"
        if len(shape) > len(first):
            yield _Way("", first, f"{given.text} has {len(shape)} dims: the model takes {len(first)}")
        if len(shape) > 1:
            yield _Way("", shape[:1], f"{given.text} has a label for each step: {takes} a sample")
        if len(shape) == 1 and len(first) > 1:
            yield _Way("", first[:2], f"{given.text} has one label a sample: {takes} for each of {first[1]} steps")
        if len(shape) == 1 and len(first) == 4:
            sides = (first[0], *first[2:])
            yield _Way("", sides, f"{given.text} has one label a sample: {takes} for each pixel")


# -- arguments --------------------------------------------------------------------------------------------------------

#: What is said of an input that was not given: the message names it, or ``None`` came where a tensor was read.
_ASKS = re.compile(r"specify|provide|NoneType|must be (?:given|passed)|required|missing", re.I)


def _list_absent(package: PackageCall) -> Iterator[Diagnosis]:
    """An input that the model needs was not given, or two of which it takes one."""
    message, givens = package.ctx.failure.message, package.givens
    if not _ASKS.search(message):
        return
    had, first = [given.name for given in givens], givens[0].shape
    is_counted = givens[0].spec.dtype in _INTEGERS
    batch, steps = f"{{{had[0]}}}.shape[0]", first[1] if len(first) > 1 else 1
    side = next(iter(_list_fields(package, "image_size")), 224)
    channels = next(iter(_list_fields(package, "num_channels")), 3)
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
    for side in _list_fields(package, "image_size"):
        if pixels.shape[2:] != (side, side):
            own = f"{write_times((side, side))}{_name_field(package, side, 'image_size')}"
            reason = f"{pixels.name} is {write_times(pixels.shape[2:])}, the positions are those of {own}"
            reason += f": {option}=True fits them to other sizes"
            spec = pixels.spec._replace(shape=(*pixels.shape[:2], side, side))
            fix = package.change({option: "True"})
            yield _diagnose(package, reason, f"{pixels.name} {write_shape(spec.shape)}", fix, {pixels: spec})
