"""The rule that holds a trace to the sizes its user declared: ``expect={"conv0": "B 16 H W", "": "B 10"}``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from modelsummary_ipy.diagnosis.call_arguments import Size
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.summary import Flag, Number, Row, Story
from modelsummary_ipy.records.trace import TensorSpec
from modelsummary_ipy.shapes.expr_text import work_out

#: Tokens for one dim of any size.
_ANY = frozenset({"_", "?", "*"})


def parse_declared(declared: Any) -> dict[str, tuple[str, ...]]:
    """Read what the user declared of one path.

    Args:
        declared: ``"B 16 H W"`` or ``(8, 16, 28, 28)`` for the first leaf of the output; a list of such for the leaves
            in order; a dict by the leaf's name, ``{"['logits']": "B 10"}`` or ``{"logits": "B 10"}``. A dim is a
            number, a name, ``H/2``, ``H//2``, ``4*B``, ``T+1``, ``_`` for any; ``...`` for any dims.

    Returns:
        Tokens by the leaf's name, or its place where it is a number.

    Raises:
        ValueError: If it can't be read.

    Example:
        >>> parse_declared("B 16 H/2 W/2")
        {'0': ('B', '16', 'H/2', 'W/2')}
    """
    if isinstance(declared, str):
        return {"0": _split(declared)}
    if isinstance(declared, Mapping):
        return {str(name): _read_size(size) for name, size in declared.items()}
    if isinstance(declared, (tuple, list)):
        if all(isinstance(dim, (int, type(None), type(...))) for dim in declared):
            return {"0": _read_size(declared)}
        if all(isinstance(dim, str) and " " not in dim.strip() for dim in declared) and isinstance(declared, tuple):
            return {"0": _split(" ".join(declared))}
        return {str(place): _read_size(size) for place, size in enumerate(declared) if size is not None}
    raise ValueError(f"{declared!r} is not a shape: write 'B 16 H W'")


def _read_size(size: Any) -> tuple[str, ...]:
    if isinstance(size, str):
        return _split(size)
    if isinstance(size, (tuple, list)):
        return _split(" ".join("_" if dim is None else "..." if dim is ... else str(dim) for dim in size))
    raise ValueError(f"{size!r} is not a shape: write 'B 16 H W'")


def _split(text: str) -> tuple[str, ...]:
    # ⌈H/2⌉ is how formulas are shown: taken as it stands.
    text = re.sub(r"\s*([-+*/·])\s*", r"\1", _part(_unwrap(text.strip()))).replace("·", "*")
    tokens = tuple(re.sub(r"^\*+$", "_", token) for token in text.split())
    for token in tokens:
        if token != "..." and token not in _ANY:
            _evaluate(token, _Unknown())
    if tokens.count("...") > 1:
        raise ValueError(f"{text!r} has more than one ...")
    return tokens


def _part(text: str) -> str:
    """Put blanks between dims alone, none inside of one: ``"B, min(T, 16)"`` is ``"B  min(T,16)"``."""
    depth, parted = 0, ""
    for char in text:
        depth += (char in "([⌈⌊") - (char in ")]⌉⌋")
        parted += char if not (char == "," or char.isspace()) else " " if depth == 0 else char.strip()
    return parted


def _unwrap(text: str) -> str:
    """Take off the brackets around a whole size, ``"(B, 10)"``, and none of a dim's own, ``"(H - 7)·(W - 7)"``."""
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]"):
        return text
    depth = 0
    for place, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if depth == 0 and place < len(text) - 1:
            return text
    return text[1:-1]


class _Unknown(dict[str, int]):
    """Any name, of some size: to try whether an expression can be read."""

    def __missing__(self, name: str) -> int:
        return 16


def _evaluate(token: str, sizes: Mapping[str, int]) -> Fraction | None:
    """Work a dim out; ``None`` if a name in it has no size.

    Raises:
        ValueError: If the token is no sum of names and numbers.
    """
    plain = re.sub(r"(\d)([A-Za-z_(])", r"\1*\2", token) if not re.match(r"^[A-Za-z_]\w*$", token) else token
    try:
        return work_out(plain, sizes)
    except KeyError:
        return None
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{token!r} is not a dim: use a number, a name, H/2, 4*B, T+1 or _") from error


