"""Slips of the pen in the lines that led to a failure: another name, dim, order or number than was meant."""

from __future__ import annotations

import ast
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import remake
from modelsummary_ipy.diagnosis.failures.rewriting import (
    change_alike,
    find_own_call,
    rewrite,
    write_statement,
)
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.failures.statements import (
    find_function,
    walk_function,
)
from modelsummary_ipy.diagnosis.fixes import dim_edits, list_edits, names, number_edits, orders
from modelsummary_ipy.diagnosis.torch_names import CATS, ELEMENTWISE, LOSSES, POOLS, SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Source

#: The rank of a slip in the failing function; of those around it, and before it, 10 more each.
SLIPS = 60
#: So many of each kind are tried of one statement.
_MOST_OF_A_KIND = 8
#: So many calls around the one that failed have their own lines looked at.
_MOST_CALLERS = 2
#: So many steps back what made its tensors is looked at, and so many functions in all.
_MOST_MAKERS = 6
_MOST_STEPS_BACK = 20
_MOST_VIEWS = 4
_PRODUCTS = ("bmm", "matmul")
_ALONG = ("glu", "chunk", "split", "tensor_split", "repeat_interleave")


def list_slips(ctx: FailureContext) -> Iterator[Candidate]:
    """List changes of one word of the user's lines that led to a failure, the likeliest first."""
    for depth, at in enumerate(_list_views(ctx)):
        joins = () if ctx.function in (*CATS, "stack") else (list_edits.join_otherwise,)
        changes = (
            *joins,
            dim_edits.take_dims,
            dim_edits.move_otherwise,
            dim_edits.turn_values,
            orders.move_last,
            orders.fill_list(at),
            dim_edits.move_ones,
            number_edits.take_keywords(at),
            list_edits.take_other_part,
            number_edits.take_numbers(at),
            number_edits.drop_step,
            number_edits.stride_index(at),
            list_edits.permute_parts,
            list_edits.shift_steps(at),
        )
        others = (_add_alike(at, rewrite(at, change, alone=True)) for change in changes)
        kinds = (names.take_names(at, names.LIKELY), *others, names.take_names(at, names.AS_PATTERN))
        for kind, candidates in enumerate(kinds):
            lines: Counter[object] = Counter()
            for candidate in candidates:
                place = candidate.edits[0][:2]
                lines[place] += 1
                if lines[place] <= _MOST_OF_A_KIND:
                    yield replace(candidate, rank=SLIPS + 10 * depth + kind)


