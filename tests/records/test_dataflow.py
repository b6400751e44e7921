"""Where tensors come from and who reads them, on a trace written by hand."""

from __future__ import annotations

import pytest

from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.trace import Call, Link, ModuleFact, TensorSpec, Trace


def make_call(index: int, name: str, shape: tuple[int, ...], *links: Link | None, **fields: object) -> Call:
    """One call that gives one tensor of ``shape`` and reads tensors of that shape."""
    spec = TensorSpec("", shape, "float32", "cpu")
    facts: dict[str, object] = {
        "inputs": (spec,) * len(links), "outputs": (spec,), "input_links": links, "output_links": (Link(index, 0),),
        "parent": 0 if index else None, **fields,
    }  # fmt: skip
    kind = "module" if name[0].isupper() else "op"
    return Call(index, kind, name.lower(), name, depth=1, **facts)  # type: ignore[arg-type]


@pytest.fixture
def flow() -> Dataflow:
    """``relu(fc(a)) + b`` in a container, beside a constant that nothing reads."""
    return Dataflow(
        Trace(
            calls=(
                make_call(0, "Net", (2, 8), Link(-1, 0), Link(-1, 1), output_links=(Link(3, 0),)),
                make_call(1, "Linear", (2, 8), Link(-1, 0), module=1),
                make_call(2, "relu", (2, 8), Link(1, 0)),
                make_call(3, "add", (2, 8), Link(2, 0), Link(-1, 1), arguments=(("alpha", 2),)),
                make_call(4, "zeros", (2, 8)),
            ),
            modules=(ModuleFact(0, ("",), "Net"), ModuleFact(1, ("fc",), "Linear", settings={"out_features": 8})),
        )
    )


def test_a_container_is_no_step(flow: Dataflow) -> None:
    assert [step.type_name for step in flow.steps] == ["Linear", "relu", "add", "zeros"]


def test_a_tensor_is_read_by_steps_and_handed_to_containers(flow: Dataflow) -> None:
    assert [(call.type_name, position) for call, position in flow.reads[Link(-1, 1)]] == [("Net", 1), ("add", 1)]
    assert [call.type_name for call in flow.readers(flow.trace.calls[2])] == ["add"]


def test_what_a_step_made_is_followed_until_a_step_ends_the_way(flow: Dataflow) -> None:
    linear = flow.trace.calls[1]
    assert [call.type_name for call in flow.after(linear)] == ["relu", "add"]
    assert [call.type_name for call in flow.after(linear, until=lambda call: call.type_name == "relu")] == ["relu"]


def test_a_tensor_is_walked_back_to_the_inputs_it_was_made_of(flow: Dataflow) -> None:
    assert [call.type_name for call in flow.before(Link(3, 0))] == ["add", "relu", "Linear"]
    assert [call.type_name for call in flow.before(Link(2, 0), Link(3, 0))] == ["relu", "add", "Linear"]
    assert [call.type_name for call in flow.walk_back(Link(3, 0), 2)] == ["add", "relu"]
    assert flow.sources(Link(3, 0)) == {0, 1}
    assert flow.sources(Link(2, 0)) == {0}
    assert flow.sources(Link(4, 0)) == frozenset()
    assert flow.leads_to(flow.trace.calls[1], Link(3, 0))
    assert not flow.leads_to(flow.trace.calls[3], Link(2, 0))
    assert flow.producer(Link(-1, 0)) is None


def test_the_origin_of_a_dim_is_the_layer_whose_setting_it_is(flow: Dataflow) -> None:
    origin = flow.find_origin(Link(2, 0), (2, 8), -1, ("out_features",))
    assert origin is flow.trace.calls[1]
    assert flow.is_like_input(Link(2, 0), (2, 8))
    assert not flow.is_like_input(Link(4, 0), (2, 8))


def test_a_setting_is_a_modules_or_an_operations_argument(flow: Dataflow) -> None:
    assert flow.setting(flow.trace.calls[1], "out_features") == 8
    assert flow.setting(flow.trace.calls[3], "alpha") == 2
    assert flow.setting(flow.trace.calls[3], "dim", -1) == -1
