"""Two stories → what changed between them, and which sizes moved otherwise than their formula predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelsummary_ipy.records.summary import Change, Flag, Row, Story
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.dim_names import name_dims
from modelsummary_ipy.shapes.expr_text import evaluate

Key = tuple[str, int]


def find_changes(old: Story, new: Story) -> tuple[Change, ...]:
    """Compare the modules of two stories, call by call.

    A row is the same in both if it is the same call of the same path. Where the sizes of a row differ and are what the
    older story's formula gives for the newer input, the row has *moved* as predicted. Where they differ otherwise the
    *size* has changed: the model was edited, or the forward goes another way at the new sizes.

    Returns:
        The changes in the order of the new rows; what was removed is at the end. Rows that are alike have none.
    """
    before, after = _list_rows(old), _list_rows(new)
    sizes = _read_sizes(old.trace, new.trace)
    changes: list[Change] = []
    for key, row in after.items():
        known = before.get(key)
        if known is None:
            changes.append(Change(row.path, "added", None, row.index))
        else:
            changes += _compare(old, new, known, row, sizes)
    changes += [Change(row.path, "removed", row.index, None) for key, row in before.items() if key not in after]
    return tuple(changes)


def find_otherwise(old: Story, new: Story, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Find the changes of size that a formula has another prediction for.

    At the same input sizes a formula predicts nothing new: then the model was edited.
    """
    if [fact.spec.shape for fact in old.trace.inputs] == [fact.spec.shape for fact in new.trace.inputs]:
        return ()
    return tuple(change for change in changes if _moved_otherwise(old, new, change))


def flag_unexpected(old: Story, new: Story, changes: Sequence[Change]) -> tuple[Flag, ...]:
    """Flag the rows of ``new`` where shapes begin to change otherwise than their formula predicts.

    The rows that ran right after one, and those around it, mostly follow from it; the flag has their number.
    """
    found = {change.new: change.old for change in find_otherwise(old, new, changes)}
    around = {row.parent for row in new.rows if row.kind == "module"}
    runs: list[list[Row]] = []
    follows = False
    for row in new.rows:
        if row.kind == "op" or row.index in around or row.status != "ran":
            continue
        if row.index in found:
            if not follows:
                runs.append([])
            runs[-1].append(row)
        follows = row.index in found
    if found and not runs:  # what a module itself does between its layers
        runs = [[max((new.rows[index] for index in found if index is not None), key=lambda row: row.depth)]]
    return tuple(_flag(old, found[run[0].index], run) for run in runs)


def _flag(old: Story, index: int | None, run: list[Row]) -> Flag:
    assert index is not None
    after, before = run[0], old.rows[index]
    was, now = (", ".join(str(list(size)) for size in _sizes(row)) for row in (before, after))
    formulas = ", ".join(f"[{', '.join(formula)}]" for formula in old.formulas.get(index, ()) if formula)
    message = f"{was} at the old sizes, {now} at the new; its formula was {formulas}"
    if len(run) > 1:
        message += f"; {'the next row follows' if len(run) == 2 else f'the next {len(run) - 1:,} rows follow'} from it"
    return Flag("moved-otherwise", "warning", after.index, after.path, message)


def _moved_otherwise(old: Story, new: Story, change: Change) -> bool:
    if change.what != "size" or change.expected is not False or change.old is None or change.new is None:
        return False
    return old.rows[change.old].status == new.rows[change.new].status == "ran" and bool(old.formulas.get(change.old))


def find_settings(old: Story, before: Row, new: Story, after: Row) -> tuple[str, str]:
    """Find in what a module is set up otherwise: ``("p=0.1", "p=0.2")``; ``("", "")`` where in nothing.

    Of a layer of torch's that is any setting, of others what their ``extra_repr`` says: an attribute may be a counter.
    """
    was, now = _read_settings(old, before), _read_settings(new, after)
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    one, two = (
        ", ".join(f"{name}={found[name]!r}" if name else found[name] for name in names if name in found)
        for found in (was, now)
    )
    return one, two


def _read_settings(story: Story, row: Row) -> Mapping[str, Any]:
    if row.module is not None and row.module < len(story.trace.modules):
        fact = story.trace.modules[row.module]
        if fact.type_module.startswith("torch.nn."):
            return fact.settings
    return {"": row.extra_repr}


def _list_rows(story: Story) -> Mapping[Key, Row]:
    return {(row.path, row.call_index): row for row in story.rows if row.kind == "module"}


def _compare(old: Story, new: Story, before: Row, after: Row, sizes: Mapping[str, int] | None) -> list[Change]:
    found: list[Change] = []
    if before.type_name != after.type_name:
        found.append(Change(after.path, "type", before.index, after.index))
    more = after.trainable_params - before.trainable_params if after.own_params else 0
    if before.own_params != after.own_params:
        found.append(Change(after.path, "params", before.index, after.index))
    elif more:
        found.append(Change(after.path, "trainable" if more > 0 else "frozen", before.index, after.index))
    if not found and any(find_settings(old, before, new, after)):  # those of other parameters follow from these
        found.append(Change(after.path, "settings", before.index, after.index))
    if _sizes(before) != _sizes(after) and "ran" in (before.status, after.status):
        expected = _is_expected(old, before, after, sizes)
        found.append(Change(after.path, "moved" if expected else "size", before.index, after.index, expected))
    elif before.status != after.status:
        found.append(Change(after.path, "size", before.index, after.index, False))
    return found


def _sizes(row: Row) -> tuple[tuple[int, ...], ...]:
    return tuple(spec.shape for spec in row.outputs)


def _read_sizes(old: Trace, new: Trace) -> Mapping[str, int] | None:
    """Read the newer input's sizes by the names that the older one's dims have; ``None`` if they do not fit these."""
    if len(old.inputs) != len(new.inputs):
        return None
    sizes: dict[str, int] = {}
    for names, was, now in zip(name_dims(old).dims, old.inputs, new.inputs, strict=True):
        if len(was.spec.shape) != len(now.spec.shape):
            return None
        for name, before, after in zip(names, was.spec.shape, now.spec.shape, strict=True):
            if after != (sizes.setdefault(name, after) if name else before):
                return None
    return sizes


def _is_expected(old: Story, before: Row, after: Row, sizes: Mapping[str, int] | None) -> bool | None:
    """Return whether the older formula gives the newer sizes; ``None`` if there is no formula, or none here."""
    formulas = old.formulas.get(before.index, ())
    if before.status != after.status or len(before.outputs) != len(after.outputs):
        return False
    if sizes is None or not formulas or None in formulas:
        return None
    try:
        predicted = tuple(tuple(evaluate(dim, sizes) for dim in formula) for formula in formulas if formula is not None)
    except (KeyError, ValueError):
        return False  # no integer at these sizes, and the forward ran
    return predicted == _sizes(after)