def _add_alike(ctx: FailureContext, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Change a line together with those that are written alike, then alone."""
    for candidate in candidates:
        yield from dict.fromkeys((change_alike(ctx, candidate), candidate))


def list_exact(ctx: FailureContext) -> Iterator[Candidate]:
    """List slips that are no chance where they leave just the size that is wanted: they are tried before all else.

    A tensor that was made and that nothing reads; a second name for the same tensor; the sizes of a table the other
    way round; another order of dims that are then folded into the features of a layer; another dim that is halved or
    repeated, or that the largest or the mean is taken along; how far a signal is padded, the width first; the size of
    another tensor that a map is enlarged to; steps that are read where samples are first.
    """
    if ctx.statement is None or ctx.is_in_package:
        return
    found = [*names.take_names(ctx, names.UNREAD), *rewrite(ctx, dim_edits.turn_names, alone=True), *_swap_sizes(ctx)]
    if ctx.function not in ("matmul", "mm"):  # of one that fails, what it is for is not known
        found += rewrite(ctx, dim_edits.turn_product, alone=True)
    if ctx.function in ("reshape", "view"):
        found += rewrite(ctx, number_edits.take_numbers(ctx), alone=True)
    found += rewrite(ctx, dim_edits.give_dim, alone=True)
    if ctx.function in CATS or ctx.function == "add":
        found += rewrite(ctx, list_edits.turn_skips(ctx), alone=True)
        found += names.take_names(ctx, names.LIKELY)
    if ctx.function in CATS or ctx.function in ELEMENTWISE:
        found += rewrite(ctx, orders.turn_sides(ctx), alone=True)
        found += rewrite(ctx, orders.exchange(ctx), alone=True)
        found += rewrite(ctx, orders.take_states(ctx), alone=True)
    if ctx.function in _PRODUCTS:
        found += rewrite(ctx, orders.turn_around, here=True, alone=True)
    found += names.take_layers(ctx)
    found += names.call_unread(ctx)
    is_compared = ctx.function in ELEMENTWISE or ctx.function in LOSSES  # what it fits there is by chance
    found += names.take_names(ctx, names.FITTING) if not is_compared or ctx.function == "add" else []
    found += names.exchange_names(ctx) if not is_compared else []
    for at in itertools.islice(_list_views(ctx), 2):
        is_module = find_own_call(at).kind == "module"
        found += rewrite(at, orders.exchange(at), here=True, alone=True) if is_module else []
    is_folded = ctx.function.startswith("conv")
    for call in [call for x in ctx.operands[:2] for call in ctx.flow.walk_back(x.link, _MOST_MAKERS)]:
        is_folded |= call.type_name in ("flatten", "reshape", "view")
        if call.type_name == "permute" and is_folded:
            found += rewrite(ctx.at_line_of(call), dim_edits.move_otherwise, here=True, alone=True)
        elif call.type_name == "getitem" and len(call.inputs) == 2:
            found += rewrite(ctx.at_line_of(call), list_edits.take_other_part, here=True, alone=True)
        elif call.type_name in CATS and ctx.function.startswith(("conv", "linear")):
            found += rewrite(ctx.at_line_of(call), list_edits.turn_skips(ctx.at_line_of(call)), alone=True)
        elif call.type_name in (*CATS, "stack") and ctx.function in (*ELEMENTWISE, *_PRODUCTS):
            found += rewrite(ctx.at_line_of(call), list_edits.join_otherwise, here=True, alone=True)
        elif call.type_name in ("pad", "constant_pad_nd"):
            found += rewrite(ctx.at_line_of(call), number_edits.drop_step, here=True, alone=True)
            found += rewrite(ctx.at_line_of(call), dim_edits.turn_pairs, here=True, alone=True)
        elif call.type_name in ("view", "reshape"):
            at = ctx.at_line_of(call)
            found += rewrite(at, orders.swap_sizes(call), here=True, alone=True)
            found += rewrite(at, number_edits.take_wanted(ctx), here=True, alone=True)
            found += rewrite(at, orders.take_own_size(at), here=True, alone=True)
        elif call.type_name == "repeat" and len(call.outputs[0].shape) > len(call.inputs[0].shape) > 1:
            found += rewrite(ctx.at_line_of(call), orders.repeat_behind_first, here=True, alone=True)
        elif call.type_name in POOLS and len(call.inputs[0].shape) == 3:
            found += rewrite(ctx.at_line_of(call), orders.turn_around, here=True, alone=True)
        elif call.type_name in (*_ALONG, *dim_edits.REDUCTIONS):
            if ctx.function in ELEMENTWISE and len({x.rank for x in ctx.operands}) > 1:
                found += rewrite(ctx.at_line_of(call), orders.keep_dim, here=True, alone=True)
            found += rewrite(ctx.at_line_of(call), dim_edits.take_dims, here=True, alone=True)
        elif (fact := ctx.flow.module_of(call)) is not None and type(fact.settings.get("dim")) is int:
            dims = [dim for dim in (1, 2, -1, -2) if dim != fact.settings["dim"] and -len(call.inputs[0].shape) <= dim]
            found += [remake(ctx, fact, dim=dim) for dim in dims]
        elif call.type_name == "interpolate":
            found += rewrite(ctx.at_line_of(call), orders.exchange(ctx), here=True, alone=True)
            found += names.take_names(ctx.at_line_of(call), names.AS_PATTERN)
    before = [itertools.islice(ctx.flow.before(x.link), _MOST_STEPS_BACK) for x in ctx.operands[:2]]
    for call in {call.index: call for calls in before for call in calls}.values():
        if call.type_name in SIZED_FACTORIES:
            found += rewrite(ctx.at_line_of(call), number_edits.take_numbers(ctx.at_line_of(call)), alone=True)
            for source in call.lines[1:]:
                at = replace(ctx, failure=replace(ctx.failure, source=source, source_text=""), call=call)
                found += rewrite(at, orders.take_sides(at), here=True, alone=True)
    found += [_index_steps(ctx, source) for source in _list_lines(ctx)]
    yield from (replace(candidate, rank=-1) for candidate in found)


def _list_views(ctx: FailureContext) -> Iterator[FailureContext]:
    """List a failure as its own function sees it, as those do that called it, and those that made what it read."""
    makers = (call for x in ctx.operands[:2] for call in ctx.flow.walk_back(x.link, _MOST_MAKERS))
    seen: set[object] = set()
    for call in (None, *itertools.islice(ctx.flow.around(ctx.call), _MOST_CALLERS + 1), *makers):
        at = ctx if call is None else ctx.at_line_of(call)
        function = find_function(at.failure.source)
        if function is None or function in seen or at.statement is None or at.is_in_package:
            continue
        if len(seen) == _MOST_VIEWS:
            break
        seen.add(function)
        yield at


def _swap_sizes(ctx: FailureContext) -> Iterator[Candidate]:
    """Make a table whose sizes were given in the wrong order: ``nn.Embedding(512, 64)`` for ``(64, 512)``."""
    for x, other in itertools.permutations(ctx.operands[:2], 2):
        made = ctx.flow.walk_back(x.link, 2)
        for index in (x.param, *(param for call in made for param in call.input_params)):
            names = ctx.trace.params[index].names if index is not None else ()
            fact = find_module(ctx.trace, names[0].rpartition(".")[0]) if names else None
            if fact is not None and fact.type_name == "Embedding":
                rows, width = fact.settings["num_embeddings"], fact.settings["embedding_dim"]
                if rows != width and rows in other.shape[-1:]:
                    yield remake(ctx, fact, num_embeddings=width, embedding_dim=rows)


# -- dims -------------------------------------------------------------------------------------------------------------


def _list_lines(ctx: FailureContext) -> list[Source]:
    """List the failing line and those that called its function, as operations of the function before it know them."""
    here = ctx.failure.source
    if here is None:
        return []
    beside = (call.lines for call in reversed(ctx.trace.calls[: ctx.call.index]) if call.parent == ctx.call.parent)
    lines = next((at for at in beside if at and at[0][2:] == here[2:]), ())
    made = [call.source for x in ctx.operands[:2] if ctx.function in CATS for call in ctx.flow.walk_back(x.link, 4)]
    return [here, *(ctx.call.lines or lines), *(source for source in made if source is not None)]


def _index_steps(ctx: FailureContext, source: Source) -> Candidate:
    """Read a step of every sample, in all places of a loop over steps: ``x[:, t]`` for ``x[t]``."""
    ctx = replace(ctx, failure=replace(ctx.failure, source=source, source_text=""))
    loops = [
        node
        for node in walk_function(ctx.failure.source)
        if isinstance(node, ast.For) and ctx.statement is not None and _spans(node, ctx.statement.first)
    ]
    held = ctx.failure.names
    loop = loops[-1] if loops else None
    counted = (
        loop.target.elts[0]
        if loop is not None and isinstance(loop.target, ast.Tuple)
        else getattr(loop, "target", None)
    )
    if loop is None or not isinstance(counted, ast.Name):
        return Candidate()
    index = counted.id
    made = Candidate()
    for node in loop.body:
        names = {
            item.value.id for item in ast.walk(node)
            if isinstance(item, ast.Subscript) and isinstance(item.value, ast.Name)
            and isinstance(item.slice, ast.Name) and item.slice.id == index and isinstance(item.ctx, ast.Load)
            and (item.value.id not in held or held[item.value.id].kind == "Tensor")
        }  # fmt: skip
        statement = ctx.read_at(node.lineno) if names else None
        if statement is not None:
            line = re.sub(rf"\b({'|'.join(sorted(names))})\[{index}\]", rf"\1[:, {index}]", statement.text)
            one = write_statement(ctx, statement, line)
            made = made + one if made else one
    return made


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
