"""The parameters that a backward is said to reach are those that a real backward reaches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from modelsummary_ipy.summary import ModelSummary
from modelsummary_ipy.tracing.gradients import find_trained_params
from tests.corpus import training_bugs, training_clean


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (training_bugs.ForgottenDetach, [(4, 16)]),
        (training_bugs.ArgmaxInThePath, [(4, 16)]),
        (training_bugs.ReadByData, [(4, 16)]),
        (training_bugs.LayersUnderNoGrad, [(4, 16)]),
        (training_clean.ItsOwnBackward, [(4, 16)]),
        (training_clean.StraightThrough, [(4, 16)]),
        (training_clean.TargetNetwork, [(4, 16), (4, 16)]),
    ],
)
def test_a_real_backward_reaches_the_same_parameters(make: type[nn.Module], inputs: list[tuple[int, ...]]) -> None:
    model = make()
    trace = ModelSummary(model, inputs).pipeline.traced.trace
    output = model(*map(torch.randn, inputs))
    sum(leaf.sum() for leaf in (output if isinstance(output, tuple) else (output,))).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trace.trained is not None
    assert {trace.params[index].names[0] for index in trace.trained} == reached


def test_an_auxiliary_loss_in_a_module_counts() -> None:
    trace = ModelSummary(training_clean.LossKeptInTheModule(), (4, 16)).pipeline.traced.trace
    assert len(trace.trained or ()) == 6


def test_nothing_is_said_without_autograd_or_of_a_hidden_graph() -> None:
    class Hidden(training_bugs.Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(checkpoint(self.a, x.requires_grad_(), use_reentrant=True))

    assert ModelSummary(Hidden(), (4, 16)).pipeline.traced.trace.trained is None
    with torch.no_grad():
        assert ModelSummary(nn.Linear(16, 2), (4, 16)).pipeline.traced.trace.trained is None


def test_a_very_long_chain_is_not_looked_through() -> None:
    """Its nodes would be freed one in the other: that ended the process at a loop of 6,000 GRU cells."""
    used, unused = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
    numbers = {id(used): 0, id(unused): 1}
    short, long = used * 2, used * 2
    for _ in range(20_000):
        long = long + 1
    assert find_trained_params(short, [], numbers) == {0}
    assert find_trained_params(long, [], numbers) is None
