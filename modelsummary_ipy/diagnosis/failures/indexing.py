"""Operations by letters and by indices: einsum, gather, scatter, index_select, index_add."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator

from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, NOTHING, Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, fix_made, fix_operand, fix_setting, read_arguments
from modelsummary_ipy.diagnosis.failures.parameters import find_param_name, resize_param
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.source_nodes import find_targets, parse_line
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Held


def explain_einsum(ctx: FailureContext) -> Diagnosis | None:
    """Explain an einsum of which one letter stands for two sizes, or whose letters are too many or too few."""
    if ctx.function != "einsum":
        return None
    equation = next((value for value in ctx.arguments.values() if isinstance(value, str)), "")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if not equation or "." in equation or len(terms) != len(ctx.operands):
        return None
    names = read_arguments(ctx)
    names += [f"operand {number}" for number in range(len(names), len(terms))]
    for term, x, name in zip(terms, ctx.operands, names, strict=False):
        if len(term) != x.rank:
            reason = f"'{term}' has {len(term)} letters, {name} {write_shape(x.shape)} has {x.rank} dims"
            fixes = [*_add_batch(ctx, equation, terms), *_add_letter(ctx, equation, terms, terms.index(term))]
            return Diagnosis(reason, f"one letter a dim in '{equation}'", fixes, () if fixes else ANYWHERE)
    sizes: dict[str, tuple[int, str]] = {}
    for term, x, name in zip(terms, ctx.operands, names, strict=False):
        for letter, size in zip(term, x.shape, strict=True):
            known, where = sizes.setdefault(letter, (size, name))
            if known != size and 1 not in (known, size):
                last = len(terms) - 1
                fixes = [*_turn_both(ctx, equation, terms), *_reorder(ctx, equation, terms, [last])]
                fixes += _rename(ctx, equation, terms, letter)
                own = [*_cut_spectrum(ctx, terms, letter), _resize_own(ctx, terms, letter)]
                own += _list_made(ctx, terms, letter)
                params = [at for at, operand in enumerate(ctx.operands) if operand.param is not None]
                fixes = [*_reorder(ctx, equation, terms, params), *own, *fixes]
                fixes.append(_part_letter(ctx, equation, terms, letter))
                fixes += _reorder(ctx, equation, terms, range(last - 1, -1, -1))
                reason = f"'{letter}' is {known} in {where} and {size} in {name}: '{term}' reads {write_shape(x.shape)}"
                expected = f"one size for each letter of '{equation}'"
                reason += _count_frequencies(ctx, letter, terms)
                return Diagnosis(reason, expected, [*filter(None, fixes)][:4], () if any(own) else ANYWHERE)
    return None


def _add_batch(ctx: FailureContext, equation: str, terms: list[str]) -> Iterator[Candidate]:
    """Write a letter for the batch in front of every term, where each operand has that dim more: ``bqd,bkd->bqk``."""
    batches = {x.shape[0] if x.rank == len(term) + 1 else 0 for term, x in zip(terms, ctx.operands, strict=True)}
    letter = next(letter for letter in "bnzuvw" if letter not in equation)
    if len(batches) == 1 and 0 not in batches and "->" in equation and ctx.line.count(equation) == 1:
        into = equation.replace(" ", "").partition("->")[2]
        new = f"{','.join(letter + term for term in terms)}->{letter}{into}"
        yield fix_line(ctx, ctx.line.replace(equation, new))


def _add_letter(ctx: FailureContext, equation: str, terms: list[str], place: int) -> Iterator[Candidate]:
    """Write the letter that an operand has a dim for and its term lacks: one of the same size in another operand."""
    shape, term = ctx.operands[place].shape, terms[place]
    for other, x in zip(terms, ctx.operands, strict=True):
        for letter, size in zip(other, x.shape, strict=False):
            for axis in range(len(shape)):
                if len(term) == len(shape) - 1 and letter not in term and shape[axis] == size and other is not term:
                    yield _write_terms(ctx, equation, [*terms[:place], f"{term[:axis]}{letter}{term[axis:]}",
                        *terms[place + 1 :]])  # fmt: skip


def _rename(ctx: FailureContext, equation: str, terms: list[str], letter: str) -> Iterator[Candidate]:
    """Write another letter of the same size for one that stands for two sizes, in the last operand first."""
    shapes = [x.shape for x in ctx.operands]
    for place in range(len(terms) - 1, -1, -1):
        if terms[place].count(letter) != 1:
            continue
        size = shapes[place][terms[place].index(letter)]
        others = [
            (other, there)
            for at, (term, shape) in enumerate(zip(terms, shapes, strict=True))
            for other, there in zip(term, shape, strict=True)
            if at != place
        ]
        fitting = {other for other, there in others if there == size} - {
            other for other, there in others if there != size
        }
        for other in sorted(fitting - {letter, *terms[place]}):
            new = [*terms[:place], terms[place].replace(letter, other), *terms[place + 1 :]]
            result = equation.replace(" ", "").partition("->")[2]
            if other in result and letter not in result:  # the sum is over the letter that two operands have
                whole = f"{','.join(new)}->{result.replace(other, letter)}"
                yield fix_line(ctx, ctx.line.replace(equation, whole, 1)) if equation in ctx.line else NOTHING
            yield _write_terms(ctx, equation, new)


def _resize_own(ctx: FailureContext, terms: list[str], letter: str) -> Candidate:
    """Give a square parameter of the user's own, nodes by nodes, the size that a letter has in the other operand."""
    sizes = {x.shape[term.index(letter)] for term, x in zip(terms, ctx.operands, strict=True)
             if letter in term and x.param is None}  # fmt: skip
    own = [x for x in ctx.operands if x.param is not None and x.rank == 2 and x.shape[0] == x.shape[1]]
    return resize_param(ctx, own[0], [-2, -1], sizes.pop()) if len(own) == 1 == len(sizes) else NOTHING


