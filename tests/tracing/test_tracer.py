"""Rows equal what plain forward hooks see of a real run, for small models of every kind, in both engines."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.tracing.progress import TraceCancelled
from tests.models import CASES, Case, by_name
from tests.reference import list_module_calls
from tests.traced import hook_case, trace_case

EVERY_KIND = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def summarize(case: Case, engine: Any = "auto") -> ModelSummary:
    return trace_case(case.name, engine).ms


@EVERY_KIND
@pytest.mark.parametrize("engine", ["auto", "real"])
def test_rows_equal_what_hooks_see_of_a_real_run(case: Case, engine: str) -> None:
    ms = trace_case(case.name, engine).ms
    assert ms.error is None
    assert ms.engine == ("real" if case.needs_values or engine == "real" else "fake")
    hooked = hook_case(case.name)
    assert list_module_calls(ms.pipeline.traced.trace, ms.rows) == hooked.calls
    assert ms.total_params == hooked.num_params


@EVERY_KIND
def test_a_called_row_is_named_as_named_modules_names_it(case: Case) -> None:
    ms = trace_case(case.name, "auto").ms
    names = dict(case.build().named_modules(remove_duplicate=False))
    for row in ms.rows:
        if row.kind == "module" and row.module is not None and ms.pipeline.traced.trace.modules[row.module].paths:
            assert row.path in names
            before = type(names[row.path])
            usual = (before.__name__, getattr(names[row.path], "original_name", ""), _become(before))
            assert row.type_name in usual or (
                before is nn.Module and row.type_name in ("Linear (exported)", "LayerNorm (exported)")
            )


def _become(kind: type) -> str:
    return getattr(getattr(kind, "cls_to_become", None), "__name__", "")


@EVERY_KIND
def test_parents_come_before_children_and_depth_counts_them(case: Case) -> None:
    for row in (rows := trace_case(case.name, "auto").ms.rows):
        if row.parent is None:
            assert (row.index, row.depth) == (0, 0)
        else:
            assert row.parent < row.index
            assert row.depth == rows[row.parent].depth + 1


class _WithoutGrad(nn.Module):
    """It must be run under ``no_grad``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.layer(x).numpy())


@pytest.mark.parametrize("engine", ["auto", "real"])
def test_what_runs_without_grad_only_is_run_without_it(engine: Any) -> None:
    ms = ModelSummary(_WithoutGrad(), (2, 8), engine=engine)
    assert ms.error is None
    assert ms.engine == "real"
    assert [row.path for row in ms.rows if row.kind == "module"] == ["", "layer"]


def test_a_real_run_says_why_fakes_did_not_do() -> None:
    ms = summarize(by_name("Items"))
    assert ms.engine == "real"
    assert ".item()" in ms.engine_reason
    assert "models.py" in ms.engine_reason


def test_the_fake_engine_stops_where_values_are_needed_and_keeps_the_rows_so_far() -> None:
    ms = summarize(by_name("Routed"), "fake")
    assert ms.engine == "fake"
    assert ms["gate"].status == "ran"
    assert ms["experts.0"].status == "unreached"


def test_the_path_of_a_shared_module_is_the_one_below_its_caller() -> None:
    ms = summarize(by_name("SharedModule"))
    called = [(row.path, row.call_index) for row in ms.rows if row.type_name == "Linear"]
    assert called == [("left.inner.0", 0), ("right.inner.0", 1)]


def test_a_module_called_three_times_is_three_rows() -> None:
    rows = [row for row in summarize(by_name("Reused")).rows if row.path == "layer" and row.kind == "module"]
    assert [row.call_index for row in rows] == [0, 1, 2]
    assert {row.num_params for row in rows} == {72}


def test_a_module_made_in_the_forward_is_named_by_where_and_what_it_is() -> None:
    ms = summarize(by_name("MadeInForward"))
    made = [
        (row.path, row.num_params) for row in ms.rows if row.path.startswith("(Sequential)") and row.kind == "module"
    ]
    assert made == [("(Sequential)", 54), ("(Sequential).0", 54), ("(Sequential).1", 0)]
    assert ms.total_params == 72  # what the model holds when no forward runs


