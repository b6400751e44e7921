"""The walk over a trace's operations: every entry against what torch gives, and what a contradiction does."""

from __future__ import annotations

from typing import Any

import pytest

from modelsummary_ipy.axes import registry
from modelsummary_ipy.axes.align_events import align_events, find_repeats
from modelsummary_ipy.axes.expr import Expr, symbol
from modelsummary_ipy.axes.integers import Integers
from modelsummary_ipy.axes.meaning import input_axis
from modelsummary_ipy.axes.walk import Walk
from modelsummary_ipy.records.op_events import OpEvent, OpEvents, Repeat, TensorRef
from modelsummary_ipy.shapes.expr_text import write


def walk(*events: OpEvent, shape: tuple[int, ...] = (7, 24), names: str = "B T") -> Walk:
    """Walk over operations on one input, each of whose dims has a name."""
    ref = TensorRef(0, shape, "float32")
    sizes = dict(zip(names.split(), shape, strict=True))
    others = {name: size + 11 for name, size in sizes.items()}
    given = [symbol(name) for name in names.split()]
    moved = [event._replace(args=move(event.args, sizes, others), outputs=tuple(
        out._replace(shape=tuple(others.get(find(sizes, n), n) for n in out.shape)) for out in event.outputs
    )) for event in events]  # fmt: skip
    found = Walk(OpEvents(list(events), inputs=[ref]), [moved], [given], Integers([sizes, others]))
    found.run()
    return found


def find(sizes: dict[str, int], size: int) -> str:
    return next((name for name, known in sizes.items() if known == size), "")


def move(args: Any, sizes: dict[str, int], others: dict[str, int]) -> dict[str, Any]:
    return {
        name: [others.get(find(sizes, n), n) for n in value] if isinstance(value, list) else value
        for name, value in args.items()
    }


X = TensorRef(0, (7, 24), "float32")


def test_an_operation_without_an_entry_is_opaque_and_named_by_its_values() -> None:
    found = walk(OpEvent("mylib.unknown", {"x": X}, (TensorRef(1, (24, 7), "float32"),), 0)).found
    assert found.axes[1] == [symbol("T"), symbol("B")]
    assert found.opaque == {"mylib.unknown": 1}


@pytest.mark.parametrize(("given", "steps"), [(0, 1), (1, 2)])
def test_what_repeats_operations_is_walked_where_it_reads_other_axes(
    given: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[registry.Op] = []

    def relu(op: registry.Op) -> Any:
        read.append(op)
        return [op.axes("self")]

    monkeypatch.setitem(registry._entries, "aten.relu", relu)
    refs = [TensorRef(number, (7, 7), "float32") for number in range(4)]
    events = [OpEvent("aten.relu", {"self": refs[place]}, (refs[place + 2],), 0) for place in (0, given)]
    ops = OpEvents(events, inputs=[refs[0], refs[1]], repeats={1: Repeat(0, 1, ((0, given),), ((2, given + 2),))})
    axes = [[symbol("B"), symbol("T")], [symbol("T"), symbol("B")]]
    aligned = [align_events(ops, ops, {0: 0})]
    found = Walk(ops, aligned, axes, Integers([{"B": 7, "T": 7}]), find_repeats(ops, [ops], aligned)).run()
    assert (found.axes[2], found.axes[given + 2], len(read)) == (axes[0], axes[given], steps)
    assert not find_repeats(ops, [OpEvents(events)], aligned), "the other trace ran it"


def test_an_entry_that_contradicts_torch_is_reported_and_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._entries, "aten.relu", lambda op: [op.axes("self")[::-1]])
    found = walk(OpEvent("aten.relu", {"self": X}, (TensorRef(1, (7, 24), "float32"),), 0)).found
    assert found.axes[1] == [symbol("B"), symbol("T")]
    ((index, made, given),) = found.wrong
    assert (index, made, given[0].shape) == (0, [[symbol("T"), symbol("B")]], (7, 24))
    line = "the entry of aten::relu in call 0: of (7, 24) it gives [(24, 7)], torch makes (7, 24)"
    assert found.contradicted == {"aten.relu": line}


def test_the_owner_of_an_integer_is_found_by_its_values() -> None:
    event = OpEvent("aten.view", {"self": X, "size": [24, 7]}, (TensorRef(1, (24, 7), "float32"),), 0)
    assert walk(event).found.axes[1] == [symbol("T"), symbol("B")]


def test_what_is_left_of_a_view_is_divided_by_structure() -> None:
    event = OpEvent("aten.view", {"self": X, "size": [-1, 4]}, (TensorRef(1, (42, 4), "float32"),), 0)
    ref = TensorRef(0, (7, 24), "float32")
    samples = [{"B": 7, "T": 24}, {"B": 9, "T": 36}]
    other = event._replace(outputs=(TensorRef(1, (81, 4), "float32"),))
    walked = Walk(OpEvents([event], inputs=[ref]), [[other]], [[symbol("B"), symbol("T")]], Integers(samples)).run()
    size = walked.axes[1][0]
    assert isinstance(size, Expr)
    assert [size.value({"B": 5, "T": t}) for t in (8, 40)] == [10, 50]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((35, 17, 51), "2·T + 1"),
        ((-34, -16, -50), "-2·T"),
        ((16, 7, 24), "T - 1"),
        ((17, 7, 25), "2·⌈T/2⌉ - 1"),
        ((18, 8, 26), "2·⌈T/2⌉"),
        ((23, 8, 15), None),
    ],
)
def test_an_integer_is_an_expression_that_has_all_its_values(values: tuple[int, ...], text: str | None) -> None:
    found = Integers([{"B": 19, "T": 17}, {"B": 3, "T": 8}, {"B": 22, "T": 25}]).find(values)
    assert (None if found is None else write(found, ["B", "T"])) == text  # type: ignore[arg-type]  # no number is drawn


def test_traces_of_one_size_tell_of_a_step_beside_two_others() -> None:
    found = Integers([{"B": 19, "W": 10}, {"B": 3, "W": 7}, {"B": 22, "W": 16}, {"B": 20, "W": 10}]).find((4, 0, 5, 4))
    assert isinstance(found, Expr)
    assert write(found, ["B", "W"]) == "7·⌈W/7⌉ - W"


def test_a_side_padded_to_even_is_not_taken_for_one_padded_to_eight() -> None:
    found = Integers([{"B": 19, "W": 39}, {"B": 3, "W": 56}, {"B": 22, "W": 47}]).find((1, 0, 1))
    assert isinstance(found, Expr)
    assert write(found, ["B", "W"]) == "2·⌈W/2⌉ - W"


def test_a_quarter_rounded_up_is_likelier_than_three_of_eleven() -> None:
    steps = dict(zip((51, 39, 45, 42, 34), (13, 10, 12, 11, 9), strict=True))
    found = Integers([{"B": 19 + at % 5, "T": at} for at in steps]).find(tuple(steps.values()))
    assert isinstance(found, Expr)
    assert write(found, ["B", "T"]) == "⌈T/4⌉"


def test_the_name_of_what_is_joined_again_and_again_stays_short() -> None:
    axis = input_axis("T", 1)
    for _ in range(40):
        axis = axis + axis
    assert axis.size == 2**40
    assert len(axis.factors[0].name) <= 2 * 400 + 3