def _list_made(ctx: FailureContext, terms: list[str], letter: str) -> Iterator[Candidate]:
    """List how the model, or the block that has a parameter, is made with the size that a letter has elsewhere."""
    pairs = [(x, x.shape[term.index(letter)]) for term, x in zip(terms, ctx.operands, strict=True) if letter in term]
    names = [find_param_name(ctx, x) if x.rank > 1 else "" for x, _ in pairs]
    given = [size for (_, size), name in zip(pairs, names, strict=True) if not name]
    for (_, size), name in zip(pairs, names, strict=True):
        for came in dict.fromkeys(given) if name else ():
            yield from list_rebuilds(ctx, size, came)
            yield from list_constructions(ctx, name.rpartition(".")[0], size, came)


def _cut_spectrum(ctx: FailureContext, terms: list[str], letter: str) -> Iterator[Candidate]:
    """Read the lowest frequencies, as many as there are weights: ``ft[:, :, :self.weights.size(2)]``."""
    for place, (term, x) in enumerate(zip(terms, ctx.operands, strict=True)):
        made = any("rfft" in call.type_name for call in ctx.flow.walk_back(x.link, 2))
        for other, (row, weights) in enumerate(zip(terms, ctx.operands, strict=True)):
            if made and letter in term and letter in row and weights.param is not None:
                axis, at = term.index(letter), row.index(letter)
                if x.shape[axis] > weights.shape[at]:
                    yield fix_operand(ctx, place, f"{{}}[{':, ' * axis}:{{{other}}}.size({at})]")


def _count_frequencies(ctx: FailureContext, letter: str, terms: list[str]) -> str:
    """Say how many frequencies a real transform of a signal has, where a letter stands for them: ``"; …"``."""
    for term, x in zip(terms, ctx.operands, strict=True):
        made = next((call for call in ctx.flow.walk_back(x.link, 4) if "rfft" in call.type_name), None)
        if made is not None and letter in term and x.shape[-1] == x.shape[term.index(letter)] and made.inputs:
            size = made.inputs[0].shape[-1]
            if size // 2 + 1 == x.shape[-1]:
                return f"; a real transform of {size} has {size} // 2 + 1 = {x.shape[-1]} frequencies"
    return ""


def _part_letter(ctx: FailureContext, equation: str, terms: list[str], letter: str) -> Candidate:
    """Give each of two operands a letter of its own, and both to the result: queries by keys, ``bqhd,bkhd->bhqk``."""
    before, arrow, result = equation.replace(" ", "").partition("->")
    fresh = next((other for other in "kstuvwxyz" if other not in before), "")
    if len(terms) != 2 or not arrow or not fresh or any(term.count(letter) != 1 for term in (*terms, result)):
        return NOTHING
    changed = f"{terms[0]},{terms[1].replace(letter, fresh)}->{result.replace(letter, letter + fresh)}"
    return fix_line(ctx, ctx.line.replace(equation, changed, 1)) if equation in ctx.line else NOTHING


