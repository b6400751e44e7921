"""How sizes, counts and states read: the words that HTML, text and markdown share, so that they tell one story."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..facts import Cost, Flag, Formula, Row, Story, TensorSpec, View
from ..outline import GroupNode, HiddenNode, Outline, RowNode, Totals

_UNSAFE = re.compile("[^ -~]")
#: Joiners and variation selectors that emoji and scripts need; every other invisible character is written out.
_KEPT_FORMAT = frozenset("\u200c\u200d\ufe0e\ufe0f")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def plain(text: str) -> str:
    """Write out what would move a cursor, hide or reverse text: ``"a\\nb"`` -> ``"a\\\\nb"``."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_write_out, text)


def _write_out(match: re.Match[str]) -> str:
    char = match.group()
    if unicodedata.category(char) not in _INVISIBLE or char in _KEPT_FORMAT:
        return char
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def format_size(shape: Sequence[int]) -> str:
    """``[1, 3, 224, 224]``; the ragged dim of a nested tensor reads ``ragged``."""
    return "[" + ", ".join("ragged" if size == -1 else str(size) for size in shape) + "]"


def format_formula(formula: Formula) -> str:
    """``[B, 64, ⌈H/2⌉, ⌈W/2⌉]``."""
    return "[" + ", ".join(plain(dim) for dim in formula) + "]"


def format_count(number: int) -> str:
    """``1,234,567``."""
    return f"{number:,}"


def format_short(number: int) -> str:
    """Three digits and a unit from a million on: ``1.81 G``; exact below."""
    return f"{number:,}" if number < 1_000_000 else _scale(number, 1000, ("", "k", "M", "G", "T", "P", "E"))


def format_bytes(number: int) -> str:
    """``42.6 MiB``."""
    return f"{number:,} B" if number < 1024 else _scale(number, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def _scale(number: int, base: int, units: Sequence[str]) -> str:
    value, unit = float(number), 0
    while value >= base and unit < len(units) - 1:
        value /= base
        unit += 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f} {units[unit]}"


def format_percent(part: int, whole: int) -> str:
    """``12.3%``; ``<0.1%`` for what is there but small."""
    if not part or not whole:
        return "0%"
    share = 100 * part / whole
    return "<0.1%" if share < 0.05 else "100%" if part == whole else f"{min(share, 99.9):.1f}%"


def plural(number: int, one: str, many: str = "") -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# Leaves -----------------------------------------------------------------------------------------------------------

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Line:
    """Leaves that are shown as one line.

    Attributes:
        label: Key path, ``""`` for a bare tensor, ``"[0][0] … [11][1]"`` for several.
        shape: Their size.
        times: How many leaves it stands for.
        bold: Per dim, whether the row changed it.
        formula: Its formula if known.
    """

    label: str
    shape: tuple[int, ...]
    times: int = 1
    bold: tuple[bool, ...] = ()
    formula: Formula | None = None


def format_leaves(
    leaves: Sequence[TensorSpec],
    formulas: Sequence[Formula | None] = (),
    against: Sequence[TensorSpec] = (),
) -> tuple[Line, ...]:
    """One line per leaf; from the fifth on, neighbours of one size whose keys differ in numbers only share a line.

    Args:
        leaves: Tensors in or out of a call.
        formulas: Per leaf its formula or ``None``; may be shorter.
        against: The tensors that went in, to mark what the row changed; empty to mark nothing.
    """
    lines: list[Line] = []
    start = 0
    while start < len(leaves):
        stop = start + 1
        if len(leaves) > 4:
            key = _DIGITS.sub("#", leaves[start].name)
            while stop < len(leaves) and leaves[stop].shape == leaves[start].shape:
                if _DIGITS.sub("#", leaves[stop].name) != key:
                    break
                stop += 1
        first, last = leaves[start], leaves[stop - 1]
        label = plain(first.name) if stop == start + 1 else f"{plain(first.name)} … {plain(last.name)}"
        bold = changed_dims(first, against) if against else ()
        formula = formulas[start] if start < len(formulas) else None
        lines.append(Line(label, first.shape, stop - start, bold, formula))
        start = stop
    return tuple(lines)


