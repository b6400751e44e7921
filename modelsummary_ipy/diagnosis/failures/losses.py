"""Losses: the axis of the classes, labels with a dim too many, labels of floats, predictions with a dim of one."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, RESHAPE, Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.decoder_grid import explain_grid
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import explain_folded_batch
from modelsummary_ipy.diagnosis.failures.fixes import find_name, fix_argument, fix_giver, fix_line, read_arguments
from modelsummary_ipy.diagnosis.failures.package_calls import Given, change_leaf, find_root_call
from modelsummary_ipy.diagnosis.failures.parameters import fix_creation, resize_origin, resize_param
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds, write_rebuild
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation
from modelsummary_ipy.diagnosis.failures.source_nodes import put_in_brackets
from modelsummary_ipy.diagnosis.failures.statements import walk_function
from modelsummary_ipy.diagnosis.formatting import write_product, write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import LOSSES, SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import TensorSpec

_OF_CLASSES = ("cross_entropy", "nll_loss")
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
#: Losses of vectors that belong together, sample by sample.
_PAIRED = ("triplet_margin_loss", "cosine_embedding_loss", "margin_ranking_loss")
_OF_NUMBERS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_INTEGERS = ("int64", "int32", "int16", "uint8", "int8")


def explain_loss(ctx: FailureContext) -> Diagnosis | None:
    """Explain a loss whose predictions and targets do not fit."""
    if len(ctx.data) < 2:
        return None
    name = ctx.function
    if (beyond := _BEYOND.search(ctx.failure.message)) is not None:
        return _explain_beyond(ctx, name, beyond)
    x, y = ctx.data[0], ctx.data[1]
    if name in (*LOSSES, *_OF_CLASSES, *_BINARY) and y.rank and x.rank and y.numel != x.shape[0]:
        folded = explain_folded_batch(ctx, x, y.shape[0])
        if folded is not None:
            return folded
    if name in LOSSES and (flat := _explain_flat(ctx, name, x, y)) is not None:
        return flat
    if name in _OF_CLASSES:
        return _explain_classes(ctx, name, x, y)
    if name in _BINARY and x.rank == y.rank > 2 and (found := explain_grid(ctx, (x, y))) is not None:
        return found
    if (
        name in _BINARY
        and x.shape == y.shape
        and x.rank
        and (found := explain_weights(ctx, x, -1, "label")) is not None
    ):
        return found
    if name in _BINARY:
        return _explain_binary(ctx, name, x, y)
    if name == "cosine_embedding_loss" and len(ctx.data) > 2 and x.shape == y.shape:
        return _explain_one_label(ctx, name, ctx.data[2], x.shape[:1], 2)
    if name in _PAIRED:
        return _explain_alike(ctx, name)
    if name in _OF_NUMBERS and x.rank == 2 and y.shape == x.shape[:1] and x.shape[1] > 1 and y.spec.dtype in _INTEGERS:
        return _explain_outputs(ctx, name, x, y)
    if name == "gaussian_nll_loss" and x.rank == 2 and y.rank == 1 and x.shape[0] == y.shape[0] and x.shape[1] > 1:
        return _explain_outputs(ctx, name, x, y)
    if name == "kl_div" and y.spec.dtype in _INTEGERS and x.rank == 2 and y.shape == x.shape[:1]:
        reason = f"{name} compares distributions, {write_shape(x.shape)}; the labels {write_shape(y.shape)} are classes"
        fixes = fix_argument(ctx, f"F.one_hot({{}}, {x.shape[1]}).float()", position=1)
        return Diagnosis(reason, f"a probability for each class, {write_shape(x.shape)}", fixes)
    if name == "ctc_loss" and x.rank == 3 and x.shape[0] == y.shape[0] != x.shape[1] and y.rank == 2:
        reason = f"{name} reads {write_shape(x.shape)} as [steps, batch, classes]: it has the batch of {x.shape[0]} "
        reason += "first"
        return Diagnosis(reason, "[steps, batch, classes]", fix_argument(ctx, "{}.transpose(0, 1)"))
    if name == "ctc_loss" and x.rank == 3 and len(ctx.data) > 2 and ctx.data[2].shape == x.shape[:1] != x.shape[1:2]:
        return _explain_lengths(ctx, name, x)
    return None


def _compare_steps(ctx: FailureContext, x: Operand, y: Operand) -> str:
    """Write of two inputs that were folded which steps they have: ``": targets has 16 steps, ids has 32 steps"``."""
    root = find_root_call(ctx)
    if root is None or x.rank != 2 or y.rank != 1:
        return ""
    found: list[Given] = []
    for one in (y, x):
        sources = ctx.flow.sources(one.link)
        found += [
            item for item in root.givens
            if item.leaf in sources and len(item.shape) == 2 and math.prod(item.shape) == one.shape[0]
        ][:1]  # fmt: skip
    if len(found) < 2 or found[0].shape[0] != found[1].shape[0]:
        return ""
    return ": " + ", ".join(f"{item.name} has {item.shape[1]} steps" for item in found)


_BEYOND = re.compile(r"Target (-?\d+) is out of bounds(?:: (-?\d+) to (\d+) of (\d+))?")


def _explain_beyond(ctx: FailureContext, name: str, found: re.Match[str]) -> Diagnosis:
    """Labels that are no classes: they are counted from 1, or there are more of them than outputs."""
    x = ctx.data[0]
    axis = min(x.rank - 1, 1)
    classes = x.shape[axis]
    reason = f"{name} of {classes} classes takes labels 0 … {classes - 1}, got {found[1]}"
    expected = f"labels 0 … {classes - 1}"
    wider = (
        resize_origin(ctx, x, int(found[1]) + 1)
        if axis == x.rank - 1
        else fix_giver(ctx, x, int(found[1]) + 1, axis - x.rank)
    )
    if int(found[1]) < 0:
        return Diagnosis(reason, expected)
    count = int(found[1]) + 1
    made = [wider, *list_rebuilds(ctx, classes, count), write_rebuild(ctx.trace.modules[0], "num_labels", count)]
    if found[2] is not None and int(found[2]) == 1 and int(found[3]) == classes:
        reason += f": they are counted from 1 to {found[3]}"
        made = [fix_argument(ctx, "{} - 1", position=1), change_leaf(ctx, ctx.data[1], "{} - 1"), *made]
    return Diagnosis(reason, expected, made)


def _explain_flat(ctx: FailureContext, name: str, x: Operand, y: Operand) -> Diagnosis | None:
    """One of prediction and target is flattened and the other is not."""
    for position, (one, other) in enumerate(((x, y), (y, x))):
        if one.rank > 2 == other.rank and one.numel == other.numel and one.shape[0] == other.shape[0]:
            reason = f"{name} compares numbers one to one: {write_shape(x.shape)} against {write_shape(y.shape)}"
            reason += f", and {write_product(one.shape[1:])}"
            return Diagnosis(reason, "equal shapes", fix_argument(ctx, "{}.flatten(1)", position=position))
    return None


def _explain_classes(ctx: FailureContext, name: str, x: Operand, y: Operand) -> Diagnosis | None:
    if not x.rank:
        return None
    if "weight tensor should be defined" in ctx.failure.message and x.rank > 1:
        return explain_weights(ctx, x, 1, "class")
    wanted = (x.shape[0], *x.shape[2:]) if x.rank > 1 else ()
    expected = f"labels {write_shape(wanted)} of int64"
    if y.spec.dtype not in _INTEGERS and y.shape in (wanted, x.shape):
        if y.shape == x.shape and name == "cross_entropy":
            return None
        reason = f"the labels are {y.spec.dtype}: class indices are integers"
        if y.shape == x.shape and x.rank > 1:
            return Diagnosis(f"{reason}, one a sample", expected, fix_argument(ctx, "{}.argmax(1)", position=1))
        return Diagnosis(reason, expected, fix_argument(ctx, "{}.long()", position=1))
    if x.rank == 1 and y.shape == x.shape and name == "cross_entropy":
        reason = f"{name} needs a number for each class: {write_shape(x.shape)} has one for each sample"
        new = change_operation(ctx.line, name, _compare_with_one, ctx.earlier)
        return Diagnosis(reason, "[samples, classes]", fix_line(ctx, new))
    if y.shape == wanted:
        return None
    if x.rank > 2 and y.shape == x.shape[:-1]:
        turn = "{}.transpose(1, 2)" if x.rank == 3 else "{}.movedim(-1, 1)"
        reason = f"{name} reads the classes on dim 1: {write_shape(x.shape)} has them last, the labels are "
        reason += f"{write_shape(y.shape)}"
        expected = f"classes on dim 1, {write_shape((x.shape[0], x.shape[-1], *x.shape[1:-1]))}"
        return Diagnosis(reason, expected, fix_argument(ctx, turn))
    if x.rank > 2 and y.shape == (*wanted, x.shape[1]):
        reason = f"the labels {write_shape(y.shape)} have a number for each class, and the classes last"
        turned = "{}.movedim(-1, 1)" if y.spec.dtype not in _INTEGERS else "{}.argmax(-1)"
        return Diagnosis(reason, expected, fix_argument(ctx, turned, position=1))
    if y.shape == x.shape and x.rank > 1:
        reason = f"the labels {write_shape(y.shape)} have a number for each class; as integers they are class indices"
        fixes = [fix_argument(ctx, template, position=1) for template in ("{}.float()", "{}.argmax(1)")]
        nodes = walk_function(ctx.failure.source)
        if fixes[0] and any(isinstance(node, ast.Attribute) and node.attr == "sigmoid" for node in nodes):
            reason += ", and sigmoid gives several classes a sample"
            binary = re.sub(rf"\b{name}\(", "binary_cross_entropy_with_logits(", fixes[0].text)
            fixes.insert(0, fix_line(ctx, binary))
        return Diagnosis(reason, expected, fixes)
    if len(wanted) == 2 and y.shape == wanted[::-1]:
        reason = f"the labels are {write_shape(y.shape)}, the predictions of {write_shape(wanted)}: in another order"
        return Diagnosis(reason, expected, fix_argument(ctx, "{}.transpose(0, 1)", position=1))
    found = _explain_one_label(ctx, name, y, wanted, 1)
    if found is not None:
        return found
    reason = f"{name} of predictions {write_shape(x.shape)} needs labels {write_shape(wanted)}, got "
    reason += f"{write_shape(y.shape)}"
    if x.rank == 4 and y.rank == 3 and x.shape[0] == y.shape[0] and _is_coarse(x.shape[2:], y.shape[1:]):
        reason += f": the labels are of the image's {write_times(y.shape[1:])} pixels"
        labels = put_in_brackets([*read_arguments(ctx), "", ""][1])
        grown = fix_argument(ctx, f'F.interpolate({{}}, size={labels}.shape[-2:], mode="bilinear")')
        return Diagnosis(reason, expected, grown)
    if y.rank == 1 and x.rank == 2 and (shifted := _explain_shifted(ctx, x, y)) is not None:
        return Diagnosis(f"{reason}{shifted[0]}", expected, shifted[1])
    if (made := explain_made_labels(ctx, x, y, wanted)) is not None:
        return Diagnosis(f"{reason}{made[0]}", expected, made[1])
    folded = fix_argument(ctx, "{}.flatten(0, -2)") if y.rank == 1 and x.rank > 2 else NOTHING
    reason += _compare_steps(ctx, x, y)
    if x.rank == 2 and y.rank > 1 and y.numel == x.shape[0]:  # the steps of the predictions are folded, theirs are not
        folded = fix_argument(ctx, "{}.flatten()", position=1)
    return Diagnosis(reason, expected, folded, RESHAPE)


def _explain_shifted(ctx: FailureContext, x: Operand, y: Operand) -> tuple[str, list[Candidate]] | None:
    """Each step predicts the next, and one of predictions and labels has a step more than the other: words, fixes."""
    batches = {fact.spec.shape[0] for fact in ctx.trace.inputs if len(fact.spec.shape) > 1}
    more = y.shape[0] - x.shape[0]
    batch = next((size for size in batches if size == abs(more) and not x.shape[0] % size), 0)
    texts = read_arguments(ctx)
    if not batch or len(texts) < 2:
        return None
    cut, text = ("[:, 1:]", texts[1]) if more > 0 else ("[:, :-1]", texts[0])
    seen: list[str] = []

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_read = isinstance(node, ast.Name) and re.search(rf"\b{re.escape(node.id)}\b", text) is not None
        if (
            is_read
            and isinstance(around, ast.Attribute)
            and around.attr in ("reshape", "flatten", "view", "contiguous")
        ):
            seen.append(write(node))
            yield f"{write(node)}{cut}"

    fixes = rewrite(ctx, change)
    name, steps = (seen[0] if seen else "the labels"), x.shape[0] // batch
    words = f": {batch} × {steps} against {batch} × {y.shape[0] // batch}, each step is to predict the next of {name}"
    return (words, fixes) if fixes else None


def _is_coarse(sides: tuple[int, ...], pixels: tuple[int, ...]) -> bool:
    """Return whether a map is the smaller one of a whole factor, give or take the rest of a division."""
    factors = {round(pixel / side) if side else 0 for side, pixel in zip(sides, pixels, strict=True)}
    return len(factors) == 1 and min(factors) > 1


def _compare_with_one(operands: list[str]) -> str | None:
    return f"F.binary_cross_entropy_with_logits({operands[0]}, {operands[1]}.float())" if len(operands) == 2 else None


def _explain_one_label(
    ctx: FailureContext, name: str, y: Operand, wanted: tuple[int, ...], position: int
) -> Diagnosis | None:
    """Labels with a dim of one too many."""
    for axis in range(y.rank - 1, -1, -1):
        if y.shape[axis] == 1 and (*y.shape[:axis], *y.shape[axis + 1 :]) == wanted:
            reason = f"{name} takes one label per sample: {write_shape(wanted)}, got {write_shape(y.shape)}"
            fix = fix_argument(ctx, f"{{}}.squeeze({axis})", position=position)
            return Diagnosis(reason, f"labels {write_shape(wanted)}", fix)
    return None


def _explain_binary(ctx: FailureContext, name: str, x: Operand, y: Operand) -> Diagnosis | None:
    if x.shape != y.shape:
        reason = f"{name} compares numbers one to one: {write_shape(x.shape)} against {write_shape(y.shape)}"
        options = []
        for position, (one, other) in ((0, (x, y)), (1, (y, x))):
            for axis in range(one.rank - 1, -1, -1):
                if one.shape[axis] == 1 and (*one.shape[:axis], *one.shape[axis + 1 :]) == other.shape:
                    options.append(fix_argument(ctx, f"{{}}.squeeze({axis})", position=position))
                    options.append(fix_argument(ctx, f"{{}}.unsqueeze({axis})", position=1 - position))
        if x.rank == 2 and y.shape == x.shape[:1] and x.shape[1] > 1:
            return _explain_outputs(ctx, name, x, y)
        if x.rank == y.rank + 1 > 2 and (x.shape[0], *x.shape[2:]) == y.shape:
            options.append(fix_argument(ctx, "{}[:, -1]"))  # of the last step
        if x.rank == y.rank == 2 and x.shape[0] == y.shape[0]:
            options.append(resize_origin(ctx, x, y.shape[1]))
        fixes = [fix for fix in options if fix]
        if not fixes and x.rank == y.rank > 2:
            return None  # two feature maps: see explain_broadcast
        return Diagnosis(reason, "equal shapes", fixes, () if fixes else RESHAPE)
    if y.spec.dtype in (*_INTEGERS, "bool"):
        reason = f"the targets are {y.spec.dtype}: {name} takes probabilities"
        return Diagnosis(reason, f"targets of {x.spec.dtype}", fix_argument(ctx, "{}.float()", position=1))
    return None


def _explain_outputs(ctx: FailureContext, name: str, x: Operand, y: Operand) -> Diagnosis:
    """There are several outputs a sample, and one target."""
    reason = f"{name} compares numbers one to one: {write_shape(x.shape)} against {write_shape(y.shape)}"
    if y.spec.dtype in _INTEGERS:
        reason += f", and a class a sample is {x.shape[1]} numbers as a one-hot vector"
        fix = fix_argument(ctx, f"F.one_hot({{}}, {x.shape[1]}).float()", position=1)
        return Diagnosis(reason, f"targets {write_shape(x.shape)}", fix)
    alike = ("{}.unsqueeze(1)", 1) if name == "gaussian_nll_loss" else ("{}.squeeze(1)", 0)
    one = fix_giver(ctx, x, 1) + fix_argument(ctx, alike[0], position=alike[1])
    return Diagnosis(reason, "one output a sample", one)


def _explain_lengths(ctx: FailureContext, name: str, x: Operand) -> Diagnosis:
    """The lengths of the inputs are as many as there are steps."""
    steps, batch = x.shape[:2]
    reason = f"{name} reads {write_shape(x.shape)} as [steps, batch, classes]: {steps} input lengths for {batch} "
    reason += "samples"
    texts = read_arguments(ctx)
    full = f"torch.full(({texts[0]}.size(1),), {texts[0]}.size(0))" if texts and texts[0].isidentifier() else ""
    fix = fix_argument(ctx, full, position=2) if full else NOTHING
    return Diagnosis(reason, f"{batch} lengths, of at most {steps}", fix)


def _explain_alike(ctx: FailureContext, name: str) -> Diagnosis | None:
    first = ctx.data[0]
    for position, x in enumerate(ctx.data[1:3], 1):
        if name == "triplet_margin_loss" and x.rank == first.rank + 1 and x.shape[:1] == first.shape[:1]:
            reason = f"{name} got {x.shape[1]} vectors for each of {first.shape[0]} anchors: {write_shape(x.shape)}"
            line = change_operation(
                ctx.line, name, lambda items: [*(f"{item}.unsqueeze(1)" for item in items[:2]), *items[2:]]
            )
            return Diagnosis(reason, "3 dims each", fix_line(ctx, line)) if position == 2 else None
        if x.rank == first.rank and x.shape != first.shape:
            reason = f"{name} compares samples one to one: {write_shape(first.shape)} against {write_shape(x.shape)}"
            if x.shape[:-1] != first.shape[:-1]:
                return Diagnosis(reason, "equal shapes", search=RESHAPE)
            fixes = [fix_giver(ctx, x, first.shape[-1]), fix_giver(ctx, first, x.shape[-1])]
            return Diagnosis(reason, "equal shapes", fixes)
    return None


def explain_weights(ctx: FailureContext, x: Operand, axis: int, what: str) -> Diagnosis | None:
    """Explain a loss whose weights are not as many as the classes or labels of its predictions.

    Args:
        x: The predictions.
        axis: Their dim of classes or labels.
        what: ``"class"`` or ``"label"``.
    """
    count = x.shape[axis]
    for weight in _list_weights(ctx):
        given = weight.shape[0]
        if given in (1, count):
            continue
        reason = f"{given} weights for the {count} {what}{'es' if what == 'class' else 's'} of {write_shape(x.shape)}"
        narrower = resize_origin(ctx, x, given) if axis % x.rank == x.rank - 1 else fix_giver(ctx, x, given, axis)
        fixes = [resize_param(ctx, weight, [-1], count), fix_creation(ctx, weight, (count,)), narrower]
        return Diagnosis(f"{reason}: each {what} has one", f"{count} weights", fixes)
    return None


def _list_weights(ctx: FailureContext) -> list[Operand]:
    """List what a loss has one dim of: arguments of its function, or buffers of its module."""
    if ctx.call.kind == "op":
        return [x for x in ctx.operands[2:] if x.rank == 1]
    held = [ctx.trace.params[index] for index in ctx.fact.params] if ctx.fact is not None else []
    found = [fact for fact in held if len(fact.shape) == 1]
    return [Operand(TensorSpec(fact.names[0], fact.shape, fact.dtype, fact.device), None, fact.index) for fact in found]


def explain_made_labels(
    ctx: FailureContext, x: Operand, y: Operand, wanted: tuple[int, ...]
) -> tuple[str, list[Candidate]] | None:
    """Explain labels that the forward makes: words, and fixes; ``None`` if it does not make them.

    Args:
        x, y: Predictions and labels.
        wanted: The shape of labels that fits.
    """
    maker = ctx.flow.producer(y.link)
    if maker is None or maker.type_name not in SIZED_FACTORIES or y.rank != len(wanted):
        return None
    texts = [*read_arguments(ctx), "", ""]
    if maker.type_name == "arange" and x.rank == 2 and x.shape == (2 * y.shape[0],) * 2:
        labels, count = texts[1], y.shape[0]
        words = f": of two views each sample's label is its other view, {count} further on or {count} before"
        pair = f"torch.cat([{labels} + {labels}.size(0), {labels}])"
        return words, [fix_argument(ctx, pair, position=1)] if labels.isidentifier() else []
    name = find_name(texts[0])
    names = {axis: f"{name}.size({axis + (axis > 0)})" for axis in range(y.rank)} if name else {}
    return f": {maker.type_name}() makes {y.shape[0]}", [fix_creation(ctx, y, wanted, names)]
