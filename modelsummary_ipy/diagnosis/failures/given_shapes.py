"""Other shapes for what a package's model was given: images, features, ids, labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from modelsummary_ipy.diagnosis.failures.package_calls import Given, PackageCall, list_fields, name_field
from modelsummary_ipy.diagnosis.failures.size_moves import read_channels
from modelsummary_ipy.diagnosis.formatting import write_shape

INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
#: Fewer rows or columns are no image.
_LEAST_SIDE = 8


class Way(NamedTuple):
    """Another input: what becomes of it, its shape then, and why; without a template it is only said."""

    template: str
    shape: tuple[int, ...]
    reason: str


def list_ways(package: PackageCall, given: Given) -> Iterator[Way]:
    """List the other shapes of an input that may be meant."""
    for ways in (_list_images, _list_read_widths, _list_widths, _list_orders, _list_ranks, _list_missing_dims):
        yield from ways(package, given)


def _list_images(package: PackageCall, given: Given) -> Iterator[Way]:
    """Channels last, grey or with a fourth channel, without a batch."""
    shape, rank, name = given.shape, len(given.shape), given.name
    if not given.is_floating or rank not in (3, 4, 5):
        return
    channels = [*list_fields(package, r"num_channels|in_chan"), *read_channels(package.ctx)[0]]
    wanted = next((size for size in channels if size in (1, 3, 4)), 0)
    if not wanted or max(shape[-3:]) < _LEAST_SIDE:
        return
    field = name_field(package, wanted, r"num_channels|in_chan")
    many = f"{wanted} channel{'s' if wanted > 1 else ''}"
    last = f"the {many} come last in {given.text}"
    if rank == 5 and shape[-1] == wanted:
        batch, frames, height, width, _ = shape
        for order, size in (
            ("0, 1, 4, 2, 3", (batch, frames, wanted, height, width)),
            ("0, 4, 1, 2, 3", (batch, wanted, frames, height, width)),
        ):
            place = "third" if order[3] == "1" else "second"
            yield Way(f"{{}}.permute({order})", size, f"{last}, the model takes them {place}{field}")
    if rank == 5 and wanted in shape[1:3]:
        swapped = (shape[0], shape[2], shape[1], *shape[3:])
        at = shape.index(wanted, 1)
        place = "third" if at == 1 else "second"
        reason = f"the {many} are dim {at} of {given.text}, the model takes them {place}{field}"
        yield Way("{}.transpose(1, 2)", swapped, reason)
    if rank == 4:
        yield from _list_batches_of_images(given, wanted, last, field)
    if rank == 3 and shape[0] in (1, wanted):
        more = ".expand(-1, 3, -1, -1)" if (shape[0], wanted) == (1, 3) else ""
        one = f"{given.text} is one image: the model takes a batch"
        yield Way(f"{{}}.unsqueeze(0){more}", (1, wanted, *shape[1:]), one)
    if rank == 3 and shape[2] == wanted:
        reason = f"{given.text} is one image, with its {many} last: the model takes a batch, the channels second{field}"
        yield Way("{}.permute(2, 0, 1).unsqueeze(0)", (1, wanted, *shape[:2]), reason)
    if rank == 3 and shape[1] == shape[2]:
        more = f".expand(-1, {wanted}, -1, -1)" if wanted > 1 else ""
        reason = f"{name} has no dim of channels, {write_shape(shape)}: the model takes {many}{field}"
        yield Way(f"{{}}.unsqueeze(1){more}", (shape[0], wanted, *shape[1:]), reason)


def _list_batches_of_images(given: Given, wanted: int, last: str, field: str) -> Iterator[Way]:
    batch, first, height, width = given.shape
    if first not in (1, 3, 4) and width in (1, 3, 4):
        more = "" if width == wanted else "[:, :3]" if (width, wanted) == (4, 3) else f".expand(-1, {wanted}, -1, -1)"
        if width in (1, wanted) or more == "[:, :3]":
            words = last if width == wanted else f"the {width} of channels comes last in {given.text}"
            takes = f"takes {wanted} of them second" if more else "takes them second"
            reason = f"{words}: the model {takes}{field}"
            yield Way(f"{{}}.permute(0, 3, 1, 2){more}", (batch, wanted, first, height), reason)
    if first == 1 != wanted:
        reason = f"{given.text} has 1 channel, the model takes {wanted}{field}"
        yield Way(f"{{}}.expand(-1, {wanted}, -1, -1)", (batch, wanted, height, width), reason)
    if (first, wanted) == (4, 3):
        reason = f"{given.text} has 4 channels, the model takes 3{field}: the fourth is mostly transparency"
        yield Way("{}[:, :3]", (batch, 3, height, width), reason)


def _list_ranks(package: PackageCall, given: Given) -> Iterator[Way]:
    """What is no image, clip, spectrogram or set of choices at all: what the model takes is said."""
    shape, rank, name = given.shape, len(given.shape), given.name
    if rank == 4 and given.is_floating:  # how many frames is not known from images
        frames = list_fields(package, "num_frames") or [16, 8]
        field = name_field(package, frames[0], "num_frames")
        for count in frames[:2]:
            many = f"{count} frames{field}" if field else f"{count} frames run"
            for words, size in (
                ("[B, frames, C, H, W]", (shape[0], count, *shape[1:])),
                ("[B, C, frames, H, W]", (*shape[:2], count, *shape[2:])),
            ):
                yield Way("", size, f"{given.text} has no dim of frames: the model takes clips, {words}; {many}")
    takes = f"{given.text} has {rank} dims: the model takes"
    if rank < 3 and name == "pixel_values":
        for side in list_fields(package, "image_size"):
            channels = next(iter(list_fields(package, "num_channels")), 3)
            yield Way("", (shape[0], channels, side, side), f"{takes} images, [B, C, H, W]")
    if rank == 2 and given.is_floating:
        for bins in list_fields(package, "mel_bins"):
            for steps in (*(2 * size for size in list_fields(package, "max_source_positions")), 1024):
                for size in ((shape[0], bins, steps), (shape[0], steps, bins)):
                    yield Way("", size, f"{takes} spectrograms, of {bins} mel bins (config.num_mel_bins)")
    if rank == 2 and "MultipleChoice" in package.fact.type_name:
        reason = f"{given.text} has no dim of choices: the model takes [B, choices, T]"
        yield Way("{}.unsqueeze(1)", (shape[0], 1, shape[1]), reason)


def _list_orders(package: PackageCall, given: Given) -> Iterator[Way]:
    """A dim of one too many or too few, and two dims the other way round."""
    shape, rank = given.shape, len(given.shape)
    for axis in range(1, rank):
        if shape[axis] == 1 and rank > 2:
            left = (*shape[:axis], *shape[axis + 1 :])
            reason = f"{given.text} has {rank} dims: the model takes {rank - 1}, without the 1 of dim {axis}"
            yield Way(f"{{}}.squeeze({axis})", left, reason)
    if rank == 1:
        yield Way("{}.unsqueeze(0)", (1, *shape), f"{given.text} has no batch: the model takes 2 dims")
    if rank == 3 and given.is_floating and shape[1] != shape[2] and 1 not in shape[1:]:
        turned = (shape[0], shape[2], shape[1])
        pattern = r"mel_bins|feat_per|num_input_channels|input_size|context_length|hidden_size|d_model|channels$"
        fields = ((axis, field) for axis in (2, 1) if (field := name_field(package, shape[axis], pattern)))
        axis, field = next(fields, (0, ""))
        what = f"the {shape[axis]}{field} are dim {axis} of {given.text}, and belong in dim {3 - axis}"
        yield Way(
            "{}.transpose(1, 2)", turned, what if field else f"the model takes {given.text} with dims 1 and 2 exchanged"
        )


def _list_read_widths(package: PackageCall, given: Given) -> Iterator[Way]:
    """Features that are not as many as the linear layer reads which failed."""
    ctx = package.ctx
    width = ctx.setting("in_features") if ctx.function == "linear" else None
    links = [x.link for x in ctx.data[:1]]
    is_read = given.leaf is not None and any(
        link is not None and link.call < 0 and link.leaf == given.leaf for link in links
    )
    if is_read and isinstance(width, int) and len(given.shape) > 1 and width > 1:
        field = name_field(package, width, r"dim$|size$|_in$|channels$|width$")
        reason = f"{given.text} has {given.shape[-1]} features in dim {len(given.shape) - 1}, {ctx.owner} takes {width}"
        yield Way("", (*given.shape[:-1], width), f"{reason}{field}")


def _list_missing_dims(_: PackageCall, given: Given) -> Iterator[Way]:
    """A dim of one that is not there, and both channels of a recording."""
    shape, rank = given.shape, len(given.shape)
    if rank == 3 and given.name.endswith("input_ids") and not given.is_floating:
        reason = f"{given.text} has 3 dims: the model takes 2, the first two as one batch say"
        yield Way("{}.flatten(0, 1)", (shape[0] * shape[1], shape[2]), reason)
    if not given.is_floating or rank not in (2, 3):
        return
    if rank == 3 and given.name == "input_values" and shape[1] == 2:
        reason = f"{given.text} has 2 channels: the model takes one signal a sample, their mean say"
        yield Way("{}.mean(1)", (shape[0], shape[2]), reason)
    for axis, size in ((1, (shape[0], 1, *shape[1:])), (rank, (*shape, 1))):
        reason = f"{given.text} has {rank} dims: the model takes {rank + 1}, with a 1 in dim {axis}"
        yield Way(f"{{}}.unsqueeze({axis})", size, reason)


def _list_widths(package: PackageCall, given: Given) -> Iterator[Way]:
    """Features that are not as many as the model reads, and boxes of more or fewer than four numbers."""
    shape, name = given.shape, given.name
    if "bbox" in name and len(shape) == 3 and shape[-1] != 4:
        yield Way("", (*shape[:-1], 4), f"{given.text} has {shape[-1]} numbers for each box: left, top, right, bottom")
    if not given.is_floating or len(shape) != 3:
        return
    pattern = r"mel_bins|feat_per"
    if re.search("embeds|hidden|features", name):
        pattern += r"|hidden_size|embedding_size|n_embd|d_model|(?:^|\.)dim$|embedding_dim"
    for width in list_fields(package, pattern):
        field = name_field(package, width, pattern)
        if width != shape[2] and (width != shape[1] or "embeds" in name):
            reason = f"{given.text} has {shape[2]} features in dim 2, the model takes {width}{field}"
            yield Way("", (*shape[:-1], width), reason)
        if width not in shape[1:] and "mel_bins" in field:
            reason = f"{given.text} has {shape[1]} mel bins in dim 1, the model takes {width}{field}"
            yield Way("", (shape[0], width, shape[2]), reason)


def list_unequal(main: Given, given: Given) -> Iterator[Way]:
    """Batches and lengths that are not those of the first input, and labels of another number of dims."""
    shape, first, name = given.shape, main.shape, given.name
    if not shape or not first:
        return
    is_broadcast = shape[0] == 1 and "label" not in name and len(shape) < 3
    if shape[0] != first[0] and not is_broadcast:
        reason = f"{name} has a batch of {shape[0]}, {main.name} of {first[0]}"
        yield Way("", (first[0], *shape[1:]), reason)
    is_sequence = (
        len(first) > 1
        and not main.name.startswith("pixel")
        and name.startswith("decoder_") <= (main.name.startswith("decoder_"))
    )
    if is_sequence and len(shape) > 1 and shape[1] != first[1] and not name.startswith("pixel"):
        rest = (shape[0], first[1], *shape[2:])
        reason = f"{name} has {shape[1]} steps, {main.name} has {first[1]}: one for each"
        yield Way(f"{{}}[:, :{first[1]}]" if shape[1] > first[1] and "label" not in name else "", rest, reason)
    if "label" in name and given.spec.dtype in INTEGERS:
        takes = "the model takes one label"
        if len(shape) > len(first):
            yield Way("", first, f"{given.text} has {len(shape)} dims: the model takes {len(first)}")
        if len(shape) > 1:
            yield Way("", shape[:1], f"{given.text} has a label for each step: {takes} a sample")
        if len(shape) == 1 and len(first) > 1:
            yield Way("", first[:2], f"{given.text} has one label a sample: {takes} for each of {first[1]} steps")
        if len(shape) == 1 and len(first) == 4:
            sides = (first[0], *first[2:])
            yield Way("", sides, f"{given.text} has one label a sample: {takes} for each pixel")
