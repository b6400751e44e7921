"""A row of the outline -> the text of its cells, without markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, RowNode, Step, Totals
from modelsummary_ipy.display.render.fit import story_writer
from modelsummary_ipy.display.render.formatting import brief, format_params, format_short, in_full, plain, plural
from modelsummary_ipy.display.render.layer_words import describe_layer
from modelsummary_ipy.display.render.size_cells import Line, format_formula, format_leaf, format_leaves
from modelsummary_ipy.records.summary import Cost, Row, Story, add_known
from modelsummary_ipy.records.view import View

#: Columns of numbers, in the order they are shown, with their heads; that of ``macs`` is what the view counts.
NUMBERS = (
    ("params", "params"), ("macs", "MACs"), ("backward", "backward"), ("train", "train"), ("activation", "activation"),
    ("peak", "peak"),
)  # fmt: skip
#: Most characters of a name, and of a type.
_NAME = 80
STATUSES = {"ran": "", "failed": "failed", "unreached": "not reached", "uncalled": "not called"}
ABSENCES = {
    "elsewhere": "its modules have rows of their own",
    "script": "inside TorchScript",
    "weights": "weights used without a call",
    "threads": "not traced: the forward starts threads",
}


def size_head(view: View) -> str:
    """``input → output``."""
    return " → ".join(column for column in ("input", "output") if column in view.columns)


def format_arrow(story: Story, row: Row, view: View, *, mark: tuple[str, str]) -> tuple[str, ...]:
    """Input and output, or why there is none, in lines.

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
    """The lines for input and output, as far as the view shows them."""
    ins: tuple[Line, ...] = ()
    outs: tuple[Line, ...] = ()
    if "input" in view.columns:
        ins = format_leaves(row.inputs, story.input_formulas.get(row.index, ()))
    if "output" in view.columns:
        outs = format_leaves(row.outputs, story.formulas.get(row.index, ()), row.inputs)
    return ins, outs


def formula_lines(story: Story, row: Row, view: View) -> tuple[str, ...]:
    """The formulas of a row's outputs, where the view has a column for them."""
    if "formula" not in view.columns:
        return ()
    return tuple(format_formula(formula) for formula in story.formulas.get(row.index, ()) if formula)


def format_source(row: Row, view: View) -> str:
    """The line that made a row, where the view has a column for it."""
    return plain(row.source) if "source" in view.columns and row.source else ""


def format_status(row: Row, story: Story) -> str:
    """``failed``, ``interrupted``, ``not reached``, ``not called`` or why; nothing where it ran or nothing was run.

    A list of modules is never called itself: one in which something ran has no status.
    """
    if row.status == "uncalled" and (story.trace.engine == "static" or _has_run_inside(story, row)):
        return ""
    failure = story.trace.failure
    if row.status == "failed" and failure is not None and failure.interrupted:
        return "interrupted"
    return ABSENCES.get(row.absence) or STATUSES[row.status]


def _has_run_inside(story: Story, row: Row) -> bool:
    stack = list(story.children.get(row.index, ()))
    while stack:
        index = stack.pop()
        if story.rows[index].status in ("ran", "failed"):
            return True
        stack.extend(story.children.get(index, ()))
    return False


def group_row(story: Story, node: GroupNode) -> Row:
    """Input and output of one block of a group, as one row."""
    first, last = story.rows[node.members[0][0]], story.rows[node.members[0][-1]]
    return last if first is last else last._replace(inputs=first.inputs)


# Names ----------------------------------------------------------------------------------------------------------------


def format_name(story: Story, node: RowNode, row: Row) -> tuple[str, str]:
    """The name of a row, and its type with what a layer of torch's is set to; either may be empty.

    The model has no name but its type, an operation no type but its arguments; later calls read ``call 2``. Where
    another method than ``forward`` was called, the model's type has it, and the calls that this makes are ``.forward``.
    """
    if row.kind == "op":
        return brief(node.name, _NAME), format_settings(row)
    method, earlier, kind = story.trace.method, row.call_index, format_type(story, row)
    if row.module == 0 and method not in ("", "forward"):
        kind += f".{plain(method)}" if earlier == 0 else ".forward"
        earlier -= 1
    return brief(node.name, _NAME), " ".join(filter(None, (kind, f"call {earlier + 1}" if earlier > 0 else "")))


def format_settings(row: Row) -> str:
    """The settings of a row as code writes them: ``(dim=1)``, ``[:, 0]`` of an index; nothing if there are none."""
    written = plain(row.extra_repr)
    if row.kind == "op" and row.type_name == "getitem" and written:
        return f"[{written[1:-1] if written[0] == '(' and written[-2:] != ',)' else written}]"
    return f"({written})" if written else ""


def format_type(story: Story, row: Row) -> str:
    """``Conv2d 3→64, k3 s2 p1``, ``BertLayer``."""
    known = row.kind == "module" and row.module is not None and row.module < len(story.trace.modules)
    words = describe_layer(story.trace.modules[row.module]) if known and row.module is not None else ""
    return " ".join(filter(None, (brief(row.type_name, _NAME), words)))


def format_note(story: Story, row: Row, group: GroupNode | None) -> str:
    """``each of 12`` for the block that stands for a group, ``frozen`` for weights that stay in a model that trains."""
    notes = [f"each of {len(group.members)}{' calls' if group.same_module else ''}"] if group is not None else []
    if row.kind == "module" and row.num_params and not row.trainable_params and story.trainable_params:
        notes.append("frozen")
    return ", ".join(notes)


