"""Calls that happen by themselves."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.torch_compat.modules import call_module
from modelsummary_ipy.tracing.module_calls import observe_calls
from modelsummary_ipy.tracing.watch import SeenCall, find_failed_call, note_inputs, watch_calls
from tests.fresh_process import FreshProcesses


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Any, lengths: Any = None, deep: Any = None) -> Any:
        return self.fc(x) if lengths is None else self.fc(x)[:, : int(lengths.max())]


def test_equal_calls_in_a_row_are_one_summary_with_a_count() -> None:
    net = Net()
    with ModelSummary.watch(net) as calls:
        for batch in (3, 3, 3, 1):
            net(torch.zeros(batch, 4))
    assert calls.times == [3, 1]
    assert [made.rows[0].inputs[0].shape for made in calls] == [(3, 4), (1, 4)]
    assert calls.headings() == ["calls 1–3 · 3 × (3, 4):float32", "call 4 (1, 4):float32"]
    assert str(calls).count("fc  Linear") == 2
    assert calls._repr_html_().count("ms-root") >= 2


def test_what_the_block_computes_is_what_it_would_compute_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    x = torch.randn(8, 4)
    state, seed = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    alone = net(x)
    after = {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    torch.set_rng_state(seed)
    with ModelSummary.watch(net) as calls:
        watched = net(x)
    assert torch.equal(alone, watched)
    assert all(torch.equal(after[key], value) for key, value in net.state_dict().items())
    assert len(calls) == 1
    assert nn.Module._compiled_call_impl is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_only_the_outermost_calls_of_the_watched_model_are_seen() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Any, again: bool = True) -> Any:
            return self(self.fc(x), again=False) if again else self.fc(x)

    net, other = Twice(), nn.Linear(4, 4)
    with watch_calls(net) as seen:
        net(other(torch.zeros(1, 4)))
        other(torch.zeros(5, 4))
    assert len(seen) == 1


def test_another_threads_calls_are_not_seen() -> None:
    net = Net()
    with watch_calls(net) as seen:
        thread = threading.Thread(target=net, args=(torch.zeros(2, 4),))
        thread.start()
        thread.join()
    assert seen == []


def test_nothing_of_the_callers_is_kept_alive() -> None:
    net, x = Net(), torch.zeros(1000, 4)
    gone = weakref.ref(x)
    with watch_calls(net) as seen:
        net(x, deep={"a": [x]})
    del x
    gc.collect()
    assert gone() is None
    assert [name for name, _ in seen[0].inputs.leaves()] == ["[0]", "deep['a'][0]"] or len(seen[0].inputs.leaves()) == 2


def test_small_integers_keep_their_values_for_they_decide_sizes() -> None:
    net = Net()
    with ModelSummary.watch(net) as calls:
        net(torch.zeros(3, 4), torch.tensor([1, 2, 1]))
    assert calls[0].error is None
    assert calls[0].rows[0].outputs[0].shape == (3, 2)
    noted = note_inputs((torch.arange(3), torch.zeros(2)), {})
    assert torch.equal(noted.args[0], torch.arange(3))


class ReadsBatch(nn.Module):
    def forward(self, batch: Any) -> Any:
        return batch.ids.sum()


def test_calls_with_objects_and_integers_of_equal_sizes_are_equal() -> None:
    net = ReadsBatch()
    small, large = torch.tensor([[1, 2]]), torch.tensor([[1, 2, 3]])
    with watch_calls(net) as calls:
        for ids in (small, small + 1, large, large.float(), small.float()):
            net(SimpleNamespace(ids=ids))
    assert [call.times for call in calls] == [2, 1, 1, 1]
    with watch_calls(net) as calls:
        net(SimpleNamespace(ids=torch.zeros(0, 2)))
    (seen,) = calls
    assert seen.inputs.args[0].ids.shape == (0, 2)


def test_the_blocks_own_exception_surfaces_and_the_calls_are_there() -> None:
    net = Net()

    def step() -> None:
        net(torch.zeros(2, 4))
        raise KeyError("mine")

    with pytest.raises(KeyError), ModelSummary.watch(net) as calls:
        step()
    assert calls.times == [1]


def test_a_call_that_fails_is_shown_as_it_failed() -> None:
    net = Net()
    with pytest.raises(RuntimeError), ModelSummary.watch(net) as calls:
        net(torch.zeros(2, 5))
    assert calls[0].error is not None
    assert calls[0].error.path == "fc"


def test_a_model_that_was_not_called_says_so() -> None:
    with ModelSummary.watch(Net()) as calls:
        pass
    assert str(calls) == "the model was not called"
    assert "was not called" in calls._repr_html_()


def test_the_outermost_call_is_found_in_a_traceback() -> None:
    net = Net()

    def step(x: Any) -> Any:
        return net(x)

    with pytest.raises(RuntimeError) as caught:
        [step(torch.zeros(1, size)) for size in (4, 7)]
    call = find_failed_call(caught.value)
    assert call is not None
    assert call.model is net
    assert [leaf.shape for _, leaf in call.inputs.leaves()] == [(1, 7)]
    assert find_failed_call(KeyError("x")) is None


def test_options_reach_every_summary() -> None:
    net = Net()
    with ModelSummary.watch(net, mode="eval", ignore=["grown-map"]) as calls:
        net(torch.zeros(2, 4))
    assert not calls[0].pipeline.traced.trace.modules[0].training
    assert net.training


def test_two_asyncio_tasks_each_see_their_own_calls() -> None:
    """Their blocks do not end in the order in which nested ones would."""
    net = Net()

    async def work(rows: int, pauses: int) -> list[int]:
        with ModelSummary.watch(net) as calls:
            for _ in range(3):
                net(torch.zeros(rows, 4))
                for _ in range(pauses):
                    await asyncio.sleep(0)
        assert calls[0].rows[0].inputs[0].shape == (rows, 4)
        return calls.times

    async def both() -> list[list[int]]:
        return await asyncio.gather(work(2, 1), work(5, 3))

    assert asyncio.run(both()) == [[3], [3]]


def test_a_task_that_outlives_its_block_is_observed_no_longer() -> None:
    net = Net()

    async def call_later() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        net(torch.zeros(2, 4))

    async def run() -> list[SeenCall]:
        with watch_calls(net) as seen:
            task = asyncio.create_task(call_later())
            net(torch.zeros(1, 4))
        await task
        return seen

    assert [call.times for call in asyncio.run(run())] == [1]


def test_blocks_nest_and_each_sees_the_calls() -> None:
    one, two = Net(), Net()
    with watch_calls(one) as outer, watch_calls(two) as inner, watch_calls(one) as again:
        one(torch.zeros(1, 4))
        two(torch.zeros(2, 4))
    assert [len(seen) for seen in (outer, inner, again)] == [1, 1, 1]


def test_what_a_block_referred_to_is_let_go_also_by_a_task_that_goes_on() -> None:
    class Kept:
        pass

    async def run() -> None:
        kept = Kept()
        gone = weakref.ref(kept)
        with observe_calls(lambda module, args, kwargs, kept=kept: call_module(module, *args, **kwargs)):
            task = asyncio.create_task(asyncio.sleep(0.01))
        del kept
        gc.collect()
        assert gone() is None
        await task

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit:FutureWarning")  # torch's own
@pytest.mark.parametrize("transform", ["deepcopy", "pickle", "trace", "export", "fx"])
def test_a_model_is_transformed_as_before_after_a_summary(transform: str) -> None:
    net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4)
    ModelSummary(net, (2, 4))
    made: Any = {
        "deepcopy": lambda: copy.deepcopy(net),
        "pickle": lambda: pickle.loads(pickle.dumps(net)),
        "trace": lambda: torch.jit.trace(net, x),
        "export": lambda: torch.export.export(net, (x,)).module(),
        "fx": lambda: torch.fx.symbolic_trace(net),
    }[transform]()
    assert torch.equal(made(x), net(x))


def test_a_model_is_compiled_as_before_after_a_summary(fresh: FreshProcesses) -> None:
    """In a process of its own: the compiler remembers which code it skipped, whoever made it skip."""
    code = """
import torch
from torch import nn
from modelsummary_ipy import ModelSummary

net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4)
for size in (2, 3):
    str(ModelSummary(net, (size, 4)))
    assert torch.equal(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))
compiled = torch.compile(net, backend="eager", fullgraph=True)
compiled(x)
str(ModelSummary(compiled, (2, 4)))
assert torch.equal(compiled(x), net(x))
"""
    done = fresh.run(code)
    assert done.returncode == 0, done.stderr
