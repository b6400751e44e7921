"""Rules for what is done to feature maps and their layers: sides treated unlike, resizes, layers of another rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.meaning import find_axis_flags
from modelsummary_ipy.diagnosis.torch_names import (
    CATS,
    CONVOLUTIONS,
    EMBEDDINGS,
    LINEARS,
    POOLS,
    RECURRENTS,
    is_weighted,
)
from modelsummary_ipy.diagnosis.windows import read_windows
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call

_DROPOUTS = {"Dropout1d": 1, "Dropout2d": 2, "Dropout3d": 3, "dropout1d": 1, "dropout2d": 2, "dropout3d": 3}
_OF_SIGNALS = frozenset({"InstanceNorm1d", "instance_norm", "interpolate", "Upsample", "PReLU"})
_POOLS = names_of("pool", "adaptive pool")
_MENDS = CATS | {"pad", "interpolate", "Upsample", "getitem"}
_FEATURES = LINEARS | EMBEDDINGS | RECURRENTS


def find_uneven_sides(evidence: Evidence) -> Iterator[Flag]:
    """Find the operation after which a height and a width that were equal are so no more.

    A warning in a net whose kernels, strides and paddings are the same in both directions, else a note.

    Finds two branches joined with ``torch.cat(…, 2)``, ``F.pad(x, (1, 1))``, a resize of one side. Leaves alone kernels
    and strides that differ in the two directions, what a later operation makes equal again (the padding before a
    kernel of 1 × 3, wavelets, strip pooling), and the differences of neighbours in both directions.
    """
    for flag, call in find_axis_flags(evidence, "uneven-sides"):
        if _has_counterpart(evidence, call):
            continue
        if call.type_name not in CONVOLUTIONS | POOLS or not _is_anisotropic(evidence, call):
            is_alike = not any(_is_anisotropic(evidence, other) for other in evidence.flow.steps)
            is_one = len({evidence.flow.sources(link) for link in call.input_links if link is not None}) == 1
            yield replace(flag, severity="warning") if is_alike and is_one and call.type_name in _MENDS else flag


def _has_counterpart(evidence: Evidence, call: Call) -> bool:
    """Return whether one index cuts one side, and another one as much of the other side."""
    link = call.input_links[0] if call.type_name == "getitem" else None
    found = evidence.flow.reads.get(link, ()) if link is not None else ()
    own, *others = [_list_cuts(call), *(_list_cuts(reader) for reader, _ in found if reader.type_name == "getitem")]
    return any(cuts != own and sorted(cuts) == sorted(own) for cuts in others)


def _list_cuts(call: Call) -> list[int]:
    """Return how many entries of each dim an operation leaves out."""
    shapes = zip(call.inputs[0].shape, call.outputs[0].shape, strict=False) if call.inputs and call.outputs else ()
    return [before - after for before, after in shapes]


def _is_anisotropic(evidence: Evidence, call: Call) -> bool:
    windows = read_windows(call, evidence.modules) if call.type_name in CONVOLUTIONS | POOLS else ()
    return len({None if window is None else (window.extent, window.stride, window.padding) for window in windows}) > 1


def find_idle_resizes(evidence: Evidence) -> Iterator[Flag]:
    """Find a resize to the size that a feature map has, and one to a smaller size before a sum: a note.

    Leaves alone a line that also resizes where it runs again: a loop over the levels of a pyramid.
    """
    flags = list(find_axis_flags(evidence, "idle-resize"))
    found = {call.index for _, call in flags}
    for flag, call in flags:
        alike = [other for other in evidence.calls if other.source == call.source and other.type_name == call.type_name]
        if flag.severity != "note" or call.source is None or all(other.index in found for other in alike):
            yield flag


def find_layers_on_tokens(evidence: Evidence) -> Iterator[Flag]:
    """Find a layer of feature maps on ``(B, T, C)``: it takes the steps for channels.

    Finds ``nn.Dropout2d`` on tokens, which drops whole tokens, and ``nn.AdaptiveAvgPool1d(1)``, which averages their
    features. Leaves alone signals ``(B, C, L)``: what a convolution made, or a transpose.
    """
    for step in evidence.flow.steps:
        if step.type_name not in _DROPOUTS and step.type_name not in _POOLS | _OF_SIGNALS:
            continue
        if not step.inputs or len(step.inputs[0].shape) not in (3, 4):
            continue
        shape = step.inputs[0].shape
        features = _name_features(evidence, step)
        if not features or shape[1] == 1 or evidence.flow.setting(step, "num_parameters", 2) == 1:
            continue
        if len(shape) == 4 and "2d" not in step.type_name:
            continue
        where = f"{write_size(shape)}, whose last dim is the {shape[-1]} features of {features}"
        if _DROPOUTS.get(step.type_name, 0) and len(shape) == 3:
            message = f"{step.type_name} on {where}: it drops whole entries of dim 1, tokens and not features"
            yield evidence.flag("layer-rank", "warning", step, message, "nn.Dropout drops single numbers", "dropout",
                shape=shape,
            )  # fmt: skip
        elif step.type_name in _OF_SIGNALS and len(shape) == 3 and step.inputs[0].shape[-1] > 1:
            does = (
                "resizes the features"
                if "pol" in step.type_name or "Up" in step.type_name
                else "takes steps for channels"
            )
            message = f"{step.type_name} on {where}: it {does}"
            fix = "transpose(1, 2) before it, and after"
            yield evidence.flag("layer-rank", "warning", step, message, fix, "signal", shape=shape)
        elif step.type_name in _POOLS and ("2d" in step.type_name or f"{len(shape) - 2}d" in step.type_name):
            what = "the features with" if len(shape) == 3 and "2d" in step.type_name else "the features, not"
            message = f"{step.type_name} on {where}: it pools {what} the {shape[1]} entries of dim 1"
            fix = "move the features to dim 1 before it, or mean(1)"
            yield evidence.flag("layer-rank", "warning", step, message, fix, "pool", shape=shape)


def _name_features(evidence: Evidence, step: Call) -> str:
    """Return the layer whose features are in the last dim, where it put them, or "the input"; ``""`` if none did."""
    maker = _find_maker_of_last(evidence, step)
    if maker is not None:
        return maker.path or maker.type_name
    origins = evidence.origins_of(step.input_links[0]) if step.input_links else ()
    is_passed_on = len(origins) == 3 and origins[1] == "T" and origins[2] == "F"  # by a sum with what layers made
    return "the input" if is_passed_on and any(map(is_weighted, evidence.flow.before(step.input_links[0]))) else ""


def _find_maker_of_last(evidence: Evidence, step: Call) -> Call | None:
    """Return the layer whose features are in the last dim, where it put them."""
    last = evidence.layout_in(step)[-1]
    maker = evidence.maker_of(last[0], step) if len(last) == 1 else None
    return maker if maker is not None and maker.type_name in _FEATURES else None


RULES = {"uneven-sides": find_uneven_sides, "idle-resize": find_idle_resizes, "layer-rank": find_layers_on_tokens}