def changed_dims(leaf: TensorSpec, against: Sequence[TensorSpec]) -> tuple[bool, ...]:
    """Say per dim of an output whether the row changed it.

    The output is held against the input of the same name, else the most similar one of the same rank, else the first.
    With another rank, what stands between the common head and the common tail is what changed.

    Example:
        >>> changed_dims(TensorSpec("", (8, 400), "float32", "cpu"), [TensorSpec("", (8, 16, 5, 5), "float32", "cpu")])
        (False, True)
    """
    shape = leaf.shape
    same_rank = [other.shape for other in against if len(other.shape) == len(shape)]
    same_name = [other.shape for other in against if other.name == leaf.name and other.name]
    if same_rank and not same_name:
        before = max(same_rank, key=lambda other: sum(map(int.__eq__, other, shape)))
    else:
        before = same_name[0] if same_name else against[0].shape
    if len(before) == len(shape):
        return tuple(map(int.__ne__, shape, before))
    head = 0
    while head < min(len(before), len(shape)) and before[head] == shape[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(shape)) - head and before[-1 - tail] == shape[-1 - tail]:
        tail += 1
    return tuple(head <= at < len(shape) - tail for at in range(len(shape)))


def format_leaf(line: Line, *, mark: tuple[str, str] = ("", "")) -> str:
    """``.logits [8, 10]``; ``mark`` goes around dims that changed."""
    dims = [
        f"{mark[0]}{word}{mark[1]}" if at < len(line.bold) and line.bold[at] else word
        for at, word in enumerate("ragged" if size == -1 else str(size) for size in line.shape)
    ]
    size = "[" + ", ".join(dims) + "]"
    times = f"{line.times} × " if line.times > 1 else ""
    return f"{line.label} {times}{size}" if line.label else f"{times}{size}"


def format_arrow(story: Story, row: Row, view: View, *, mark: tuple[str, str] = ("", "")) -> tuple[str, ...]:
    """Lines that say what went in and what came out, or why nothing did.

    One tensor each way is one line, ``[8, 3] → [8, 10]``; else every leaf has its own, outputs after an arrow.
    """
    ins, outs = row_lines(story, row, view)
    state = format_status(row, story)
    if len(ins) == 1 and len(outs) <= 1 and not (ins[0].label and outs and outs[0].label):
        after = format_leaf(outs[0], mark=mark) if outs else state
        return (f"{format_leaf(ins[0])} → {after}" if after else format_leaf(ins[0]),)
    lines = [format_leaf(line) for line in ins]
    lines += [f"→ {format_leaf(line, mark=mark)}" for line in outs]
    if state:
        lines.append(f"→ {state}" if ins else state)
    return tuple(lines)