def _write_terms(ctx: FailureContext, equation: str, terms: list[str]) -> Candidate:
    changed = ",".join(terms) + "".join(equation.replace(" ", "").partition("->")[1:])
    return fix_line(ctx, ctx.line.replace(equation, changed, 1)) if equation in ctx.line else NOTHING


def _turn_both(ctx: FailureContext, equation: str, terms: list[str]) -> Iterator[Candidate]:
    """Swap two letters of a term and of the result that has its order: ``ncvl,vw->ncwl`` for ``nclv,vw->nclw``."""
    result = equation.replace(" ", "").partition("->")[2]
    for place, term in enumerate(terms):
        fresh, lost = [x for x in result if x not in term], [x for x in term if x not in result]
        of_pairs = {frozenset(other) for other in terms[:place] + terms[place + 1 :]} == {frozenset(fresh + lost)}
        if len(fresh) != 1 or len(lost) != 1 or not of_pairs:  # a matrix of nodes by nodes
            continue
        if result == term.replace(lost[0], fresh[0]) and equation in ctx.line:
            for order in _list_orders(ctx, terms, place):
                whole = ",".join([*terms[:place], order, *terms[place + 1 :]])
                yield fix_line(ctx, ctx.line.replace(equation, f"{whole}->{order.replace(lost[0], fresh[0])}", 1))


def _reorder(ctx: FailureContext, equation: str, terms: list[str], places: Iterable[int]) -> Iterator[Candidate]:
    """Write the letters of one operand in another order, such that each letter has one size."""
    for place in places:
        for order in _list_orders(ctx, terms, place):
            yield _write_terms(ctx, equation, [*terms[:place], order, *terms[place + 1 :]])


def _list_orders(ctx: FailureContext, terms: list[str], place: int) -> list[str]:
    """List two other orders of the letters of an operand in which each letter has one size, the nearest first."""
    x = ctx.operands[place]
    others = {
        letter: size
        for other, term in enumerate(terms)
        if other != place
        for letter, size in zip(term, ctx.operands[other].shape, strict=True)
    }
    orders = itertools.permutations(terms[place]) if x.rank < 6 else iter(())
    fitting = [
        order for order in orders
        if all(others.get(letter, size) == size for letter, size in zip(order, x.shape, strict=True))
    ]  # fmt: skip
    fitting.sort(key=lambda order: sum(a != b for a, b in zip(order, terms[place], strict=True)))
    return ["".join(order) for order in fitting[:2]]


_INDEXED = frozenset(
    """gather scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ index_select index_add index_add_
    index_copy index_copy_ take_along_dim take""".split()  # noqa: SIM905  # words, not a list
)


def explain_index(ctx: FailureContext) -> Diagnosis | None:
    """Explain an index that is no integer, or has another number of dims than what it reads."""
    if "used as indices must be long" in ctx.failure.message:
        return _explain_float_index(ctx)
    if ctx.function not in _INDEXED or len(ctx.operands) < 2:
        return None
    x, index = ctx.operands[0], ctx.operands[1]
    is_refused = "Long but found Int" in ctx.failure.message  # an expanded one, which another kernel reads
    if index.spec.dtype not in ("int64", "int32") or (is_refused and index.spec.dtype == "int32"):
        fix = fix_operand(ctx, 1, "{}.long()")
        return Diagnosis(f"the index is {index.spec.dtype}: {ctx.function} needs int64", "an index of int64", fix)
    if ctx.function.startswith("index_add"):
        return _explain_added(ctx, index)
    if not ctx.function.startswith(("gather", "scatter", "take_along")) or index.rank == x.rank:
        return None
    reason = f"{ctx.function} needs an index with as many dims as the tensor: {write_shape(index.shape)} has "
    reason += f"{index.rank}, {write_shape(x.shape)} has {x.rank}"
    missing = x.rank - index.rank
    fixes: list[Candidate] = []
    if missing == 1:
        dim = ctx.arguments.get("dim", 0)
        axis = dim % x.rank if isinstance(dim, int) else x.rank - 1
        source = ctx.operands[2] if len(ctx.operands) > 2 and ctx.function.startswith("scatter") else None
        if source is not None and source.rank == x.rank and source.shape[:1] == index.shape:
            ones = ", None" * missing
            expanded = fix_operand(ctx, 1, f"{{}}[:{ones}].expand_as({{2}})")
            return Diagnosis(reason, f"an index {write_shape(source.shape)}", expanded)
        if index.shape == (*x.shape[:axis], *x.shape[axis + 1 :]):  # one entry of the dim for each of the others
            picked = [fix_operand(ctx, 1, f"{{}}.unsqueeze({axis})")]
            if ctx.function == "gather" and ".squeeze(" not in ctx.line:
                squeezed = fix_operand(ctx, 1, f"{{}}.unsqueeze({axis})", around=f"{{}}.squeeze({axis})")
                picked.insert(0 if _is_in_sum(ctx.line) else 1, squeezed)
            return Diagnosis(reason, f"an index of {x.rank} dims", picked)
        places = [axis, x.rank - 1] if index.shape[:1] == x.shape[:1] else [axis, x.rank - 1, 0]
        fixes = [fix_operand(ctx, 1, f"{{}}.unsqueeze({at})") for at in dict.fromkeys(places)]
        rest = [at for at in range(1, x.rank) if at != axis]
        if x.rank == 3 and rest and ctx.function == "gather" and index.shape[0] == x.shape[0]:  # one for all channels
            sizes = ", ".join(f"{{0}}.size({at})" if at == rest[0] else "-1" for at in range(x.rank))
            fixes.insert(0, fix_operand(ctx, 1, f"{{}}.unsqueeze({rest[0]}).expand({sizes})"))
    return Diagnosis(reason, f"an index of {x.rank} dims", fixes, () if any(fixes[:1]) else ANYWHERE)