def test_an_unregistered_layer_is_named_by_what_holds_it_and_not_counted_in_the_total() -> None:
    ms = summarize(by_name("InContainers"))
    assert ms["listed[1]"].own_params == 72
    assert ms["named['a']"].outputs[0].shape == (2, 8)
    assert ms["slotted.layer"].status == ms["plain.layer"].status == "ran"
    assert ms.total_params == 18


def test_a_layer_used_by_another_method_counts_its_parent_as_uncalled() -> None:
    ms = summarize(by_name("OtherMethod"))
    assert ms["encoder.layer"].status == "ran"
    assert ms["encoder"].status == "uncalled"


def test_a_lazy_layer_is_counted_as_it_became_and_stays_lazy_in_the_users_model() -> None:
    case = by_name("lazy")
    model, (args, _) = case.build(), case.inputs()
    ms = ModelSummary(model, args)
    conv = ms["0"]
    assert (conv.type_name, conv.own_params, conv.outputs[0].shape) == ("Conv2d", 224, (2, 8, 10, 10))
    assert ms.pipeline.traced.trace.params[0].lazy is False
    assert type(model[0]) is nn.LazyConv2d
    assert model[0].has_uninitialized_params()


def test_a_lazy_layer_without_an_input_is_shown_to_be_lazy() -> None:
    ms = ModelSummary(nn.Sequential(nn.LazyLinear(3)), engine="static")
    assert all(param.lazy for param in ms.pipeline.traced.trace.params)
    assert ms.total_params == 0


def test_operations_are_rows_with_the_module_that_wrote_them() -> None:
    ms = summarize(by_name("Residual"))
    adds = [(row.path, row.depth) for row in ms.rows if row.type_name == "add"]
    assert adds == [("blocks.0", 3), ("blocks.1", 3)]
    flatten = next(row for row in ms.rows if row.type_name == "flatten")
    assert (flatten.inputs[0].shape, flatten.outputs[0].shape) == ((2, 8, 1, 1), (2, 8))


def test_what_the_forward_prints_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    case = by_name("Prints")
    ModelSummary(case.build(), case.inputs()[0])
    assert capsys.readouterr().out == "in forward (2, 8)\n"


def test_what_the_forward_prints_is_printed_once_by_a_real_run(capsys: pytest.CaptureFixture[str]) -> None:
    class PrintsAndAsks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            print("asked")
            return x * x.max().item()

    ms = ModelSummary(PrintsAndAsks(), torch.ones(2))
    assert ms.engine == "real"
    assert capsys.readouterr().out == "asked\n"


def test_a_failed_forward_keeps_the_rows_before_it() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 2), nn.ReLU())
    for engine in ("auto", "real"):
        ms = ModelSummary(net, (3, 4), engine=engine)
        assert ms.error is not None
        assert [(row.path, row.status) for row in ms.rows] == [
            ("", "failed"), ("0", "ran"), ("1", "failed"), ("2", "unreached"),
        ]  # fmt: skip


def test_an_exception_of_the_models_own_is_the_cause() -> None:
    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    ms = ModelSummary(Refuses(), (2, 2))
    assert ms.error is not None
    assert isinstance(ms.error.__cause__, ValueError)


def test_an_observer_gets_every_call_and_may_cancel() -> None:
    heard: list[tuple[int, str]] = []
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    ModelSummary(model, (1, 2), observer=lambda count, path: heard.append((count, path)))
    assert [path for _, path in heard] == ["", "0", "1"]
    with pytest.raises(TraceCancelled):
        ModelSummary(model, (1, 2), observer=lambda count, path: path == "0")


