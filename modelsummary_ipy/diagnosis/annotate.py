"""The source of each traced function, and what every line of it made: sizes and formulas, call by call.

Text is read by ``linecache``, which knows files, installed packages and the cells of a notebook.
"""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from modelsummary_ipy.diagnosis.failures.statements import list_functions, parse_around
from modelsummary_ipy.records.summary import Flag, Story
from modelsummary_ipy.records.trace import Call, Formula, Source, TensorSpec

#: A tensor and its formula: what a line made, or what a function was given.
Leaf = tuple[TensorSpec, "Formula | None"]
#: What one execution of a line made.
Made = tuple[Leaf, ...]

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_MOST_REPEATS = 4


@dataclass(frozen=True)
class Variant:
    """Calls in which every line of a function made the same.

    Attributes:
        rows: Rows of the calls that ran the function.
        paths: Their paths, in order.
        given: What the function was given, if it is the called module's own forward.
        made: By line number, what each execution of the line made, equal ones once; more than ``_MOST_REPEATS`` are
            cut.
    """

    rows: tuple[int, ...]
    paths: tuple[str, ...]
    given: Made = ()
    made: dict[int, tuple[Made, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One line of a listing.

    Attributes:
        number: Its number in the file.
        text: Its text, without the function's own indent.
        flags: What the rules found in it.
        failed: The message of the exception, if the forward ended here.
    """

    number: int
    text: str
    flags: tuple[Flag, ...] = ()
    failed: str = ""


@dataclass(frozen=True)
class Listing:
    """One function as it was written.

    Attributes:
        title: ``"Bottleneck.forward"``; a plain function's name.
        file: ``"net.py"`` or ``"In [5]"``.
        type_names: Classes of the modules that ran it.
        lines: From ``def`` to the end.
        variants: Calls with different shapes, in order.
    """

    title: str
    file: str
    type_names: tuple[str, ...]
    lines: tuple[Line, ...]
    variants: tuple[Variant, ...]


def annotate(story: Story, only: str | None = None) -> tuple[Listing, ...]:
    """Write beside each line of the traced functions what it made.

    Args:
        story: The records of the trace; with formulas if they are to be written.
        only: A path or a class: only functions that such a module ran.

    Returns:
        One listing a function, in the order they first ran; functions whose text can't be read are left out.
    """
    return _Annotator(story).build(only)


@dataclass
class _Block:
    """A function while its calls are collected.

    Attributes:
        first: Number of its ``def`` line.
        returns: Number of its one ``return`` line, 0 if it has none or several.
        loops: Numbers of the lines that may run several times in one call.
        runs: By the call that ran it, the calls made on each line.
    """

    title: str
    name: str
    file: str
    first: int
    texts: list[str]
    returns: int
    loops: frozenset[int]
    runs: dict[int, dict[int, list[Call]]] = field(default_factory=dict)


class _Annotator:
    def __init__(self, story: Story) -> None:
        self._story = story
        self._calls = story.trace.calls
        self._places: dict[tuple[str, int, str], _Block | None] = {}
        self._blocks: dict[tuple[str, int], _Block] = {}
        self._flags: dict[tuple[int, int], list[Flag]] = {}
        self._failed: tuple[int, int] | None = None

    def build(self, only: str | None) -> tuple[Listing, ...]:
        for call in self._calls:
            if call.parent is not None and call.status == "ran":
                self._place(call)
        self._place_flags()
        self._place_failure()
        listings = (self._list(block) for block in self._blocks.values())
        return tuple(listing for listing in listings if listing.variants and _is_wanted(listing, only))

    def _place(self, call: Call) -> None:
        """Put a call on the line that made it, and on the lines that led there within the same module's code."""
        assert call.parent is not None
        seen: set[int] = set()
        for source in call.lines or ((call.source,) if call.source is not None else ()):
            block = self._find_block(source)
            if block is not None and id(block) not in seen:
                seen.add(id(block))
                block.runs.setdefault(call.parent, {}).setdefault(source.line, []).append(call)

    def _find_block(self, source: Source) -> _Block | None:
        key = (source.filename, source.line, source.function)
        if key not in self._places:
            self._places[key] = self._read_block(source)
        return self._places[key]

    def _read_block(self, source: Source) -> _Block | None:
        tree = parse_around(source) if source.filename else None
        found = None
        for node, owner in list_functions(tree) if tree is not None else ():
            is_named = source.function in ("", node.name) or source.function.startswith("<")  # a lambda in it
            if is_named and node.lineno <= source.line <= (node.end_lineno or 0):
                found = node, owner  # an inner one comes later
        if found is None:
            return None
        function, owner = found
        key = source.filename, function.lineno
        if key not in self._blocks:
            texts = linecache.getlines(source.filename)[function.lineno - 1 :]
            lines = textwrap.dedent("".join(texts[: _find_end(function, texts)])).splitlines()
            title = f"{owner}.{function.name}" if owner else function.name
            returns, loops = _read_structure(function)
            self._blocks[key] = _Block(title, function.name, source.file, function.lineno, lines, returns, loops)
        return self._blocks[key]

    # -- flags --------------------------------------------------------------------------------------------------------

    def _place_flags(self) -> None:
        for flag in self._story.flags:
            number = self._story.rows[flag.row].call
            if number is None:
                continue
            call = self._calls[number]
            if call.parent is None:
                block = next((b for b in self._blocks.values() if number in b.runs and self._is_own(b, number)), None)
                line = block.first if block is not None else 0
            else:
                block = self._find_block(call.source) if call.source is not None else None
                line = call.source.line if call.source is not None else 0
            if block is not None:
                self._flags.setdefault((id(block), line), []).append(flag)

    def _place_failure(self) -> None:
        failure = self._story.trace.failure
        block = self._find_block(failure.source) if failure is not None and failure.source is not None else None
        if failure is None or failure.source is None or block is None:
            return
        self._failed = id(block), failure.source.line
        call = self._calls[failure.call] if failure.call is not None else None
        owner = call.parent if call is not None and call.parent is not None else failure.call
        if owner is not None:
            block.runs.setdefault(owner, {})

    # -- listings -----------------------------------------------------------------------------------------------------

    def _list(self, block: _Block) -> Listing:
        groups: dict[tuple[object, ...], list[int]] = {}
        notes: dict[int, tuple[Made, dict[int, tuple[Made, ...]]]] = {}
        for owner, by_line in block.runs.items():
            given = self._leaves(owner, "in") if self._is_own(block, owner) else ()
            made = {line: self._read_line(calls, line in block.loops) for line, calls in sorted(by_line.items())}
            if block.returns and self._is_own(block, owner) and self._calls[owner].outputs:
                made[block.returns] = (self._leaves(owner, "out"),)
            notes[owner] = given, made
            groups.setdefault((given, tuple(made.items())), []).append(owner)
        variants = tuple(self._build_variant(owners, *notes[owners[0]]) for owners in groups.values())
        lines = tuple(self._build_line(block, number, text) for number, text in enumerate(block.texts, block.first))
        types = tuple(dict.fromkeys(self._calls[owner].type_name for owner in block.runs))
        return Listing(block.title, block.file, types, lines, variants)

    def _build_line(self, block: _Block, number: int, text: str) -> Line:
        flags = tuple(dict.fromkeys(self._flags.get((id(block), number), ())))
        failure = self._story.trace.failure
        failed = failure is not None and self._failed == (id(block), number)
        failed_with = f"{failure.error_type}: {failure.message}" if failure is not None and failed else ""
        return Line(number, text, flags, failed_with)

    def _build_variant(self, owners: list[int], given: Made, made: dict[int, tuple[Made, ...]]) -> Variant:
        rows = tuple(self._story.row_of_call[owner] for owner in owners if owner in self._story.row_of_call)
        paths = tuple(dict.fromkeys(self._calls[owner].path for owner in owners))
        return Variant(rows, paths, given, made)

    def _is_own(self, block: _Block, owner: int) -> bool:
        """Return whether a function is what was called of the module, not a helper of it."""
        wanted = self._story.trace.method if self._calls[owner].parent is None else "forward"
        return block.name == wanted

    def _read_line(self, calls: list[Call], loops: bool) -> tuple[Made, ...]:
        """Return what a line made: the last of its calls, of each round where it runs in a loop."""
        length = _find_period([(call.kind, call.type_name) for call in calls]) if loops else len(calls)
        lasts = [calls[end - 1] for end in range(length, len(calls) + 1, length)]
        made = dict.fromkeys(self._leaves(call.index, "out") for call in lasts)
        return tuple(made)[:_MOST_REPEATS]

    def _leaves(self, number: int, side: str) -> Made:
        call = self._calls[number]
        specs = call.inputs if side == "in" else call.outputs
        table = self._story.input_formulas if side == "in" else self._story.formulas
        formulas = table.get(self._story.row_of_call.get(number, -1), ())
        return tuple((spec, formulas[at] if at < len(formulas) else None) for at, spec in enumerate(specs))


def _is_wanted(listing: Listing, only: str | None) -> bool:
    if only is None:
        return True
    return only in listing.type_names or any(only in variant.paths for variant in listing.variants)


def _find_end(function: _Function, texts: Sequence[str]) -> int:
    """Return how many lines a function has: the comments at its end, which are indented as its body is, are its own."""
    count = (function.end_lineno or function.lineno) - function.lineno + 1
    body = function.body[0]
    for number, text in enumerate(texts[count:] if body.lineno > function.lineno else (), count + 1):
        if text.strip() and not text.lstrip().startswith("#"):
            break
        if text.strip() and len(text) - len(text.lstrip()) >= body.col_offset:
            count = number
    return count


def _read_structure(function: _Function) -> tuple[int, frozenset[int]]:
    """Return the number of the one ``return`` line (or 0), and of all lines in a loop."""
    returns: list[int] = []
    loops: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Return):
            returns.append(node.lineno)
        elif isinstance(node, (ast.For, ast.While, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp)):
            loops |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return returns[0] if len(returns) == 1 else 0, frozenset(loops)


def _find_period(items: Sequence[object]) -> int:
    """Return the length of the shortest beginning that ``items`` repeats whole: 2 for ``a b a b a b``."""
    for length in range(1, len(items) // 2 + 1):
        if len(items) % length == 0 and all(items[at] == items[at % length] for at in range(length, len(items))):
            return length
    return max(len(items), 1)