def _is_in_sum(line: str) -> bool:
    """Return whether a line computes with what it gathers: with tensors that have no dim more."""
    tree = parse_line(line)
    sums = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)] if tree is not None else []
    inner = (part for node in sums for part in ast.walk(node) if isinstance(part, ast.Call))
    return any(isinstance(call.func, ast.Attribute) and call.func.attr == "gather" for call in inner)


def _explain_float_index(ctx: FailureContext) -> Diagnosis:
    """A tensor of floats stands in brackets: it is made integer where it gets its name, or there."""
    names = {
        item.id
        for node in ast.walk(parse_line(ctx.line) or ast.Module([], []))
        if isinstance(node, ast.Subscript)
        for item in (node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
        if isinstance(item, ast.Name) and ctx.failure.names.get(item.id, Held("")).kind == "Tensor"
    }

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(around, ast.Assign) and around.value is node and names & set(find_targets(ast.unparse(around))):
            yield f"{write(node)}.long()"

    def cast(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_index = isinstance(around, ast.Tuple) or (isinstance(around, ast.Subscript) and around.slice is node)
        if isinstance(node, ast.Name) and node.id in names and is_index:
            yield f"{node.id}.long()"

    fixes = [made for made in rewrite(ctx, change) if made.text.startswith("at ")]
    fixes += rewrite(ctx, cast, here=True, alone=True)
    return Diagnosis("an index is of floats: integers and booleans index", "an index of int64", fixes)


def _explain_added(ctx: FailureContext, index: Operand) -> Diagnosis | None:
    """Rows are added at indices along another dim than the one that they stand in."""
    dim, source = ctx.arguments.get("dim"), ctx.operands[-1]
    if not isinstance(dim, int) or index.rank != 1 or source.rank < 1 or source.shape[dim] == index.shape[0]:
        return None
    count = index.shape[0]
    reason = f"{ctx.function} adds one slice of dim {dim} for each of the {count} indices, {write_shape(source.shape)} "
    reason += f"has {source.shape[dim]} there"
    places = [at for at, size in enumerate(source.shape) if size == count]
    fix = fix_setting(ctx, ctx.function, "dim", 1, places[0]) if places else NOTHING
    return Diagnosis(reason, f"{count} in dim {dim} of the source", fix)


def explain_gathered(ctx: FailureContext, x: Operand, wanted: int, expected: str) -> Diagnosis | None:
    """Of the steps that an index picks the first feature alone was read: the index has a last dim of one."""
    for call in ctx.flow.walk_back(x.link, 3):
        if call.type_name != "gather" or len(call.inputs) < 2:
            continue
        whole, index = call.inputs[0].shape, call.inputs[1].shape
        if len(whole) < 3 or index[-1] != 1 or whole[-1] != wanted:
            return None
        sizes = ", ".join(["-1"] * (len(whole) - 1))
        fix = fix_made(
            ctx,
            call,
            lambda items: [items[0], items[1], f"{items[2]}.expand({sizes}, {items[0]}.size(-1))"],  # noqa: B023  # it returns
        )
        reason = f"the index {write_shape(index)} reads the first of {whole[-1]} features: it is expanded over them"
        return Diagnosis(reason, expected, fix)
    return None