def test_grad_mode_and_autocast_of_the_caller_are_the_models() -> None:
    model = nn.Linear(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ModelSummary(model, (2, 4)).rows[0].outputs[0].dtype == "bfloat16"
    assert ModelSummary(model, (2, 4)).rows[0].outputs[0].dtype == "float32"
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            ms = ModelSummary(model, (2, 4))
        assert ms.error is None
        assert not ms.pipeline.traced.trace.calls[0].grad


def test_a_summary_inside_a_forward_is_a_summary_of_its_own() -> None:
    inner = nn.Linear(3, 3)
    found: queue.SimpleQueue[ModelSummary] = queue.SimpleQueue()  # a list would be put back as it was

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            if found.empty():
                found.put(ModelSummary(inner, (5, 3)))
            return self.layer(x)

    ms = ModelSummary(Looks(), (2, 3))
    assert [row.path for row in ms.rows if row.kind == "module"] == ["", "layer"]
    assert found.get().rows[0].outputs[0].shape == (5, 3)


def test_two_traces_at_once_do_not_observe_each_other() -> None:
    models = [nn.Sequential(*(nn.Linear(size, size) for _ in range(20))) for size in (2, 3)]
    summaries: dict[int, list[ModelSummary]] = {0: [], 1: []}

    def work(index: int) -> None:
        for _ in range(5):
            summaries[index].append(ModelSummary(models[index], (1, index + 2)))

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        assert len(summaries[index]) == 5
        for ms in summaries[index]:
            assert [row.outputs[0].shape for row in ms.rows] == [(1, index + 2)] * 21


def test_a_model_nested_deeper_than_pythons_stack_allows_twice_is_traced() -> None:
    model: nn.Module = nn.Linear(2, 2)
    for _ in range(200):
        model = nn.Sequential(model)
    model(torch.ones(1, 2))  # which is about as deep as a real run can go
    ms = ModelSummary(model, (1, 2))
    assert ms.error is None
    assert ms.rows[-1].depth == 200


def test_dims_of_size_zero_and_batch_of_none_pass() -> None:
    ms = ModelSummary(nn.Linear(4, 2), torch.ones(0, 4))
    assert ms.rows[0].outputs[0].shape == (0, 2)


def test_an_observer_of_progress_gets_every_trace_and_may_end_it() -> None:
    from modelsummary_ipy.tracing.progress import observing_progress

    ms = ModelSummary(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), (2, 1, 16, 16))
    heard: list[str] = []

    def listen(count: int, path: str) -> bool:
        heard.append(path)
        return len(heard) == 8

    with observing_progress(listen), pytest.raises(TraceCancelled):
        ms.formulas  # traces at other sizes
    assert heard == ["", "0", "1"] * 2 + ["", "0"]
    assert ms.formulas[0] == (("B", "4", "H - 2", "W - 2"),)
    with observing_progress(listen):
        pass
    assert len(heard) == 8


class Augmented(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x += 1
        x ^= 1
        x <<= 1
        return x


def test_an_augmented_assignment_is_its_operation_in_place() -> None:
    calls = ModelSummary(Augmented(), torch.ones(3, dtype=torch.int64)).pipeline.traced.trace.calls[2:]
    assert [(call.type_name, call.inplace) for call in calls] == [("add_", True), ("xor_", True), ("lshift_", True)]


def test_an_index_that_an_offset_brings_beyond_the_table_is_found() -> None:
    class Offsets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("offsets", torch.tensor([3, 5]).cumsum(0))
            self.table = nn.Embedding(8, 4)

        def forward(self, ids: Tensor) -> Tensor:
            return self.table(ids + self.offsets)

    error = ModelSummary(Offsets(), torch.tensor([[0, 1], [2, 0]])).error
    assert error is not None
    assert "the table has rows 0 … 7" in error.reason
    with pytest.raises(IndexError):
        Offsets()(torch.tensor([[0, 1], [2, 0]]))
    assert ModelSummary(Offsets(), torch.tensor([[0, -1], [2, -2]])).error is None


def test_labels_that_are_no_classes_are_found() -> None:
    class Stars(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 5)

        def forward(self, x: Tensor, stars: Tensor) -> Tensor:
            return F.cross_entropy(self.head(x), stars)

    x, stars = torch.randn(6, 4), torch.tensor([1, 5, 3, 2, 4, 5])
    error = ModelSummary(Stars(), (x, stars)).error
    assert error is not None
    assert error.reason == "cross_entropy of 5 classes takes labels 0 … 4, got 5: they are counted from 1 to 5"
    assert error.fix == "return F.cross_entropy(self.head(x), stars - 1)"
    with pytest.raises(IndexError):
        Stars()(x, stars)
    for fitting in (stars - 1, torch.tensor([0, 4, -100, 2, 1, 0])):
        assert ModelSummary(Stars(), (x, fitting)).error is None
