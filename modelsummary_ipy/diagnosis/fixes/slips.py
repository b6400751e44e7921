"""Slips of the pen in the lines that led to a failure: another name, dim, order or number than was meant."""

from __future__ import annotations

import ast
import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import remake
from modelsummary_ipy.diagnosis.failures.rewriting import Write, change_alike, list_statements, rewrite, write_statement
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, read_name
from modelsummary_ipy.diagnosis.failures.statements import (
    drop_remark,
    find_function,
    find_parameters,
    list_read,
    list_stored,
    read_statement,
    walk_function,
)
from modelsummary_ipy.diagnosis.fixes import dim_edits, list_edits, number_edits, orders
from modelsummary_ipy.diagnosis.torch_names import CATS, ELEMENTWISE, POOLS, SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate, LineEdit
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
        kinds = (_take_names(at, _LIKELY), *others, _take_names(at, _AS_PATTERN))
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
    found = [*_take_names(ctx, _UNREAD), *rewrite(ctx, dim_edits.turn_names, alone=True), *_swap_sizes(ctx)]
    if ctx.function not in ("matmul", "mm"):  # of one that fails, what it is for is not known
        found += rewrite(ctx, dim_edits.turn_product, alone=True)
    if ctx.function in ("reshape", "view"):
        found += rewrite(ctx, number_edits.take_numbers(ctx), alone=True)
    found += rewrite(ctx, dim_edits.give_dim, alone=True)
    if ctx.function in CATS or ctx.function == "add":
        found += rewrite(ctx, list_edits.turn_skips(ctx), alone=True)
        found += _take_names(ctx, _LIKELY)
    if ctx.function in CATS or ctx.function in ELEMENTWISE:
        found += rewrite(ctx, orders.turn_sides(ctx), alone=True)
        found += rewrite(ctx, orders.take_states(ctx), alone=True)
    if ctx.function in _PRODUCTS:
        found += rewrite(ctx, orders.turn_around, here=True, alone=True)
    found += _take_layers(ctx)
    for at in itertools.islice(_list_views(ctx), 2):
        found += rewrite(at, orders.swap_arguments, here=True, alone=True) if at.call.kind == "module" else []
    is_folded = ctx.function.startswith("conv")
    for call in [call for x in ctx.operands[:2] for call in ctx.flow.walk_back(x.link, _MOST_MAKERS)]:
        is_folded |= call.type_name in ("flatten", "reshape", "view")
        if call.type_name == "permute" and is_folded:
            found += rewrite(ctx.at_line_of(call), dim_edits.move_otherwise, here=True, alone=True)
        elif call.type_name == "getitem" and len(call.inputs) == 2:
            found += rewrite(ctx.at_line_of(call), list_edits.take_other_part, here=True, alone=True)
        elif call.type_name in CATS and ctx.function.startswith("conv"):
            found += rewrite(ctx.at_line_of(call), list_edits.turn_skips(ctx.at_line_of(call)), alone=True)
        elif call.type_name in ("pad", "constant_pad_nd"):
            found += rewrite(ctx.at_line_of(call), number_edits.drop_step, here=True, alone=True)
            found += rewrite(ctx.at_line_of(call), dim_edits.turn_pairs, here=True, alone=True)
        elif call.type_name in ("view", "reshape"):
            at = ctx.at_line_of(call)
            found += rewrite(at, orders.swap_sizes(call), here=True, alone=True)
            found += rewrite(at, orders.take_own_size(at), here=True, alone=True)
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
            found += rewrite(ctx.at_line_of(call), dim_edits.turn_size, here=True, alone=True)
            found += _take_names(ctx.at_line_of(call), _AS_PATTERN)
    for call in itertools.islice(ctx.flow.before(ctx.operands[0].link if ctx.operands else None), _MOST_STEPS_BACK):
        if call.type_name in SIZED_FACTORIES:
            found += rewrite(ctx.at_line_of(call), number_edits.take_numbers(ctx.at_line_of(call)), alone=True)
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


# -- names ------------------------------------------------------------------------------------------------------------


#: Which other names are read: those that nothing reads; these and those that are alike; any, to make a tensor like it.
_UNREAD, _LIKELY, _AS_PATTERN = range(3)


def _take_names(ctx: FailureContext, which: int) -> Iterator[Candidate]:
    """List statements that read another tensor of the function: of those that ``which`` says."""
    born: dict[str, int] = dict.fromkeys(find_parameters(ctx.failure.source), 0)
    for node in sorted(list_stored(ctx.failure.source), key=lambda node: node.lineno):
        born.setdefault(node.id, node.lineno)
    known = ctx.failure.names
    tensors = [name for name in reversed(born) if (name not in known or known[name].kind == "Tensor") and name != "_"]
    read = list_read(ctx.failure.source)
    made = [node.targets for node in walk_function(ctx.failure.source) if isinstance(node, ast.Assign)]
    alone = {ast.unparse(targets[0]) for targets in made if len(targets) == 1}  # no second state of an LSTM

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load) or node.id not in tensors:
            return ()
        is_pattern = isinstance(around, ast.Call) and read_name(around.func).endswith(("_like", "_as"))
        is_pattern |= isinstance(around, ast.Attribute) and around.attr in ("shape", "size")
        if isinstance(around, ast.Call) and around.func is node:
            return ()
        others = [name for name in tensors if name != node.id]
        unread = [name for name in others if name not in read and (which != _UNREAD or name in alone)]
        if which == _UNREAD or read.count(node.id) == 1:  # nothing would read the old one then
            return unread if which != _AS_PATTERN else ()
        likely = [*unread, *(name for name in others if _hide_digits(name) == _hide_digits(node.id))]
        if which == _LIKELY:
            return likely
        return [name for name in others if name not in likely] if is_pattern else ()

    for candidate in rewrite(ctx, change, alone=True):
        edit = candidate.edits[0]
        if isinstance(edit, LineEdit):
            names = [node.id for node in find_nodes(edit.text, ast.Name) if isinstance(node.ctx, ast.Load)]
            there = read_statement(Source("", edit.first, "", edit.filename))
            taken = [node.id for node in find_nodes(there.text if there is not None else "", ast.Name)]
            new = [name for name in dict.fromkeys(names) if name not in taken]  # no x + x
            if new and all(born.get(name, 0) < edit.first for name in names):
                yield candidate


def _hide_digits(name: str) -> str:
    """Write a name so that those of its kind are written alike: ``"x#_#"`` for ``"x1_0"``."""
    return re.sub(r"\d", "#", name)


def _take_layers(ctx: FailureContext) -> Iterator[Candidate]:
    """Call layers of the model that its forward does not read, for those of their class that it reads twice."""
    owner = ctx.flow.module_of(ctx.parent) if ctx.call.path else ctx.fact
    if owner is None or owner.reads is None:
        return
    facts = [ctx.trace.modules[index] for index in owner.children]
    kinds = {fact.path.rpartition(".")[2]: fact.type_name for fact in facts}
    unread = [name for name in kinds if name not in owner.reads]
    for statement in list_statements(ctx) if unread else ():
        nodes = [node for node in find_nodes(statement.text, ast.Attribute) if ast.unparse(node.value) == "self"]
        read = dict.fromkeys(node.attr for node in nodes if node.attr in kinds)
        new = {
            old: difflib.get_close_matches(old, [name for name in unread if kinds[name] == kinds[old]], 1, 0.5)
            for old in read
        }  # fmt: skip
        line = drop_remark(statement.text)
        for old, names in new.items():
            line = re.sub(rf"\bself\.{old}\b", f"self.{names[0]}", line) if names else line
        yield write_statement(ctx, statement, line)


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