def format_group(story: Story, node: GroupNode) -> tuple[str, str]:
    """``("layer.0–11", "12 × BertLayer")``; calls of one module read ``("cell", "16 calls × GRUCell 8→8")``."""
    if len(node.types) > 1:
        types = f"({brief(', '.join(node.types), _NAME)})"
    else:
        every = {format_type(story, story.rows[row]) for (row,) in node.members}
        types = every.pop() if len(every) == 1 else brief(node.types[0], _NAME)
    calls = " calls" if node.same_module else ""
    return brief(node.name, _NAME), f"{len(node.members)}{calls} × {types}"


def format_members(story: Story, node: GroupNode) -> str:
    """The paths of a group; of many the first and the last."""
    paths = list(dict.fromkeys(story.rows[row].path for block in node.members for row in block))
    shown = [brief(path) for path in paths]
    return ", ".join(shown if len(shown) <= 24 else [*shown[:12], "…", *shown[-4:]])


def format_hidden(node: HiddenNode) -> str:
    """The text shown where rows are left out."""
    return f"… {plural(node.num_rows, 'more row')} not shown here"


# Numbers --------------------------------------------------------------------------------------------------------------


def number_heads(view: View) -> tuple[str, ...]:
    """Heads of the number columns that the view shows."""
    return tuple(view.work if column == "macs" else head for column, head in NUMBERS if column in view.columns)


class Figure(NamedTuple):
    """One number cell: its column, the number (0 for nothing, ``None`` where unknown), and the number as text."""

    column: str
    number: int | None
    text: str

    def in_full(self, view: View) -> str:
        """``1,812,345,678`` for ``1.81 G``, ``3,145,728 bytes`` for ``3.00 MiB``; ``""`` where the text has all."""
        if not self.number:
            return ""
        if self.column in ("activation", "peak"):
            return in_full(self.number, self.text, "bytes")
        return in_full(self.number if self.column == "params" else view.count(self.number), self.text)


def row_figures(story: Story, view: View, row: Row) -> tuple[Figure, ...]:
    """The numbers of a row, in the order of ``number_heads``."""
    return _figures(story, view, row.placed_params, story.costs.get(row.index), [row.index])


def group_figures(story: Story, view: View, node: GroupNode) -> tuple[Figure, ...]:
    """What all blocks of a group add up to."""
    rows = [row for block in node.members for row in block]
    return _figures(story, view, node.totals.num_params, node.totals if story.costs else None, rows)


def _figures(
    story: Story, view: View, num_params: int, cost: Cost | Totals | None, rows: Sequence[int]
) -> tuple[Figure, ...]:
    forward, kept = (cost.mult_adds, cost.activation_bytes) if cost is not None else (0, 0)
    if story.trace.failure is not None and any(story.rows[row].status != "ran" for row in rows):
        forward, kept = forward or 0, kept or 0  # nothing is said of what a failure left unknown
    backward = add_known(*map(story.backward.get, rows)) if story.backward else 0
    numbers = {
        "params": num_params,
        "macs": forward,
        "backward": backward,
        "train": add_known(forward, backward) if story.backward else 0,
        "activation": kept,
        "peak": find_peak(story, rows) or 0,
    }
    write, about = story_writer(story), "~" if getattr(cost, "approximate", False) else ""

    def text(column: str, number: int | None) -> str:
        if not number:
            return "?" if number is None else ""
        if column == "params":
            return format_params(number)
        if column in ("activation", "peak"):
            return (about if column == "activation" else "") + write(number)
        return format_short(view.count(number))

    columns = [column for column, _ in NUMBERS if column in view.columns]
    return tuple(Figure(column, numbers[column], text(column, numbers[column])) for column in columns)


def find_peak(story: Story, rows: Iterable[int]) -> int | None:
    """The largest sum of live tensors while one of these rows ran, children included; ``None`` where not measured."""
    calls = (story.rows[row].call for row in rows)
    known = [story.trace.calls[call].live_bytes for call in calls if call is not None]
    return max((live for live in known if live is not None), default=None)


# A step of the outline ------------------------------------------------------------------------------------------------


class Cells(NamedTuple):
    """What text and markdown write of a row, a group, or rows that are left out."""

    name: str
    kind: str = ""
    note: str = ""
    sizes: tuple[str, ...] = ()
    formula: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    source: str = ""


def write_cells(story: Story, view: View, step: Step, *, mark: tuple[str, str] = ("", "")) -> Cells:
    """Write the cells of a step; ``mark`` goes around dims that the row changed."""
    node = step.node
    if isinstance(node, HiddenNode):
        return Cells(format_hidden(node), numbers=("",) * len(number_heads(view)))
    if isinstance(node, GroupNode):
        row, (name, kind), note = group_row(story, node), format_group(story, node), ""
        figures = group_figures(story, view, node)
    else:
        row = story.rows[node.row]
        (name, kind), note = format_name(story, node, row), format_note(story, row, step.in_group)
        figures = row_figures(story, view, row)
    return Cells(
        name, kind, note, format_arrow(story, row, view, mark=mark), formula_lines(story, row, view),
        tuple(figure.text for figure in figures), format_source(row, view) if isinstance(node, RowNode) else "",
    )  # fmt: skip
