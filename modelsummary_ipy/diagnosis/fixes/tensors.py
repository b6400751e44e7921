"""What can be done with a failing line at all: each tensor that it passes on gets, loses, moves or folds a dim."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.context import FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import drop_step, list_moves
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, fix_giver, place_line, read_line
from modelsummary_ipy.diagnosis.failures.parameters import resize_origin
from modelsummary_ipy.diagnosis.failures.rewriting import find_own_call
from modelsummary_ipy.diagnosis.formatting import write_move
from modelsummary_ipy.diagnosis.torch_names import CATS
from modelsummary_ipy.records.fixes import Candidate


def list_undone(ctx: FailureContext) -> Iterator[Candidate]:
    """List what is left of the failing line, or of one before, without a step that moved or made dims."""
    for x in ctx.data[:3]:
        for call, before in list_moves(ctx, x):
            if before != x.shape:
                line = drop_step(read_line(ctx, call.source), call.type_name)
                yield replace(place_line(ctx, call, line), rank=1)


def list_line_changes(ctx: FailureContext) -> Iterator[Candidate]:
    """List changes of what the failing line passes on, the smallest first; before them other widths of its makers."""
    yield from _list_widths(ctx)
    caller = _find_callers_view(ctx)
    if caller is None:
        return
    yield from _list_changes(caller, 2)


def list_earlier_changes(ctx: FailureContext) -> Iterator[Candidate]:
    """List changes of the lines that made what the failing line passes on, in the same function."""
    caller = _find_callers_view(ctx)
    if caller is None or ctx.failure.source is None:
        return
    seen = {ctx.failure.source.line}
    makers = [maker for x in caller.operands[:4] for maker in ctx.flow.walk_back(x.link, _MOST_LINES)]
    for maker in sorted(makers, key=lambda call: -call.index):  # the nearest line first
        source = maker.source
        if source is None or source.filename != ctx.failure.source.filename or source.line in seen:
            continue
        if source.function != ctx.failure.source.function or ctx.read(source) == ctx.statement:
            continue
        seen.add(source.line)
        for made in filter(None, _list_changes(ctx.at_line_of(maker), EARLIER)):
            yield replace(made, text=f"at {source.text}: {made.text}")


def _list_widths(ctx: FailureContext) -> Iterator[Candidate]:
    """List layers and parameters that give one dim another size, where two tensors differ in that dim alone."""
    for x, other in itertools.permutations(ctx.operands[2::-1], 2):
        rank = x.rank if x.rank == other.rank else 0
        differ = [axis - rank for axis in range(rank) if x.shape[axis] != other.shape[axis]]
        if len(differ) == 1 and differ[0] > -x.rank:
            size = other.shape[differ[0]]
            made = resize_origin(ctx, x, size) if differ == [-1] else fix_giver(ctx, x, size, differ[0])
            yield replace(made, rank=2)


#: The rank of a change of an earlier line.
EARLIER = 40
#: So many lines that made a tensor are changed.
_MOST_LINES = 3


def _list_changes(caller: FailureContext, least: int) -> Iterator[Candidate]:
    operands = caller.operands
    with_dtypes = any(word in caller.failure.message for word in _OF_DTYPES)
    integers = any(word in caller.failure.message for word in _OF_INTEGERS)
    options = [
        list(_list_templates(x, operands, with_dtypes=with_dtypes, wants_integers=integers)) for x in operands[:4]
    ]
    for x, texts in zip(operands[:4], options, strict=True):
        if x.rank > 1 and fix_giver(caller, x, x.shape[-1] + 1):  # features, which are not cut off
            cut = "[" + ":, " * (x.rank - 1) + ":{"
            texts[:] = [text for text in texts if cut not in text]
    alike = len({x.rank for x in operands}) == 1  # the rank is right then
    if caller.function == "einsum" or (caller.function in (*CATS, *_OF_ONE_RANK) and alike):
        options = [[text for text in row if ".transpose(" in text or ".permute(" in text] for row in options]
    for rank, row in enumerate(itertools.zip_longest(*options)):
        for position, template in enumerate(row):
            if template is not None:
                made = fix_argument(caller, template, position=position)
                if made:
                    yield replace(made, rank=least + rank)


def _find_callers_view(ctx: FailureContext) -> FailureContext | None:
    """Return the failure as the user's line sees it: of what fails inside a layer, or a package, that layer's call."""
    if ctx.is_in_package:
        return ctx.at_line_of(find_own_call(ctx))
    chain = (ctx.call, *ctx.flow.around(ctx.call))
    call = next((call for call in chain if call.source == ctx.failure.source), chain[-1])
    return replace(ctx, call=call) if call.source is not None and ctx.statement is not None else None


#: Each of their operands has as many dims.
_OF_ONE_RANK = ("bmm", "grid_sample", "grid_sampler")
_OF_INTEGERS = ("Long", "Int", "int")
_OF_DTYPES = ("dtype", "type", "Long", "Int", "int", "Float", "float", "Byte", "Bool")


def _list_templates(
    x: Operand, operands: tuple[Operand, ...], *, with_dtypes: bool, wants_integers: bool
) -> Iterator[str]:
    """List what may become of one tensor: ``"{}.unsqueeze(1)"``."""
    rank = x.rank
    if rank > 1 and x.shape[0] == 1:
        yield "{}[0]"
    yield from (f"{{}}.squeeze({axis})" for axis in range(1, rank) if x.shape[axis] == 1)
    if rank > 2:
        yield "{}.flatten(1)"
    if rank > 3:
        yield "{}.flatten(2)"
    if rank == 3:
        yield from (write_move(3, *move) for move in ((1, 2), (2, 0), (0, 2)))  # the order of the others stays
    if rank > 3:  # as for three, and before two dims change places
        yield from (
            write_move(rank, *move) for axis in range(1, rank - 2) for move in ((rank - 1, axis), (axis, rank - 1))
        )
    pairs = sorted(itertools.combinations(range(rank), 2), key=lambda pair: (0 in pair, -pair[1], -pair[0]))
    swaps = pairs[1:] if rank == 3 else pairs[:6]
    yield from (f"{{}}.transpose({one}, {other})" for one, other in swaps)
    yield from (f"{{}}.unsqueeze({axis})" for axis in [*range(1, rank + 1), 0] if rank < 5)
    if rank > 3:
        yield "{}.flatten(2).transpose(1, 2)"
        yield "{}.mean((2, 3))"
    if rank > 2:
        yield "{}[:, -1]"
        yield "{}.flatten(0, 1)"
    if with_dtypes:
        if x.spec.dtype != "float32":
            yield "{}.float()"
        elif wants_integers:  # they lose all behind the point
            yield "{}.long()"
    for index, other in enumerate(operands):
        if other is not x and other.rank == rank:
            differ = [axis for axis in range(rank) if other.shape[axis] not in (1, x.shape[axis])]
            if differ and all(other.shape[axis] < x.shape[axis] for axis in differ):
                cuts = [f":{{{index}}}.size({axis})" if axis in differ else ":" for axis in range(differ[-1] + 1)]
                yield f"{{}}[{', '.join(cuts)}]"