def row_lines(story: Story, row: Row, view: View) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The lines for what went in and for what came out, as far as the view shows them."""
    ins = outs = ()
    if "input" in view.columns:
        ins = format_leaves(row.inputs, story.input_formulas.get(row.index, ()))
    if "output" in view.columns:
        outs = format_leaves(row.outputs, story.formulas.get(row.index, ()), row.inputs)
    return ins, outs


def format_status(row: Row, story: Story) -> str:
    """``failed``, ``not reached``, ``not called``; nothing for a row that ran, or where nothing was run at all.

    A list of modules is never called itself: nothing is said of one in which something ran.
    """
    if row.status == "uncalled" and (story.trace.engine == "static" or _has_run_inside(story, row)):
        return ""
    return {"ran": "", "failed": "failed", "unreached": "not reached", "uncalled": "not called"}[row.status]


def _has_run_inside(story: Story, row: Row) -> bool:
    stack = list(story.children.get(row.index, ()))
    while stack:
        index = stack.pop()
        if story.rows[index].status in ("ran", "failed"):
            return True
        stack.extend(story.children.get(index, ()))
    return False


# Names ------------------------------------------------------------------------------------------------------------


def format_name(node: RowNode, row: Row) -> tuple[str, str]:
    """The two words of a row: its name and its type; either may be empty.

    The model has no name but its type, an operation no type but its arguments; ``call 2`` is said of later calls.
    """
    again = f"call {row.call_index + 1}" if row.call_index and row.kind == "module" else ""
    if row.kind == "op":
        return plain(node.name), f"({plain(row.extra_repr)})" if row.extra_repr else ""
    return plain(node.name), " ".join(filter(None, (plain(row.type_name), again)))


def format_group(node: GroupNode) -> tuple[str, str]:
    """``("layer.0–11", "12 × BertLayer")``; calls of one module read ``("cell", "16 calls × GRUCell")``."""
    types = ", ".join(plain(name) for name in node.types)
    types = f"({types})" if len(node.types) > 1 else types
    calls = " calls" if node.same_module else ""
    return plain(node.name), f"{len(node.members)}{calls} × {types}"


def format_hidden(node: HiddenNode) -> str:
    """What stands where rows are left out."""
    return f"… {plural(node.num_rows, 'more row')} not shown here"


# Numbers ----------------------------------------------------------------------------------------------------------


def format_params(row: Row) -> str:
    """``1,234``, empty for rows without parameters and for later calls of the same module."""
    return format_count(row.num_params) if row.num_params and row.kind == "module" else ""


def format_macs(cost: Cost | Totals | None) -> str:
    """``1.81 G``, ``?`` where unknown, empty for nothing."""
    if cost is None:
        return ""
    return "?" if cost.mult_adds is None else format_short(cost.mult_adds) if cost.mult_adds else ""


def format_activation(cost: Cost | Totals | None) -> str:
    """``3.0 MiB``, ``?`` where unknown, ``~`` before what is approximate, empty for nothing."""
    if cost is None:
        return ""
    if cost.activation_bytes is None:
        return "?"
    about = "~" if getattr(cost, "approximate", False) else ""
    return about + format_bytes(cost.activation_bytes) if cost.activation_bytes else ""


#: Columns of numbers, in the order they are shown, with their heads.
NUMBERS = (("params", "params"), ("macs", "MACs"), ("activation", "activation"))


def number_heads(view: View) -> tuple[str, ...]:
    """Heads of the number columns that the view shows."""
    return tuple(head for column, head in NUMBERS if column in view.columns)


def row_numbers(story: Story, view: View, row: Row) -> tuple[str, ...]:
    """A row's numbers, in the order of ``number_heads``."""
    cost = story.costs.get(row.index)
    cells = {
        "params": format_params(row),
        "macs": format_macs(cost),
        "activation": format_activation(cost),
    }
    return tuple(cells[column] for column, _ in NUMBERS if column in view.columns)


def group_numbers(story: Story, view: View, node: GroupNode) -> tuple[str, ...]:
    """What all blocks of a group add up to."""
    totals = node.totals if story.costs else None
    cells = {
        "params": format_count(node.totals.num_params) if node.totals.num_params else "",
        "macs": format_macs(totals),
        "activation": format_activation(totals),
    }
    return tuple(cells[column] for column, _ in NUMBERS if column in view.columns)


def size_head(view: View) -> str:
    """``input → output``."""
    return " → ".join(word for word in ("input", "output") if word in view.columns)


def group_row(story: Story, node: GroupNode) -> Row:
    """What one block of a group takes and gives, as one row."""
    first, last = story.rows[node.members[0][0]], story.rows[node.members[0][-1]]
    return last if first is last else replace(last, inputs=first.inputs)


def group_sizes(story: Story, view: View, node: GroupNode, *, mark: tuple[str, str] = ("", "")) -> tuple[str, ...]:
    """What one block of a group takes and gives."""
    return format_arrow(story, group_row(story, node), view, mark=mark)


def format_members(story: Story, node: GroupNode) -> str:
    """The paths that a group stands for; of many the first and the last."""
    paths = list(dict.fromkeys(story.rows[row].path for block in node.members for row in block))
    shown = [plain(path) for path in paths]
    return ", ".join(shown if len(shown) <= 24 else [*shown[:12], "…", *shown[-4:]])


