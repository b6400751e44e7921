"""Slips of the pen in the lines that led to a failure: another name, dim, order or number than was meant."""

from __future__ import annotations

import ast
import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_operand, remake
from modelsummary_ipy.diagnosis.failures.rewriting import Change, Write, rewrite, write_statement
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, read_name
from modelsummary_ipy.diagnosis.failures.statements import find_function, find_parameters, list_stored, read_statement
from modelsummary_ipy.diagnosis.torch_names import CATS
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
#: What runs along one dim, by the place of the dim among a method's arguments.
_FIRST = ("sum", "mean", "max", "min", "amax", "amin", "prod", "std", "var", "argmax", "softmax", "log_softmax",
          "size", "logsumexp", "cumsum", "unbind", "unsqueeze", "squeeze", "select", "narrow", "index_select",
          "gather")  # fmt: skip
#: The first of them leave one number of all along the dim.
_NUM_REDUCTIONS = 9
_ALONG = ("glu", "chunk", "split", "tensor_split", "repeat_interleave")
_SECOND = ("chunk", "split", "repeat_interleave", "topk", "norm", "cat", "concat", "stack")
_NAMESPACES = ("torch", "F", "functional", "linalg")


def list_slips(ctx: FailureContext) -> Iterator[Candidate]:
    """List changes of one word of the user's lines that led to a failure, the likeliest first."""
    for depth, at in enumerate(_list_views(ctx)):
        joins = () if ctx.function in (*CATS, "stack") else (_join_otherwise,)
        changes = (
            *joins,
            _take_dims,
            _move_otherwise,
            _take_keywords(at),
            _take_other_part,
            _take_numbers(at),
            _drop_step,
            _stride_index(at),
        )
        others = (rewrite(at, change, alone=True) for change in changes)
        kinds = (_take_names(at, _LIKELY), *others, _take_names(at, _AS_PATTERN))
        for kind, candidates in enumerate(kinds):
            lines: Counter[object] = Counter()
            for candidate in candidates:
                place = candidate.edits[0][:2]
                lines[place] += 1
                if lines[place] <= _MOST_OF_A_KIND:
                    yield replace(candidate, rank=SLIPS + 10 * depth + kind)


def list_exact(ctx: FailureContext) -> Iterator[Candidate]:
    """List slips that are no chance where they leave just the size that is wanted: they are tried before all else.

    A tensor that was made and that nothing reads; a second name for the same tensor; the sizes of a table the other
    way round; another order of dims that are then folded into the features of a layer; another dim that is halved or
    repeated, or that the largest or the mean is taken along; how far a signal is padded, the width first; the size of
    another tensor that a map is enlarged to; steps that are read where samples are first.
    """
    if ctx.statement is None or ctx.is_in_package:
        return
    found = [*_take_names(ctx, _UNREAD), *rewrite(ctx, _turn_names, alone=True), *_swap_sizes(ctx)]
    if ctx.function not in ("matmul", "mm"):  # of one that fails, what it is for is not known
        found += rewrite(ctx, _turn_product, alone=True)
    if ctx.function in ("reshape", "view"):
        found += rewrite(ctx, _take_numbers(ctx), alone=True)
    found += _undo_pairs(ctx)
    if ctx.function in CATS or ctx.function == "add":
        found += rewrite(ctx, _turn_skips(ctx), alone=True)
    for at in itertools.islice(_list_views(ctx), 2):
        found += rewrite(at, _swap_arguments, here=True, alone=True) if at.call.kind == "module" else []
    is_folded = ctx.function.startswith("conv")
    for call in [call for x in ctx.operands[:2] for call in ctx.flow.walk_back(x.link, _MOST_MAKERS)]:
        is_folded |= call.type_name in ("flatten", "reshape", "view")
        if call.type_name == "permute" and is_folded:
            found += rewrite(ctx.at_line_of(call), _move_otherwise, here=True, alone=True)
        elif call.type_name in ("pad", "constant_pad_nd"):
            found += rewrite(ctx.at_line_of(call), _drop_step, here=True, alone=True)
            found += rewrite(ctx.at_line_of(call), _turn_pairs, here=True, alone=True)
        elif call.type_name in _ALONG or call.type_name in _FIRST[:_NUM_REDUCTIONS]:
            found += rewrite(ctx.at_line_of(call), _take_dims, here=True, alone=True)
        elif call.type_name == "interpolate":
            found += rewrite(ctx.at_line_of(call), _turn_size, here=True, alone=True)
            found += _take_names(ctx.at_line_of(call), _AS_PATTERN)
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


