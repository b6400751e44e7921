"""Products of matrices and other contractions: an axis that two tensors share disappears."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size, entry
from modelsummary_ipy.axes.table.elementwise import broadcast

#: By operation, the letters of its tensors, and its arguments in the same order.
CONTRACTIONS: dict[str, tuple[str, str]] = {
    f"aten.{name}": (letters, arguments)
    for names, letters, arguments in (
        ("mm _int_mm", "ik,kj->ij", "self mat2"),
        ("bmm", "bik,bkj->bij", "self mat2"),
        ("addmm _addmm_activation", "ik,kj,ij->ij", "mat1 mat2 self"),
        ("baddbmm", "bik,bkj,bij->bij", "batch1 batch2 self"),
        ("mv", "ik,k->i", "self vec"),
        ("dot", "k,k->", "self tensor"),
        ("vdot", "k,k->", "self other"),
        ("addmv", "ik,k,i->i", "mat vec self"),
        ("ger outer", "i,j->ij", "self vec2"),
    )
    for name in names.split()
}


@entry(" ".join(name.removeprefix("aten.") for name in CONTRACTIONS))
def contract(op: Op) -> Sequence[Axes]:
    """Make one einsum of the arguments; the axes of one that is added may be 1 or left out."""
    letters, arguments = CONTRACTIONS[op.name] if op.name in CONTRACTIONS else CONTRACTIONS[op.name[:-1]]
    inputs, output = letters.split("->")
    found: dict[str, Size] = {}
    for letters_of, argument in zip(inputs.split(","), arguments.split(), strict=True):
        axes = op.axes(argument)
        for letter, size in zip(letters_of[len(letters_of) - len(axes) :], axes, strict=True):
            known = found.get(letter)
            is_one = known is not None and argument == "self" and not op.name.endswith("_") and op.known(size) == 1
            found[letter] = known if is_one else size if known is None else op.equal(known, size)
    if op.name.startswith("aten.addmv") and op.known(found["i"]) == 0:
        raise OpaqueError("of no rows it makes what it adds to")
    return [[found[letter] for letter in output]]


@entry("linear")
def linear(op: Op) -> Sequence[Axes]:
    """``(…, in) → (…, out)`` with a weight ``(out, in)``."""
    data, weight = op.axes("input"), op.axes("weight")
    op.equal(data[-1], weight[-1])
    return [[*data[:-1], *broadcast(op, [weight[:-1], op.axes("bias") if op.has("bias") else []])]]


@entry("_cdist_forward _euclidean_dist cdist")
def distances(op: Op) -> Sequence[Axes]:
    """``(…, n, d)`` and ``(…, m, d)`` to ``(…, n, m)``."""
    one, two = op.tensors()[:2]
    op.equal(one[-1], two[-1])
    return [[*broadcast(op, [one[:-2], two[:-2]]), one[-2], two[-2]]]


@entry("_trilinear")
def trilinear(op: Op) -> Sequence[Axes]:
    """Multiply three tensors whose axes were expanded to one rank, and sum some; the last that has an axis sizes it."""
    made: dict[int, Size] = {}
    summed = op.plain("sumdim")
    for argument, expanded in (("i3", "expand3"), ("i2", "expand2"), ("i1", "expand1")):
        axes, skipped = op.axes(argument), op.plain(expanded)
        own = [dim for dim in range(len(axes) + len(skipped)) if dim not in skipped]
        for dim, size in zip(own, axes, strict=True):
            if op.known(size) != 1:
                op.equal(made.setdefault(dim, size), size)
            elif dim not in summed:
                made.setdefault(dim, size)
    return [[made[dim] for dim in sorted(made) if dim not in summed]]


@entry("linalg_inv_ex linalg_cholesky_ex linalg_matrix_exp matrix_exp")
def square_matrices(op: Op) -> Sequence[Axes]:
    """Make a matrix of each square matrix, and a number that says whether it worked."""
    data = op.first()
    op.equal(data[-2], data[-1])
    op.across(*data[-2:])
    return [data, data[:-2]]


@entry("_grouped_mm")
def grouped(op: Op) -> Sequence[Axes]:
    """Multiply groups of rows, or of columns, each with a matrix of its own: ``(rows, k)`` and ``(groups, k, n)``."""
    one, two = op.axes("self"), op.axes("mat2")
    op.equal(one[-1], two[-2])
    if len(one) == len(two) == 3:
        op.equal(one[0], two[0])
    if len(one) == len(two):
        return [[op.axes("offs")[0] if len(one) == 2 else one[0], one[-2], two[-1]]]
    if op.has("offs"):
        op.equal(op.axes("offs")[0], (one if len(one) == 3 else two)[0])
    return [[one[-2], two[-1]]]