def op_name(row: Row) -> str:
    """What an operation is called."""
    return row.type_name


def extra_lines(story: Story, row: Row, view: View) -> list[str]:
    """Formulas and source line, where the view has columns for them."""
    lines = []
    if "formula" in view.columns:
        lines += [format_formula(formula) for formula in story.formulas.get(row.index, ()) if formula]
    if "source" in view.columns and row.source:
        lines.append(plain(row.source))
    return lines


# The story as a whole ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failing:
    """How a failure is worded, by the room that knows.

    Attributes:
        text: Everything in the words of the house, several lines; ``""`` to say what the trace itself says.
        reason, fix: Why, and what to change.
    """

    text: str = ""
    reason: str = ""
    fix: str = ""


def find_title(story: Story) -> str:
    """``ResNet``; ``AutoencoderKL.encode`` where another method was called."""
    method = "" if story.trace.method in ("", "forward") else f".{plain(story.trace.method)}"
    return plain(story.trace.model_type) + method


def find_headline(story: Story) -> str:
    """The first line where a reader must know how the sizes came to be; ``""`` for the fake engine."""
    reason = plain(story.trace.engine_reason)
    if story.trace.engine == "real":
        return f"ran for real: {reason}" if reason else "ran for real"
    if story.trace.engine == "static":
        return "nothing was run, so sizes are not known" + (f": {reason}" if reason else "")
    return ""


def find_failed(story: Story) -> str:
    """``the forward failed in up1 (cat) at unet.py:22``; ``""`` if it did not."""
    failure = story.trace.failure
    if failure is None:
        return ""
    index = failed_row(story)
    where = ""
    if index is not None:
        row = story.rows[index]
        path, inner = plain(row.path) or "the model", row.type_name
        where = f" in {path} ({plain(inner)})" if inner else f" in {path}"
    at = f" at {plain(failure.source.file)}:{failure.source.line}" if failure.source else ""
    return f"the forward failed{where}{at}"


def find_given(story: Story) -> tuple[str, ...]:
    """The model's input, a line per leaf: ``ids [B=8, T=128] int64``."""
    lines = []
    for fact in story.trace.inputs:
        dims = []
        for at, size in enumerate(fact.spec.shape):
            name = fact.dims[at] if at < len(fact.dims) else ""
            dims.append(f"{plain(name)}={size}" if name else format_size((size,))[1:-1])
        words = [plain(fact.spec.name), "[" + ", ".join(dims) + "]", fact.spec.dtype]
        words.append("(inferred)" if fact.given == "inferred" else "")
        lines.append(" ".join(filter(None, words)))
    return tuple(lines)


def total_mult_adds(story: Story) -> int | None:
    """Mult-adds of the whole trace as far as they are known; ``None`` where none were counted."""
    own = [cost.own_mult_adds for cost in story.costs.values() if cost.own_mult_adds is not None]
    return sum(own) if own else None


def find_macs(story: Story) -> str:
    """``1.81 G MACs``, ``≥ 1.81 G MACs`` where operations are unknown; ``""`` where none were counted."""
    total = total_mult_adds(story)
    if total is None:
        return ""
    unsure = story.unknown_ops or any(cost.mult_adds is None for cost in story.costs.values())
    if unsure and not total:
        return "MACs unknown"
    return f"{'≥ ' if unsure else ''}{format_short(total)} MACs"


def find_params(story: Story) -> str:
    """``25,557,032 parameters``, with what trains where that is not all of them."""
    total, trains = story.total_params, story.trainable_params
    words = plural(total, "parameter")
    if total and trains == 0:
        return f"{words}, all frozen"
    if trains < total:
        return f"{words}, {trains:,} trainable"
    return words


def find_memory(story: Story) -> str:
    """``62 MiB to run, 310 MiB to train``; ``""`` where memory was not estimated."""
    memory = story.memory
    if memory is None:
        return ""
    about = "about " if memory.approximate else ""
    parts = []
    if memory.inference_bytes is not None:
        parts.append(f"{about}{format_bytes(memory.inference_bytes)} to run")
    if memory.training_bytes is not None:
        parts.append(f"{about}{format_bytes(memory.training_bytes)} to train ({plain(memory.optimizer)})")
    return ", ".join(parts)