def _undo_pairs(ctx: FailureContext) -> Iterator[Candidate]:
    """Add a dim where samples were laid on another's dim of one, and paired each with each: (B, T) on (B, 1, T)."""
    for x in ctx.operands[:3]:
        if x.rank < 2 or x.shape[0] != x.shape[1] or x.shape[0] < 2:
            continue
        for call in ctx.flow.walk_back(x.link, _MOST_STEPS_BACK):
            shapes = [spec.shape for spec in call.inputs]
            one = next((shape for shape in shapes if shape[:2] == (x.shape[0], 1)), ())
            places = [at for at, shape in enumerate(shapes) if shape[:1] == x.shape[:1] and len(shape) == len(one) - 1]
            made = call.outputs[0].shape if call.outputs else ()
            if one and places and made[:2] == x.shape[:2]:
                yield fix_operand(ctx.at_line_of(call), places[0], "{}.unsqueeze(1)")
                return


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
    read = [node.id for node in _walk(ctx) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    made = [node.targets for node in _walk(ctx) if isinstance(node, ast.Assign)]
    alone = {ast.unparse(targets[0]) for targets in made if len(targets) == 1}  # no second state of an LSTM

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        del write
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


def _take_keywords(ctx: FailureContext) -> Change:
    """Give an argument as more calls of the function have it: ``n=2 * L`` to ``rfft`` where another has that."""
    calls = [node for node in _walk(ctx) if isinstance(node, ast.Call)]
    words = [word for call in calls for word in call.keywords if word.arg]
    counts = Counter((word.arg, ast.unparse(word.value)) for word in words)

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call):  # it does not have the argument at all
            own = {word.arg for word in node.keywords}
            beside = [call for call in calls if read_name(call.func) == read_name(node.func)]
            texts = {f"{word.arg}={ast.unparse(word.value)}" for call in beside for word in call.keywords}
            new = [text for text in sorted(texts) if text.partition("=")[0] not in own]
            yield from (f"{write(node)[:-1]}, {text})" for text in new if node.args)
        if isinstance(around, ast.keyword) and around.value is node and isinstance(node, ast.expr):
            old = ast.unparse(node)
            for (name, text), count in counts.most_common():
                if name == around.arg and text != old and count > counts[name, old]:
                    yield text

    return change


