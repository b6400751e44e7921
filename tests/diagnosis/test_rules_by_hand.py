"""Rules on records made by hand: one that bites and its look-alike, without a model, without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelsummary_ipy.diagnosis.rules import RULES, find_flags
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.op_events import AxisFinding
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.trace import Call, InputFact, Link, ModuleFact, ParamFact, TensorSpec, Trace

Size = tuple[int, ...]


def spec(shape: Size, dtype: str = "float32", device: str = "cpu") -> TensorSpec:
    return TensorSpec("", shape, dtype, device)


def step(index: int, type_name: str, given: Any, made: Any, reads: tuple[int | None, ...] = (), **more: Any) -> Call:
    """One step inside the model's call; ``reads`` are the calls that made its inputs, -1 for the model's own input."""
    inputs = tuple(item if isinstance(item, TensorSpec) else spec(item) for item in given)
    output = made if isinstance(made, TensorSpec) else spec(made)
    links = tuple(None if read is None else Link(read, 0) for read in reads or (index - 1 or -1,))
    path, kind = more.pop("path", ""), "module" if "module" in more else "op"
    return Call(
        index, kind, path, type_name, 0, 1, inputs=inputs, outputs=(output,), input_links=links,
        output_links=(Link(index, 0),), **{"module": 0, **more},
    )  # fmt: skip


def layer(index: int, path: str, type_name: str, **more: Any) -> ModuleFact:
    return ModuleFact(index, (path,), type_name, **{"parent": 0, "training": True, "forward_file": "net.py", **more})


def tell(
    *steps: Call,
    modules: tuple[ModuleFact, ...] = (),
    params: tuple[ParamFact, ...] = (),
    dims: tuple[str, ...] = (),
    peak: int | None = None,
    **story: Any,
) -> Story:
    """A story of a model whose forward took those steps in a row, and gives back what the last one made."""
    first, last = steps[0], steps[-1]
    root = Call(
        0, "module", "", "Net", None, 0, module=0, inputs=first.inputs[:1], outputs=last.outputs,
        input_links=(Link(-1, 0),), output_links=(Link(last.index, 0),),
    )  # fmt: skip
    reads = frozenset({"used"})
    children = tuple(fact.index for fact in modules)
    net = ModuleFact(0, ("",), "Net", children=children, training=True, reads=reads, forward_file="net.py")
    calls = (root, *steps)
    rows = [
        Row(c.index, c.path, c.type_name, c.kind, c.depth, 0, c.inputs, c.outputs, call=c.index, module=c.module)
        for c in calls
    ]
    called = {call.module for call in calls}
    for fact in modules:
        if fact.index not in called:
            rows.append(Row(len(rows), fact.path, fact.type_name, "module", 1, status="uncalled", module=fact.index))
    trace = Trace(
        calls, (net, *modules), params, (InputFact(first.inputs[0], dims),), last.outputs, peak_bytes=peak
    )  # fmt: skip
    return Story(trace, tuple(rows), **story)


def ask(rule: str, story: Story) -> list[tuple[str, int, str]]:
    return [(flag.severity, flag.row, flag.message) for flag in RULES[rule](Evidence(story))]


# -- sizes ------------------------------------------------------------------------------------------------------------


def convolve(padding: int, size: int, *after: Call) -> Story:
    settings = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (padding, padding), "dilation": (1, 1)}
    conv = layer(1, "conv", "Conv2d", settings=settings)
    made = (2, 16, size, size)
    return tell(step(1, "Conv2d", [(2, 1, 256, 256)], made, path="conv", module=1), *after, modules=(conv,))


def test_a_padding_that_grows_the_map_is_a_warning_on_its_row() -> None:
    ((severity, row, message),) = ask("grown-map", convolve(5, 264))
    assert (severity, row) == ("warning", 1)
    assert "256" in message
    assert "264" in message


def test_a_map_that_keeps_its_size_or_is_cropped_again_is_left_alone() -> None:
    assert ask("grown-map", convolve(1, 256)) == []
    crop = step(2, "getitem", [(2, 16, 264, 264)], (2, 16, 256, 256))
    assert ask("grown-map", convolve(5, 264, crop)) == []


def view(before: Size, after: Size, type_name: str = "view") -> Story:
    carved = (AxisFinding("carved", "aten.view", 2, ("T·C",)),)
    return tell(
        step(1, "relu", [before], before), step(2, type_name, [before], after), dims=("B",), axis_findings=carved
    )


def test_a_view_that_cuts_across_dims_is_flagged_and_no_transpose_is() -> None:
    assert [found[:2] for found in ask("reshape-swap", view((2, 5, 7), (2, 7, 5)))] == [("warning", 2)]
    assert ask("reshape-swap", view((2, 5, 7), (2, 7, 5), "transpose")) == []


def test_a_declared_size_that_is_not_met_is_an_error() -> None:
    story = tell(step(1, "relu", [(2, 6)], (2, 6)), dims=("B", ""))
    assert ask("declared-size", replace(story, expect={"": "B 6"})) == []
    ((severity, row, message),) = ask("declared-size", replace(story, expect={"": "B 7"}))
    assert (severity, row) == ("error", 0)
    assert "(B, 7)" in message
    assert "dim 1 is 6, not 7" in message


# -- what a tensor is -------------------------------------------------------------------------------------------------


def test_an_image_without_a_batch_is_a_note() -> None:
    conv = layer(1, "conv", "Conv2d")
    ((severity, row, message),) = ask(
        "batchless-input", tell(step(1, "Conv2d", [(3, 8, 8)], (4, 8, 8), path="conv", module=1), modules=(conv,))
    )
    assert (severity, row) == ("note", 1)
    assert message.endswith("3 dims, not 4")
    batched = tell(step(1, "Conv2d", [(1, 3, 8, 8)], (1, 4, 8, 8), path="conv", module=1), modules=(conv,))
    assert ask("batchless-input", batched) == []


def widen(type_name: str = "mul") -> Story:
    wide, narrow = spec((2, 6), "float64"), spec((2, 6))
    constant = step(2, type_name, [narrow, spec((6,), "float64")], wide, (1, None))
    weight = ParamFact(0, ("fc.weight",), (6, 6), "float32", "cpu", 36, 144, True)
    return tell(step(1, "relu", [(2, 6)], (2, 6)), constant, params=(weight,))


def test_a_float64_constant_that_widens_the_output_is_flagged_where_it_comes_in() -> None:
    assert [(severity, row) for severity, row, _ in ask("strange-dtype", widen())] == [("warning", 2)]
    assert ask("strange-dtype", widen("double")) == []


def test_a_hop_to_another_device_in_mid_forward_is_a_note() -> None:
    hop = step(2, "to", [(2, 6)], spec((2, 6), device="cuda:0"))
    assert [row for _, row, _ in ask("device-hop", tell(step(1, "relu", [(2, 6)], (2, 6)), hop))] == [2]
    copied = step(1, "to", [(2, 6)], spec((2, 6), device="cuda:0"))
    assert ask("device-hop", tell(copied)) == []


# -- how modules hang together, and memory ----------------------------------------------------------------------------


def keep(name: str, *, trainable: bool = True) -> Story:
    used = layer(1, "used", "Linear", params=(0,))
    spare = layer(2, name, "Linear", params=(1,))
    params = (
        ParamFact(0, ("used.weight",), (6, 6), "float32", "cpu", 36, 144, True),
        ParamFact(1, (f"{name}.weight",), (6, 6), "float32", "cpu", 36, 144, trainable),
    )
    ran = step(1, "Linear", [(2, 6)], (2, 6), path="used", module=1, params=(0,))
    return tell(ran, modules=(used, spare), params=params)


def test_a_layer_that_no_line_names_is_a_warning_and_a_frozen_one_is_left_alone() -> None:
    ((severity, row, message),) = ask("unused-layer", keep("forgotten"))
    assert (severity, row) == ("warning", 2)
    assert "36 parameters" in message
    assert "Net.forward" in message
    assert ask("unused-layer", keep("forgotten", trainable=False)) == []


def test_a_matrix_of_every_row_with_every_column_is_an_explosion() -> None:
    product = step(1, "matmul", [(40_000, 1), (1, 40_000)], (40_000, 40_000), (-1, None), made_bytes=6_400_000_000)
    total = step(2, "sum", [(40_000, 40_000)], (40_000,))
    ((severity, row, message),) = ask("memory-explosion", tell(product, total, peak=6_400_640_000))
    assert (severity, row) == ("warning", 1)
    assert "6 GiB" in message
    assert "40,000 × 40,000 float32" in message
    assert ask("memory-explosion", tell(product, total, peak=100_000_000_000)) == []


def test_flags_come_in_the_order_of_rows_and_those_that_are_ignored_do_not_come() -> None:
    story = replace(convolve(5, 264), expect={"": "B 1"})
    errors: list[str] = []
    assert [flag.rule for flag in find_flags(story, (), errors)] == ["declared-size", "grown-map"]
    assert [flag.rule for flag in find_flags(story, ("declared-size",), errors)] == ["grown-map"]
    assert errors == []


def test_no_rule_fails_on_a_story_of_one_step() -> None:
    story = tell(step(1, "relu", [(2, 6)], (2, 6)), dims=("B", ""))
    assert [list(rule(Evidence(story))) for rule in RULES.values()] == [[]] * len(RULES)
