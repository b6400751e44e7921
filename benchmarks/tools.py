"""What is measured: ours, the peers, and the bare forward with fake tensors below which no tracer can go."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.cases import Case

#: Prepares a tool for a case and returns what is timed.
Tool = Callable[[nn.Module, Case], Callable[[], object]]


def rows(model: nn.Module, case: Case) -> Callable[[], object]:
    """Ours: every row with its sizes and parameters."""
    from modelsummary_ipy import ModelSummary

    data = case.make_input()
    return lambda: ModelSummary(model, input_data=data, engine="fake").rows


def everything(model: nn.Module, case: Case) -> Callable[[], object]:
    """Ours: rows, operations, MACs, bytes and flags: all of the first table."""
    from modelsummary_ipy import ModelSummary

    data = case.make_input()

    def run() -> object:
        summary = ModelSummary(model, input_data=data, engine="fake")
        return summary.rows, summary.costs, summary.flags

    return run


def step(model: nn.Module, case: Case) -> Callable[[], object]:
    """Ours: a training step with AdamW, which is shown where it is asked for."""
    from modelsummary_ipy import ModelSummary

    data = case.make_input()
    return lambda: ModelSummary(model, input_data=data, engine="fake").memory


def page(model: nn.Module, case: Case) -> Callable[[], object]:
    """Ours: the whole displayed page, formulas and constraints included."""
    from modelsummary_ipy import ModelSummary

    data = case.make_input()
    return lambda: ModelSummary(model, input_data=data, engine="fake").to_html()


def bare(model: nn.Module, case: Case) -> Callable[[], object]:
    """Torch itself, asked for shapes: the forward with fakes made anew, without grad; all else is compared with it."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    data = case.make_input()

    def run() -> object:
        mode = FakeTensorMode()
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        fakes = {name: mode.from_tensor(tensor) for name, tensor in tensors.items()}
        with mode, torch.no_grad():
            return torch.func.functional_call(model, fakes, (mode.from_tensor(data),))

    return run


def floor(model: nn.Module, case: Case) -> Callable[[], object]:
    """The forward itself with fake tensors, made beforehand: no tracer can be faster with torch's own fakes."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode()
    fake = copy.deepcopy(model)
    for module in fake.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    store[name] = mode.from_tensor(tensor)
    with mode:
        data = case.make_input()

    def run() -> object:
        with mode:
            return fake(data)

    return run


def forward(model: nn.Module, case: Case) -> Callable[[], object]:
    """The model's own forward, for real (on ``meta`` if it is there)."""
    data = case.make_input()

    def run() -> object:
        with torch.no_grad():
            return model(data)

    return run


def torchinfo(model: nn.Module, case: Case) -> Callable[[], object]:
    """The peer that prints text."""
    from torchinfo import summary

    data = case.make_input()
    return lambda: summary(model, input_data=data, verbose=0, depth=99)


def torchlens(model: nn.Module, case: Case) -> Callable[[], object]:
    """The peer that keeps every tensor."""
    import torchlens as peer

    data = case.make_input()
    return lambda: peer.trace(model, data)


def torchview(model: nn.Module, case: Case) -> Callable[[], object]:
    """The peer that draws graphs."""
    from torchview import draw_graph

    data = case.make_input()
    return lambda: draw_graph(model, input_data=data, depth=9, device=case.device)


TOOLS: dict[str, Tool] = {
    "bare": bare,
    "floor": floor,
    "rows": rows,
    "everything": everything,
    "page": page,
    "step": step,
    "forward": forward,
    "torchinfo": torchinfo,
    "torchview": torchview,
    "torchlens": torchlens,
}

warnings.filterwarnings("ignore", module="torch(lens|view|info)")
