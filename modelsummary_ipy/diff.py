"""Two stories → what changed between them, and which sizes moved otherwise than their formula predicts."""

from __future__ import annotations

from collections.abc import Mapping

from modelsummary_ipy.facts import Change, Formula, Row, Story

__all__ = ["find_changes"]

Key = tuple[str, int]


def find_changes(old: Story, new: Story) -> tuple[Change, ...]:
    """Compare the modules of two stories, call by call.

    A row is the same in both if it is the same call of the same path. Where the sizes of a row differ and both stories
    have one and the same formula for them, the formula predicts it: the row has *moved*. Where they differ otherwise
    the *size* has changed: the model was edited, or the formula does not tell the whole truth.

    Args:
        old: The story that came first.
        new: The story that came later.

    Returns:
        The changes in the order of the new rows; what was removed stands at the end. Rows that are alike have none.
    """
    before, after = _list_rows(old), _list_rows(new)
    changes: list[Change] = []
    for key, row in after.items():
        known = before.get(key)
        if known is None:
            changes.append(Change(row.path, "added", None, row.index))
        else:
            changes += _compare(old, new, known, row)
    changes += [Change(row.path, "removed", row.index, None) for key, row in before.items() if key not in after]
    return tuple(changes)


def _list_rows(story: Story) -> Mapping[Key, Row]:
    return {(row.path, row.call_index): row for row in story.rows if row.kind == "module"}


def _compare(old: Story, new: Story, before: Row, after: Row) -> list[Change]:
    found: list[Change] = []
    if before.type_name != after.type_name:
        found.append(Change(after.path, "type", before.index, after.index))
    frozen = bool(after.own_params) and before.trainable_params != after.trainable_params
    if before.own_params != after.own_params or frozen:
        found.append(Change(after.path, "params", before.index, after.index))
    if _sizes(before) != _sizes(after) and "ran" in (before.status, after.status):
        expected = _is_expected(old, new, before, after)
        found.append(Change(after.path, "moved" if expected else "size", before.index, after.index, expected))
    elif before.status != after.status:
        found.append(Change(after.path, "size", before.index, after.index, False))
    return found


def _sizes(row: Row) -> tuple[tuple[int, ...], ...]:
    return tuple(spec.shape for spec in row.outputs)


def _is_expected(old: Story, new: Story, before: Row, after: Row) -> bool | None:
    """Tell whether both stories know one formula for the row; ``None`` if one of them knows none."""
    earlier, later = old.formulas.get(before.index, ()), new.formulas.get(after.index, ())
    if before.status != after.status or len(earlier) != len(later):
        return False
    if not earlier or None in earlier or None in later:
        return None
    return all(_equal(one, other) for one, other in zip(earlier, later, strict=True))


def _equal(one: Formula | None, other: Formula | None) -> bool:
    return one is not None and one == other