def _take_numbers(ctx: FailureContext) -> Change:
    """Read another number: ``W`` for ``H``, ``self.out_channels`` for ``self.in_channels``."""
    owner = ctx.flow.module_of(ctx.parent) if ctx.call.kind == "op" else None
    settings = owner.settings if owner is not None else {}
    numbers = {name: held.words[0] for name, held in ctx.failure.names.items() if held.kind == "int"}
    numbers |= {f"self.{name}": repr(value) for name, value in settings.items() if type(value) is int}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        del around
        name = write(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""
        if name not in numbers or isinstance(getattr(node, "ctx", None), ast.Store):
            return ()
        others = [other for other, value in numbers.items() if value != numbers[name]]
        if name in _SIDES:
            return [_SIDES[name]] if _SIDES[name] in others else ()
        alike = [other for other in others if ("." in other) == ("." in name)]
        return difflib.get_close_matches(name, alike, 3, 0.6)

    return change


_SIDES = {"H": "W", "W": "H", "h": "w", "w": "h"}


def _walk(ctx: FailureContext) -> Sequence[ast.AST]:
    function = find_function(ctx.failure.source)
    return list(ast.walk(function)) if function is not None else ()


# -- dims -------------------------------------------------------------------------------------------------------------


def _take_dims(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Run along another dim: ``scores.max(dim=2)`` for ``scores.max(dim=1)``."""
    del write
    if isinstance(around, ast.keyword):
        is_dim = around.arg in ("dim", "axis") and around.value is node
    else:
        is_dim = isinstance(around, ast.Call) and _read_dim(around) is node
    number = _read_number(node) if is_dim and isinstance(node, ast.expr) else None
    if number is not None:
        yield from (str(dim) for dim in ((1, 2, 3, 0) if number >= 0 else (-2, -1, 1, -3)) if dim != number)


def _read_dim(call: ast.Call) -> ast.expr | None:
    """Return the dim that a call runs along where it is given by position."""
    name, func = read_name(call.func), call.func
    is_method = isinstance(func, ast.Attribute) and read_name(func.value) not in _NAMESPACES
    place = (1 if name in _SECOND else 0) + (not is_method and name not in _SECOND)
    return call.args[place] if name in (*_FIRST, *_SECOND) and place < len(call.args) else None


def _read_number(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None


def _join_otherwise(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Stack what was put behind one another, and the other way round."""
    del around
    if isinstance(node, ast.Attribute) and node.attr in ("cat", "stack"):
        yield f"{write(node.value)}.{'stack' if node.attr == 'cat' else 'cat'}"


def _move_otherwise(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Bring dims into another order, with the batch where it was brought to: ``permute(3, 0, 1, 2)``."""
    del around
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    numbers = [_read_number(item) for item in node.args]
    if node.func.attr == "permute" and 2 < len(numbers) < 5 and None not in numbers:
        orders = [order for order in itertools.permutations(range(len(numbers))) if list(order) != numbers]
        kept = [order for order in orders if 0 in numbers and order.index(0) == numbers.index(0)]
        yield from (f"{write(node.func)}({', '.join(map(str, order))})" for order in kept)
    elif node.func.attr == "permute" and len(numbers) == 5:  # of so many, two side by side: heads and steps
        for at in range(4):
            order = [*numbers[:at], numbers[at + 1], numbers[at], *numbers[at + 2 :]]
            yield f"{write(node.func)}({', '.join(map(str, order))})"
    elif node.func.attr in ("transpose", "swapaxes") and len(numbers) == 2:
        pairs = [pair for pair in ((1, 2), (2, 3), (1, 3), (0, 1)) if set(pair) != set(numbers)]
        yield from (f"{write(node.func)}({one}, {other})" for one, other in pairs)


def _turn_names(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Turn what a line only gives another name: ``st = s.transpose(1, 2)``."""
    if isinstance(around, ast.Assign) and around.value is node and isinstance(node, ast.Name):
        yield f"{write(node)}.transpose(-2, -1)"


def _turn_product(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Turn the other factor: ``z.T @ w`` for ``z @ w.T``."""
    del around
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        right, left = _read_turned(node.right), _read_turned(node.left)
        if right is not None and left is None:
            yield f"{write(node.left)}.T @ {write(right)}"
        elif left is not None and right is None:
            yield f"{write(left)} @ {write(node.right)}.T"


def _read_turned(node: ast.expr) -> ast.expr | None:
    """Return what an expression turns: ``z`` of ``z.T`` and ``z.t()``."""
    called = node.func if isinstance(node, ast.Call) and not node.args else node
    is_turned = isinstance(called, ast.Attribute) and called.attr in ("T", "t")
    return called.value if isinstance(called, ast.Attribute) and is_turned else None


def _take_other_part(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Take the rest, the same place of every sample, the other end first: ``x[:, n:]`` for ``x[:, :n]``."""
    if isinstance(node, ast.Slice) and node.step is None and (node.lower is None) != (node.upper is None):
        bound = node.lower or node.upper
        if bound is not None and not isinstance(bound, ast.Constant):
            yield f"{write(bound)}:" if node.lower is None else f":{write(bound)}"
    if isinstance(around, ast.Subscript) and around.slice is node and isinstance(node, ast.Name):
        yield f":, {write(node)}"
    is_looped = isinstance(around, (ast.For, ast.comprehension)) and around.iter is node
    is_zipped = isinstance(around, ast.Call) and read_name(around.func) == "zip" and around.func is not node
    if isinstance(node, ast.Name) and (is_looped or is_zipped):
        yield f"{write(node)}[::-1]"


def _turn_skips(ctx: FailureContext) -> Change:
    """Go through a list that the function filled from its end, or take from there: the skip connections of a U-Net."""
    calls = [node.func for node in _walk(ctx) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    filled = {read_name(func.value) for func in calls if func.attr == "append"}

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "pop":
            end = "" if node.args else "0"
            return [f"{write(node.func)}({end})"] if read_name(node.func.value) in filled else ()
        turned = [text for text in _take_other_part(node, around, write) if text.endswith("[::-1]")]
        return turned if write(node) in filled else ()

    return change


def _swap_arguments(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Give a module of the user's its two tensors the other way round: ``attend(latents, data)``."""
    del around
    if isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
        names = [item.id for item in node.args if isinstance(item, ast.Name)]
        is_module = isinstance(node.func, ast.Name) or read_name(getattr(node.func, "value", node.func)) == "self"
        if len(names) == 2 and names[0] != names[1] and is_module:
            yield f"{write(node.func)}({names[1]}, {names[0]})"


def _drop_step(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Leave out a number that is added or taken off: ``d * (k - 1)`` for ``d * (k - 1) - 1``."""
    del around
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Sub)):
        return
    if isinstance(node.right, ast.Constant) and node.right.value in (1, 2):
        yield write(node.left)


def _turn_pairs(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Pad the width first, as ``pad`` counts from the last dim: ``[dx, dx, dy, dy]`` for ``[dy, dy, dx, dx]``."""
    if isinstance(around, ast.Call) and isinstance(node, (ast.List, ast.Tuple)) and len(node.elts) == 4:
        top, bottom, left, right = map(write, node.elts)
        ends = "[]" if isinstance(node, ast.List) else "()"
        yield f"{ends[0]}{left}, {right}, {top}, {bottom}{ends[1]}"


def _turn_size(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Enlarge to the height and the width, in this order: ``size=(h, w)`` for ``size=(w, h)``."""
    if isinstance(around, (ast.Call, ast.keyword)) and isinstance(node, ast.Tuple) and len(node.elts) == 2:
        yield f"({write(node.elts[1])}, {write(node.elts[0])})"


def _list_lines(ctx: FailureContext) -> list[Source]:
    """List the failing line and those that called its function, as operations of the function before it know them."""
    here = ctx.failure.source
    if here is None:
        return []
    beside = (call.lines for call in reversed(ctx.trace.calls[: ctx.call.index]) if call.parent == ctx.call.parent)
    lines = next((at for at in beside if at and at[0][2:] == here[2:]), ())
    return [here, *(ctx.call.lines or lines)]


def _index_steps(ctx: FailureContext, source: Source) -> Candidate:
    """Read a step of every sample, in all places of a loop over steps: ``x[:, t]`` for ``x[t]``."""
    ctx = replace(ctx, failure=replace(ctx.failure, source=source, source_text=""))
    loops = [node for node in _walk(ctx) if isinstance(node, ast.For) and isinstance(node.target, ast.Name)]
    held = ctx.failure.names
    loop = next((node for node in reversed(loops) if ctx.statement and _spans(node, ctx.statement.first)), None)
    if loop is None or not isinstance(loop.target, ast.Name):
        return Candidate()
    index = loop.target.id
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


def _stride_index(ctx: FailureContext) -> Change:
    """Count what lies in a flat list row by row: ``blocks[i * self.num_kernels + j]`` for ``blocks[i + j]``."""
    owner = ctx.flow.module_of(ctx.parent) if ctx.call.kind == "op" else ctx.flow.module_of(ctx.call)
    owners = [owner, *(ctx.flow.module_of(call) for call in ctx.flow.around(ctx.call))]
    settings = {name: value for fact in owners if fact is not None for name, value in fact.settings.items()}
    strides = [f"self.{name}" for name, value in settings.items() if type(value) is int and value > 1]
    strides += [name for name, held in ctx.failure.names.items() if held.kind == "int"]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)
        if isinstance(around, ast.Subscript) and isinstance(node, ast.BinOp) and is_sum and around.slice is node:
            one, other = write(node.left), write(node.right)
            if isinstance(node.left, ast.Name) and isinstance(node.right, ast.Name):
                yield from (f"{one} * {stride} + {other}" for stride in strides if stride not in (one, other))

    return change