def find_memory_parts(story: Story) -> list[tuple[str, str]]:
    """Where the memory goes, a line per kind."""
    memory = story.memory
    if memory is None:
        return []
    parts = [
        ("parameters", memory.param_bytes), ("buffers", memory.buffer_bytes), ("input", memory.input_bytes),
        ("kept for the backward pass", memory.activation_bytes), ("gradients", memory.gradient_bytes),
        (f"optimizer state ({plain(memory.optimizer)})", memory.optimizer_bytes),
        ("peak of live tensors in the forward", memory.forward_peak_bytes),
    ]  # fmt: skip
    return [(name, "unknown" if value is None else format_bytes(value)) for name, value in parts if value != 0]


def find_totals(story: Story) -> tuple[str, ...]:
    """Parameters, MACs and memory, each as one phrase."""
    return tuple(filter(None, (find_params(story), find_macs(story), find_memory(story))))


def count_flags(flags: Iterable[Flag]) -> str:
    """``1 error, 2 warnings``; ``""`` for none."""
    counts: dict[str, int] = {"error": 0, "warning": 0, "note": 0}
    for flag in flags:
        counts[flag.severity] += 1
    return ", ".join(plural(number, word) for word, number in counts.items() if number)


def find_caveats(story: Story) -> tuple[str, ...]:
    """What the totals leave out and which sizes work."""
    lines = []
    if story.unknown_ops:
        lines.append("not counted in MACs: " + ", ".join(plain(op) for op in story.unknown_ops))
    if story.constraints:
        lines.append("works for " + "; ".join(plain(words) for words in story.constraints))
    lines += [f"fails at {plain(sizes)}: {plain(reason)}" for sizes, reason in story.failed_at]
    return tuple(lines)


def find_footer(story: Story, outline: Outline, passes: int | None) -> tuple[str, ...]:
    """Engine and passes, and what this view leaves out."""
    engine = {
        "fake": "traced with fake tensors: nothing was computed, nothing of the model was touched",
        "real": "traced by running it",
        "static": "read from the module tree",
    }[story.trace.engine]
    lines = [engine + (f" · {plural(passes, 'pass', 'passes')}" if passes else "")]
    if outline.num_ops:
        lines.append(f"{plural(outline.num_ops, 'operation')} not shown (ops=True shows them)")
    if outline.num_hidden:
        lines.append(f"{plural(outline.num_hidden, 'row')} of {outline.num_rows:,} not shown: to_frame() has them all")
    return tuple(lines)


def failing_lines(story: Story, failing: Failing) -> tuple[str, ...]:
    """What is said at the row that failed; the trace's own words where nobody has better ones."""
    failure = story.trace.failure
    if failing.text:
        return tuple(plain(line) for line in failing.text.splitlines())
    if failure is None:
        return ()
    where = f" at {plain(failure.source.file)}:{failure.source.line}" if failure.source else ""
    lines = [f"{plain(failure.error_type)}{where}: {plain(failure.message)}"]
    if failure.source_text:
        lines.append(f"line    {plain(failure.source_text)}")
    if failing.reason:
        lines.append(f"reason  {plain(failing.reason)}")
    if failing.fix:
        lines.append(f"fix     {plain(failing.fix)}")
    return tuple(lines)


def failed_row(story: Story) -> int | None:
    """Index of the innermost row that failed: where the failure is worded."""
    failure = story.trace.failure
    if failure is not None and failure.call is not None and failure.call in story.row_of_call:
        return story.row_of_call[failure.call]
    failed = [row.index for row in story.rows if row.status == "failed"]
    return failed[-1] if failed else None


def flag_lines(flag: Flag) -> tuple[str, str]:
    """``("warning grown-map: the map grew …", "padding=1")``."""
    return f"{flag.severity} {plain(flag.rule)}: {plain(flag.message)}", plain(flag.fix)