def find_broken_declarations(evidence: Evidence) -> Iterator[Flag]:
    """Find rows whose shapes are not as declared; an error, since the user declared what is right.

    A name of the input's dims means its size there, ``B`` also with one sample more; any other name for one and
    the same size wherever it is declared. Leaves alone what was not declared.
    """
    story = evidence.story
    names = {
        name: size
        for fact in story.trace.inputs
        for name, size in zip(fact.dims, fact.spec.shape, strict=False)
        if name
    }
    bound: dict[str, tuple[int, str]] = {}
    for path, declared in story.expect.items():
        rows = [row for row in story.rows if row.path == path and row.kind == "module"]
        leaves = parse_declared(declared)
        if not rows:
            message = f"declared as {_write(next(iter(leaves.values())))}, but no row has the path {path!r}"
            yield Flag("declared-size", "error", 0, "", message, "", "absent")
        for row in rows:
            if row.status != "ran":
                message = f"declared as {_write(next(iter(leaves.values())))}, but it was {_describe_status(row)}"
                yield Flag("declared-size", "error", row.index, path, message, "", row.status)
                continue
            for leaf, tokens in leaves.items():
                reason = _find_break(story, row, leaf, tokens, names, bound)
                if reason:
                    yield Flag("declared-size", "error", row.index, path, reason, "", "other-shape", _number(row, leaf))


def _number(row: Row, leaf: str) -> dict[str, Number]:
    place = _find_leaf(row.outputs, leaf)
    return {} if place is None else {"shape": row.outputs[place].shape}


def _describe_status(row: Row) -> str:
    return {"failed": "not finished: it failed", "unreached": "not reached"}.get(row.status, "not called (0 calls)")


def _write(tokens: tuple[str, ...]) -> str:
    return f"({', '.join(tokens)})"


def _find_leaf(outputs: tuple[TensorSpec, ...], leaf: str) -> int | None:
    """The place of a leaf, by number or by name; quotes and brackets may be left away."""
    if leaf.isdigit():
        return int(leaf) if int(leaf) < len(outputs) else None
    plain = [spec.name.strip(".[]'\"") for spec in outputs]
    exact = [spec.name for spec in outputs]
    return exact.index(leaf) if leaf in exact else plain.index(leaf) if leaf in plain else None


def _find_break(
    story: Story,
    row: Row,
    leaf: str,
    tokens: tuple[str, ...],
    names: Mapping[str, int],
    bound: dict[str, tuple[int, str]],
) -> str:
    place = _find_leaf(row.outputs, leaf)
    if place is None:
        given = ", ".join(spec.name or str(number) for number, spec in enumerate(row.outputs)) or "nothing"
        return f"declared {_write(tokens)} for output {leaf}, but it has {len(row.outputs)}: {given}"
    shape = row.outputs[place].shape
    found = _compare(tokens, shape, names, bound, row.path)
    if found:
        return f"declared {_write(tokens)}, got {write_size(shape)}: {found}"
    moved = story.batch.get(row.index, ())
    then = moved[place] if place < len(moved) else None
    if then is None or "B" not in names:
        return ""
    found = _compare(tokens, then, {**names, "B": names["B"] + 1}, {}, row.path)
    return (
        f"declared {_write(tokens)}; with a batch of {names['B'] + 1} it is {write_size(then)}: {found}"
        if found
        else ""
    )


def _compare(
    tokens: tuple[str, ...], shape: Size, names: Mapping[str, int], bound: dict[str, tuple[int, str]], path: str
) -> str:
    """Say the first difference; ``""`` if there is none."""
    if "..." in tokens:
        at = tokens.index("...")
        missing = len(shape) - len(tokens) + 1
        if missing < 0:
            return f"{len(shape)} dims, not {len(tokens) - 1} or more"
        tokens = (*tokens[:at], *("_",) * missing, *tokens[at + 1 :])
    if len(tokens) != len(shape):
        return f"{len(shape)} dims, not {len(tokens)}"
    for dim, (token, size) in enumerate(zip(tokens, shape, strict=True)):
        if token in _ANY:
            continue
        known = {**{name: value for name, (value, _) in bound.items()}, **names}
        wanted = _evaluate(token, known)
        if wanted is None:
            if token.isidentifier():
                bound[token] = (size, path)
            continue
        if wanted != size:
            where = f" ({token} is {bound[token][0]} in {bound[token][1] or 'the output'})" if token in bound else ""
            meant = "" if token.isdigit() or where else f" = {_plain(wanted)}"
            return f"dim {dim} is {size}, not {token}{meant}{where}"
    return ""


def _plain(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):g}"


RULES = {"declared-size": find_broken_declarations}
